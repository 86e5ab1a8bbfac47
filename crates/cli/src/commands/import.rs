//! `corten import`

use std::io::{self, Read};

use crate::command::{Arguments, Command, value};
use crate::commands::load::open;
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::progress;
use crate::session::Session;
use crate::streams::Sink;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image from a tar archive of a file system",
    flags: &[&[
        value("change", "list", "Apply a Dockerfile instruction to the image").short('c'),
        value("message", "string", "Commit message of the image").short('m'),
        value("platform", "string", "Platform of the image"),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let source = &matches.arguments[0];
    let is_url = ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme));
    let upload: Option<Box<dyn Read + Send>> = match source.as_str() {
        "-" => Some(Box::new(io::stdin())),
        _ if is_url => None,
        path => Some(open(path)?),
    };
    let mut request = session
        .client()?
        .post("/images/create")
        .query("fromSrc", if is_url { source } else { "-" })
        .query_if("repo", matches.arguments.get(1).map(String::as_str))
        .query_if("message", matches.get("message"))
        .query_if("platform", matches.get("platform"));
    for change in matches.all("change") {
        request = request.query("changes", change);
    }
    let response = match upload {
        Some(source) => request.header("Content-Type", "application/x-tar").upload(source)?,
        None => request.send()?,
    };
    progress::show(response, Some(Sink::Stdout))
}

//! `corten load`

use std::fs::File;
use std::io::{self, Read};

use crate::command::{Arguments, Command, switch, value};
use crate::commands::pull::platform_json;
use crate::failure::{Failure, Outcome, plain_io};
use crate::matches::Matches;
use crate::progress;
use crate::session::Session;
use crate::streams::Sink;
use crate::terminal;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Load images from a tar archive",
    flags: &[&[
        value("input", "string", "Read this file instead of STDIN").short('i'),
        value("platform", "string", "Load only this platform's image (e.g., \"linux/amd64\")"),
        switch("quiet", "Don't show progress").short('q'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let input = match matches.get("input").filter(|path| *path != "-") {
        Some(path) => open(path)?,
        None if terminal::stdin_is_terminal() => {
            return Err(Failure::message("requested load from stdin, but stdin is empty"));
        }
        None => Box::new(io::stdin()),
    };
    let platform = matches.get("platform").map(platform_json).transpose()?;
    // Progress with numbers is for terminals alone; elsewhere the daemon is spared making it.
    let quiet = matches.is_on("quiet") || !terminal::stdout_is_terminal();
    let response = session
        .client()?
        .post("/images/load")
        .flag("quiet", quiet)
        .query_if("platform", platform.as_deref())
        .header("Content-Type", "application/x-tar")
        .upload(input)?;
    progress::show(response, Some(Sink::Stdout))
}

/// A file to upload.
pub(super) fn open(path: &str) -> Outcome<Box<dyn Read + Send>> {
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::message(format!("open {path}: {}", plain_io(&error)))),
    }
}

//! `corten top`

use serde::Deserialize;

use crate::command::{Arguments, Command};
use crate::commands::segment;
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Sink, write_plain};
use crate::table;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container top", "top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Show the processes of a container",
    flags: &[],
    arguments: Arguments::AtLeast(1),
    interspersed: false,
    run,
};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Processes {
    titles: Vec<String>,
    processes: Vec<Vec<String>>,
}

fn run(session: &Session, matches: &Matches) -> Outcome {
    let options = matches.arguments[1..].join(" ");
    let answer: Processes = session
        .client()?
        .get(&format!("/containers/{}/top", segment(&matches.arguments[0])))
        .query_if("ps_args", Some(&options))
        .send()?
        .json()?;
    let mut text = String::new();
    for line in std::iter::once(&answer.titles).chain(&answer.processes) {
        text.push_str(&line.join("\t"));
        text.push('\n');
    }
    write_plain(Sink::Stdout, table::align(&text).as_bytes())
}

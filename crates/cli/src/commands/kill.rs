//! `corten kill`

use crate::command::{Arguments, Command, value};
use crate::commands::{for_each, segment};
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container kill", "kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Send running containers a signal, SIGKILL unless told otherwise",
    flags: &[&[value("signal", "string", "Signal to send").short('s')]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    for_each(&matches.arguments, |name| {
        client.post(&format!("/containers/{}/kill", segment(name))).query_if("signal", matches.get("signal")).start()
    })
}

//! `corten restart`

use crate::command::{Arguments, Command, value};
use crate::commands::{for_each, segment};
use crate::container::signed;
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container restart", "restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop containers and start them again",
    flags: &[&[
        value("signal", "string", "Signal to stop with").short('s'),
        value("timeout", "int", "Seconds to wait before the container is killed").short('t').check(signed),
        value("time", "int", "Seconds to wait before the container is killed").check(signed).alias_of("timeout"),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    for_each(&matches.arguments, |name| {
        client
            .post(&format!("/containers/{}/restart", segment(name)))
            .query_if("signal", matches.get("signal"))
            .query_if("t", matches.get("timeout"))
            .start()
    })
}

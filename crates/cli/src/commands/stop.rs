//! `corten stop`

use crate::command::{Arguments, Command, Flag, value};
use crate::commands::{for_each, segment};
use crate::container::signed;
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop running containers",
    flags: &[STOPPING],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

/// The flags of what stops containers.
pub(crate) const STOPPING: &[Flag] = &[
    value("signal", "string", "Signal to stop with").short('s'),
    value("timeout", "int", "Seconds to wait before the container is killed").short('t').check(signed),
    value("time", "int", "Seconds to wait before the container is killed").check(signed).alias_of("timeout"),
];

fn run(session: &Session, matches: &Matches) -> Outcome {
    each(session, matches, "stop")
}

/// Stops each container named; `action` is the operation's last path segment.
pub(crate) fn each(session: &Session, matches: &Matches, action: &str) -> Outcome {
    let client = session.client()?;
    for_each(&matches.arguments, |name| {
        client
            .post(&format!("/containers/{}/{action}", segment(name)))
            .query_if("signal", matches.get("signal"))
            .query_if("t", matches.get("timeout"))
            .start()
    })
}

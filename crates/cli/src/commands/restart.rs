//! `corten restart`

use crate::command::{Arguments, Command};
use crate::commands::stop::{STOPPING, each};
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container restart", "restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop containers and start them again",
    flags: &[STOPPING],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    each(session, matches, "restart")
}

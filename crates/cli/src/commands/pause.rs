//! `corten pause` and `corten unpause`

use crate::command::{Arguments, Command};
use crate::commands::{for_each, segment};
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static PAUSE: Command = Command {
    spellings: &["container pause", "pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Freeze all processes of containers",
    flags: &[],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| request_each(session, matches, "pause"),
};

pub(crate) static UNPAUSE: Command = Command {
    spellings: &["container unpause", "unpause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Let the processes of frozen containers go on",
    flags: &[],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| request_each(session, matches, "unpause"),
};

fn request_each(session: &Session, matches: &Matches, action: &str) -> Outcome {
    let client = session.client()?;
    for_each(&matches.arguments, |name| client.post(&format!("/containers/{}/{action}", segment(name))).start())
}

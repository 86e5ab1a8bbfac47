//! `corten rename`

use crate::args::report;
use crate::command::{Arguments, Command};
use crate::commands::segment;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container rename", "rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Give a container another name",
    flags: &[],
    arguments: Arguments::Exactly(2),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let [old, new] = [matches.arguments[0].trim(), matches.arguments[1].trim()];
    if old.is_empty() || new.is_empty() {
        return Err(Failure::message("Error: Neither old nor new names may be empty"));
    }
    let request = session.client()?.post(&format!("/containers/{}/rename", segment(old))).query("name", new);
    request.send().and_then(|response| response.discard()).map_err(|error| {
        report(&error.to_string());
        Failure::message(format!("Error: failed to rename container named {old}"))
    })
}

//! `corten rm`

use crate::args::report;
use crate::command::{Arguments, Command, switch};
use crate::commands::{print_line, segment};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove containers",
    flags: &[&[
        switch("force", "Kill running containers first").short('f'),
        switch("link", "Remove a link instead of a container").short('l'),
        switch("volumes", "Remove the containers' anonymous volumes too").short('v'),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let pending: Vec<_> = matches
        .arguments
        .iter()
        .map(|name| match name.trim_matches('/') {
            "" => Err(corten_client::Error::Endpoint("Container name cannot be empty".to_owned())),
            name => client
                .delete(&format!("/containers/{}", segment(name)))
                .flag("v", matches.is_on("volumes"))
                .flag("link", matches.is_on("link"))
                .flag("force", matches.is_on("force"))
                .start(),
        })
        .collect();
    let mut failed = false;
    for (name, pending) in matches.arguments.iter().zip(pending) {
        match pending.and_then(|pending| pending.receive()?.discard()) {
            Ok(()) => print_line(name)?,
            Err(error) => {
                report(&error.to_string());
                // What is not there is as wanted by those who force.
                failed |= !(matches.is_on("force") && error.is_not_found());
            }
        }
    }
    if failed { Err(Failure::Status(1)) } else { Ok(()) }
}

//! `corten wait`

use corten_api_types::WaitResponse;

use crate::args::report;
use crate::command::{Arguments, Command};
use crate::commands::{print_line, segment};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container wait", "wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Wait until containers stop, and print their exit codes",
    flags: &[],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let mut failed = false;
    for name in &matches.arguments {
        let answer = client.post(&format!("/containers/{}/wait", segment(name))).send().and_then(|it| it.json());
        match answer {
            Ok(WaitResponse { error: Some(error), .. }) if !error.message.is_empty() => {
                report(&error.message);
                failed = true;
            }
            Ok(answer) => print_line(answer.status_code)?,
            Err(error) => {
                report(&error.to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Status(1)) } else { Ok(()) }
}

//! `corten manifest rm`

use super::normalized;
use super::store::Store;
use crate::args::report;
use crate::command::{Arguments, Command};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["manifest rm"],
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Forget manifest lists of this machine",
    flags: &[],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let store = Store::of(session);
    let remove = |name: &String| {
        let list = normalized(name)?;
        // A list that can't be read is left to whoever can tell what it is.
        store.list(&list)?;
        store.remove(&list)
    };
    let failures: Vec<Failure> = matches.arguments.iter().filter_map(|name| remove(name).err()).collect();
    failures.iter().for_each(|failure| report(&failure.to_string()));
    if failures.is_empty() { Ok(()) } else { Err(Failure::Status(1)) }
}

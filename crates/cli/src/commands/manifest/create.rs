//! `corten manifest create`

use corten_base::{InvalidReference, Reference};

use super::registry::Registry;
use super::store::Store;
use super::{INSECURE, normalized};
use crate::command::{Arguments, Command, switch};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["manifest create"],
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Put a manifest list together on this machine, to be annotated and pushed",
    flags: &[&[switch("amend", "Add to a manifest list that is there").short('a'), INSECURE]],
    arguments: Arguments::AtLeast(2),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let (name, images) = matches.arguments.split_first().expect("two arguments at least were asked for");
    let list = normalized(name)
        .map_err(|error| Failure::message(format!("error parsing name for manifest list {name}: {error}")))?;
    let store = Store::of(session);
    if store.find_list(&list)?.is_some() && !matches.is_on("amend") {
        return Err(Failure::message("refusing to amend an existing manifest list with no --amend flag"));
    }
    let images: Vec<Reference> =
        images.iter().map(|image| normalized(image)).collect::<Result<_, InvalidReference>>()?;
    let registry = Registry::new(session, matches.is_on("insecure"), &images.iter().collect::<Vec<_>>())?;
    for image in &images {
        // What is there has been annotated, maybe. Old files lack the bytes.
        let entry = match store.find(&list, image)?.filter(|entry| !entry.raw.is_empty()) {
            Some(entry) => entry,
            None => registry.image(&registry.get(image)?)?,
        };
        store.save(&list, image, &entry)?;
    }
    print_line(format_args!("Created manifest list {list}"))
}

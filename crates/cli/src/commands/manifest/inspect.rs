//! `corten manifest inspect`

use corten_base::Reference;

use super::entry::Entry;
use super::list::List;
use super::registry::Registry;
use super::store::Store;
use super::{INSECURE, normalized};
use crate::command::{Arguments, Command, switch};
use crate::commands::print_line;
use crate::failure::Outcome;
use crate::json_text::indent;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["manifest inspect"],
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Show an image's manifest, or a manifest list",
    flags: &[&[INSECURE, switch("verbose", "Show layers and platform too").short('v')]],
    arguments: Arguments::Between(1, 2),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let is_verbose = matches.is_on("verbose");
    let reference = normalized(&matches.arguments[matches.arguments.len() - 1])?;
    let store = Store::of(session);
    if let [list, _] = &matches.arguments[..] {
        return show(&store.get(&normalized(list)?, &reference)?, is_verbose);
    }
    // A list of this machine goes first; one that can't be read does not hide the registry's.
    if let Ok(Some(list)) = store.find_list(&reference) {
        return show_list(&reference, &list, is_verbose);
    }
    let registry = Registry::new(session, matches.is_on("insecure"), &[&reference])?;
    let document = registry.get(&reference)?;
    if document.is_list() {
        return show_list(&reference, &registry.images(&document)?, is_verbose);
    }
    show(&registry.image(&document)?, is_verbose)
}

fn show(entry: &Entry, is_verbose: bool) -> Outcome {
    let text = entry.text();
    print_line(indent(if is_verbose { &text } else { entry.payload() }, "\t"))
}

fn show_list(reference: &Reference, list: &[Entry], is_verbose: bool) -> Outcome {
    if !is_verbose {
        return print_line(List::of(reference, list)?.text());
    }
    let texts: Vec<String> = list.iter().map(Entry::text).collect();
    print_line(indent(&format!("[{}]", texts.join(",")), "\t"))
}

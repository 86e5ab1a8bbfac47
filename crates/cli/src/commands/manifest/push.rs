//! `corten manifest push`

use corten_base::{Digest, Reference};

use super::entry::Entry;
use super::list::List;
use super::registry::Registry;
use super::store::Store;
use super::{INSECURE, normalized};
use crate::command::{Arguments, Command, switch};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["manifest push"],
    usage: "[OPTIONS] MANIFEST_LIST",
    about: "Store a manifest list in a registry",
    flags: &[&[INSECURE, switch("purge", "Forget the list on this machine afterwards").short('p')]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

/// An image's manifest on its way to the list's repository.
struct Copied<'a> {
    entry: &'a Entry,
    reference: Reference,
    bytes: Vec<u8>,
    blobs: Vec<Digest>,
}

fn run(session: &Session, matches: &Matches) -> Outcome {
    let target = normalized(&matches.arguments[0])?;
    let store = Store::of(session);
    let entries = store.list(&target)?;
    if entries.is_empty() {
        return Err(Failure::message(format!("{target} not found")));
    }
    entries.iter().try_for_each(has_platform)?;
    let list = List::of(&target, &entries)?;
    let elsewhere = entries.iter().filter(|entry| entry.reference.path() != target.path());
    let copied: Vec<Copied<'_>> = elsewhere.map(|entry| Copied::of(entry, &target)).collect::<Outcome<_>>()?;
    let registry = Registry::new(session, matches.is_on("insecure"), &[&target])?;
    copied.iter().try_for_each(|copied| copied.mount_blobs(&registry, &target))?;
    for Copied { entry, reference, bytes, .. } in copied {
        let digest = registry.put(&reference, entry.media_type(), bytes)?;
        print_line(format_args!("Pushed ref {reference} with digest: {digest}"))?;
    }
    print_line(registry.put(&target, list.media_type, list.text().into_bytes())?)?;
    if matches.is_on("purge") { store.remove(&target) } else { Ok(()) }
}

fn has_platform(entry: &Entry) -> Outcome {
    let platform = entry.descriptor.platform.as_ref();
    match platform.filter(|platform| !platform.architecture.is_empty() && !platform.os.is_empty()) {
        Some(_) => Ok(()),
        None => Err(Failure::message(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            entry.reference
        ))),
    }
}

impl<'a> Copied<'a> {
    fn of(entry: &'a Entry, target: &Reference) -> Outcome<Copied<'a>> {
        let blobs = entry.blobs()?;
        let blobs = std::iter::once(blobs.config).chain(blobs.layers).map(|blob| blob.digest).collect();
        let reference = target.with_digest(entry.descriptor.digest.clone());
        Ok(Copied { entry, reference, bytes: entry.bytes()?, blobs })
    }

    /// Has the registry take the blobs over. Windows' base layers are in no registry, and need not be.
    fn mount_blobs(&self, registry: &Registry<'_>, target: &Reference) -> Outcome {
        let from = self.entry.reference.path();
        let is_windows = self.entry.descriptor.platform.as_ref().is_some_and(|platform| platform.os == "windows");
        for blob in &self.blobs {
            if !registry.mount(target, from, blob)? && !is_windows {
                return Err(Failure::message(format!("error mounting {from}@{blob} to {target}")));
            }
        }
        Ok(())
    }
}

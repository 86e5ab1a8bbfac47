//! `corten manifest annotate`, `create`, `inspect`, `push` and `rm`: lists of manifests that are put together on this machine
//! and stored in a registry. No daemon is asked; texts, files and exit codes are those of Docker's client.

use corten_base::{InvalidReference, Reference};

use crate::command::{Flag, switch};

pub(crate) mod annotate;
pub(crate) mod create;
mod entry;
pub(crate) mod inspect;
mod list;
pub(crate) mod push;
mod registry;
pub(crate) mod rm;
mod store;

const INSECURE: Flag = switch("insecure", "Allow a registry without a valid certificate or without TLS");

/// A reference as people write it, with the tag `latest` where it has neither tag nor digest.
fn normalized(text: &str) -> Result<Reference, InvalidReference> {
    Reference::parse_normalized(text).map(Reference::with_default_tag)
}

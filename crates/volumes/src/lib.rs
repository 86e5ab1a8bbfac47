//! Named volumes, mount sources, ownership, copy-up.
//!
//! A volume is a directory that outlives containers, a record of it, and perhaps a file system mounted there while containers
//! use it (`type`, `device`, `o`).
//!
//! ```text
//! <data root>/volumes/<name>/_data        the content; what containers see
//!                     <name>/filling      there while an image's content is being copied into it
//!             volumes/.removing-<name>    a volume on its way out; swept at the next start
//! volumes_volumes (namespace, name) -> record (JSON of `Volume`)
//! ```
//!
//! A directory without a record is taken for a volume at the next start, as Docker's local driver does: content is never
//! dropped because the records were lost.

mod bind;
mod content;
mod copy;
mod driver;
mod error;
mod model;
mod records;
mod volumes;

pub use bind::{MountSource, MountSpec, Propagation, clean, parse_bind, parse_volumes_from};
pub use error::{Error, Result};
pub use model::{ANONYMOUS_LABEL, CreateVolume, Filters, Volume};
pub use records::SCHEMA;
pub use volumes::Volumes;

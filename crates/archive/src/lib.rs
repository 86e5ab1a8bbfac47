//! Layers: apply and diff, whiteouts, hostile tars.
//!
//! Three things live here, all plain synchronous code over `Read` and `Write`:
//!
//! - [`Reader`] and [`Writer`]: tar as streams of entries (ustar, PAX, GNU long names, GNU sparse files).
//! - [`apply()`]: extracts a layer's tar into the upper directory of an overlay, turning whiteouts into overlay's form and
//!   computing the diff id on the way.
//! - [`verify()`]: whether an extracted layer is still what its tar says.
//! - [`decompress()`]: recognises gzip, zstd, bzip2 and xz by their first bytes.
//!
//! What comes in is hostile. Sizes and counts are bounded before memory is taken for them, names are looked up one
//! component at a time below the directory that was given, and nothing outside it is ever opened.

mod acl;
mod apply;
mod copy;
mod decompress;
mod diff;
mod error;
mod header;
mod kept;
mod lower;
mod metadata;
mod name;
mod pax;
mod reader;
mod remove;
mod source;
mod sparse;
mod tree;
mod verify;
mod writer;

pub use apply::{Applied, ApplyOptions, apply, inherit};
pub use decompress::{Compression, decompress, open};
pub use diff::{create, diff};
pub use error::{Error, Result};
pub use header::{Entry, Kind, Timestamp, Xattrs};
pub use name::clean;
pub use reader::{Limits, Reader};
pub use verify::{Difference, verify};
pub use writer::{Writer, entry_length};

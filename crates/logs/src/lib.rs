//! Reading log files back.
//!
//! The shim writes Docker's json-file format and rotates it; this crate reads it, also while it is being written. One line
//! of a file is one entry:
//!
//! ```text
//! <id>-json.log      {"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-11-21T01:02:03.123456789Z"}\n
//! <id>-json.log.1    the file before it, and so on upwards
//! ```
//!
//! A [`Cursor`] holds one open file, one small buffer and an inotify descriptor, whatever the log's size: the tail is found
//! by reading backwards, everything else goes forwards in pieces. A line that isn't an entry (a torn write of a machine that
//! lost its power) is skipped.

mod cursor;
mod entry;
mod error;
mod tail;
mod watch;

pub use cursor::{Cursor, Query};
pub use entry::{Line, Stream};
pub use error::Error;

//! The commands, one file each.

use std::fmt::Display;

use corten_client::Pending;

use crate::args::report;
use crate::failure::{Failure, Outcome};

pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod daemon;
pub(crate) mod df;
pub(crate) mod exec;
pub(crate) mod history;
pub(crate) mod image_prune;
pub(crate) mod image_tree;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

/// How the text behind `--format` is described where lists take it.
pub(super) const LIST_FORMAT: &str =
    "How to show the output: 'table', 'table TEMPLATE', 'json', or 'TEMPLATE', a Go template";
/// The same for single objects.
pub(super) const OBJECT_FORMAT: &str = "How to show the output: 'json', or 'TEMPLATE', a Go template";

/// Prints a line to stdout.
pub(super) fn print_line(line: impl Display) -> Outcome {
    crate::streams::write_plain(crate::streams::Sink::Stdout, format!("{line}\n").as_bytes())
}

/// Does the same to each name. Requests are all under way at once, a limited number at a time; answers come in order.
/// Each success prints the name; each failure is reported, and makes the exit status 1.
pub(super) fn for_each<'a>(names: &[String], start: impl Fn(&str) -> corten_client::Result<Pending<'a>>) -> Outcome {
    const AT_ONCE: usize = 50;
    let mut failed = false;
    for names in names.chunks(AT_ONCE) {
        let pending: Vec<_> = names.iter().map(|name| start(name)).collect();
        for (name, pending) in names.iter().zip(pending) {
            let finished = pending.and_then(Pending::receive).and_then(|response| response.discard());
            match finished {
                Ok(()) => print_line(name)?,
                Err(error) => {
                    report(&error.to_string());
                    failed = true;
                }
            }
        }
    }
    if failed { Err(Failure::Status(1)) } else { Ok(()) }
}

/// A path segment of the API: what a user typed, made harmless within a URL's path.
pub(super) fn segment(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'@' | b'/' => {
                safe.push(char::from(byte))
            }
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

//! One entry of a json-file log.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output; long lines come in several pieces, of which only the last ends with a line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written.
    pub stream: Stream,
    /// When, in nanoseconds since 1970.
    pub time_ns: i64,
    /// The bytes, with their line feed.
    pub text: Vec<u8>,
    /// Extra attributes (`--log-opt labels=...`).
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl Line {
    /// Reads an entry; none if it isn't one.
    pub(crate) fn parse(json: &[u8]) -> Option<Line> {
        let entry: Entry<'_> = serde_json::from_slice(json).ok()?;
        let time = corten_base::time::parse_rfc3339(&entry.time).ok()?;
        let stream = if entry.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        let text = entry.log.into_owned().into_bytes();
        Some(Line { stream, time_ns: corten_base::time::unix_nanos(time), text, attributes: entry.attrs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let line = Line::parse(br#"{"log":"a\"\u0007\n","stream":"stderr","time":"1970-01-01T00:00:01.5Z"}"#).unwrap();
        assert_eq!((line.stream, line.time_ns, line.text), (Stream::Stderr, 1_500_000_000, b"a\"\x07\n".to_vec()));
        let with = br#"{"log":"x","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-21T01:02:03.123456789Z"}"#;
        assert_eq!(Line::parse(with).unwrap().attributes["a"], "b");
    }

    #[test]
    fn damage_is_no_entry() {
        for bad in ["", "{", "\0\0\0", r#"{"log":"x"}"#, r#"{"log":"x","time":"yesterday"}"#] {
            assert_eq!(Line::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

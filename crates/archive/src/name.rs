//! Names in archives: any bytes, made relative and free of `.`, `..` and empty components before use.

use crate::{Error, Result};
use std::fmt;

/// The longest path that is accepted, in bytes, as the kernel's PATH_MAX.
const LONGEST: usize = 4096;

/// A name as it may be shown on a terminal or in JSON.
pub(crate) struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() => write!(f, "{}", c.escape_unicode())?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The path below the root that `name` means: leading slashes, `.` and doubled slashes dropped, `..` resolved by text as
/// Docker does; empty for the root itself. A `..` above the root is an error, as is a NUL.
pub fn clean(name: &[u8]) -> Result<Vec<u8>> {
    if name.contains(&0) {
        return Err(Error::Name { name: name.to_vec(), reason: "it contains a NUL" });
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if path.is_empty() {
                    return Err(Error::Breakout(name.to_vec()));
                }
                path.truncate(split(&path).0.len());
            }
            _ => join(&mut path, component),
        }
    }
    if path.len() > LONGEST {
        return Err(Error::Name { name: name[..128].to_vec(), reason: "it is longer than 4096 bytes" });
    }
    Ok(path)
}

/// Parent and last component of a clean path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Appends a component to a clean path.
pub(crate) fn join(path: &mut Vec<u8>, component: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(component);
}

/// [`join`] into a new path.
pub(crate) fn joined(parent: &[u8], component: &[u8]) -> Vec<u8> {
    let mut path = parent.to_vec();
    join(&mut path, component);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning() {
        let check = |name: &str, expect: &str| assert_eq!(clean(name.as_bytes()).unwrap(), expect.as_bytes(), "{name}");
        check("", "");
        check(".", "");
        check("./", "");
        check("/", "");
        check("a", "a");
        check("./a//b/", "a/b");
        check("/etc/passwd", "etc/passwd");
        check("a/../b", "b");
        check("a/b/../../c", "c");
        check("a/..", "");
        check("...", "...");
    }

    #[test]
    fn refusals() {
        let check = |name: &[u8]| assert!(clean(name).is_err(), "{}", Shown(name));
        check(b"..");
        check(b"../x");
        check(b"/../x");
        check(b"a/../../x");
        check(b"a\0b");
        check("a/".repeat(3000).as_bytes());
    }
}

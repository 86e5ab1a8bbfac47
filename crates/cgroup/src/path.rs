//! Paths of control groups below the hierarchies' roots.

use std::fmt;

use crate::{Error, Result};

/// An absolute path below a hierarchy's root, such as `/corten/<id>`: never `..`, never the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Checks a path; one without a leading slash is taken from the root.
    pub fn parse(path: &str) -> Result<Self> {
        let relative = path.trim_matches('/');
        let odd = |part: &str| {
            part.is_empty() || part == "." || part == ".." || part.len() > 255 || part.bytes().any(|byte| byte < b' ')
        };
        if relative.len() > 3072 || relative.split('/').any(odd) {
            return Err(Error::Path(path.to_owned()));
        }
        Ok(Self(format!("/{relative}")))
    }

    /// A group below this one.
    pub fn join(&self, name: &str) -> Result<Self> {
        Self::parse(&format!("{}/{name}", self.0))
    }

    /// The group above this one; none below the root.
    pub fn parent(&self) -> Option<Self> {
        let (above, _) = self.split();
        (!above.is_empty()).then(|| Self(format!("/{above}")))
    }

    /// The path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path from a hierarchy's root.
    pub(crate) fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// The groups from the top down to this one.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = &str> {
        let relative = self.relative();
        let ends = relative.match_indices('/').map(|(place, _)| place).chain([relative.len()]);
        ends.map(move |end| &relative[..end])
    }

    /// The path from the root of the group above (empty for the root) and the last part.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.relative().rsplit_once('/').unwrap_or(("", self.relative()))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_pass() {
        for bad in ["", "/", "/..", "/a/../b", "/a//b", "/a/./b", "/a\nb", "/a\0b"] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        let path = CgroupPath::parse("corten/x").unwrap();
        assert_eq!(path.to_string(), "/corten/x");
        assert_eq!(path.ancestry().collect::<Vec<_>>(), ["corten", "corten/x"]);
        assert_eq!(path.split(), ("corten", "x"));
        assert_eq!(path.parent(), CgroupPath::parse("/corten").ok());
        assert_eq!(path.parent().unwrap().parent(), None);
        assert_eq!(path.join("y").unwrap().as_str(), "/corten/x/y");
    }
}

//! The texts of `-v` and `Binds`: `[source:]target[:mode]`, read as Docker reads them on Linux.
//!
//! Pure: whether a source exists is the engine's question when it starts the container (`-v` makes missing directories).

use crate::{Error, Result};
use corten_base::VolumeName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// One mount that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Where, an absolute and clean path in the container.
    pub target: PathBuf,
    /// Not writable.
    pub read_only: bool,
    /// The mode as written, which `inspect` echoes: `ro,z`.
    pub mode: String,
    /// How later mounts spread between host and container; `rprivate` unless asked for.
    pub propagation: Propagation,
    /// Fill an empty volume with the image's content first.
    pub copy: bool,
    /// Relabel for SELinux: `Some(true)` is `z` (shared), `Some(false)` is `Z`.
    pub relabel_shared: Option<bool>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host, absolute and clean.
    Bind(PathBuf),
    /// A named volume.
    Volume(VolumeName),
    /// A volume that is still to be made up.
    Anonymous,
}

/// A mount propagation mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// `private`.
    Private,
    /// `rprivate`.
    #[default]
    Rprivate,
    /// `slave`.
    Slave,
    /// `rslave`.
    Rslave,
    /// `shared`.
    Shared,
    /// `rshared`.
    Rshared,
}

impl Propagation {
    /// The mode's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::Rprivate => "rprivate",
            Propagation::Slave => "slave",
            Propagation::Rslave => "rslave",
            Propagation::Shared => "shared",
            Propagation::Rshared => "rshared",
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Propagation {
    type Err = Error;
    fn from_str(text: &str) -> Result<Propagation> {
        use Propagation::*;
        [Private, Rprivate, Slave, Rslave, Shared, Rshared]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| Error::InvalidSpec(format!("invalid propagation mode: {text}")))
    }
}

/// Reads one `-v` text.
///
/// # Errors
/// [`Error::InvalidSpec`] with Docker's text.
pub fn parse_bind(raw: &str) -> Result<MountSpec> {
    let invalid = || Error::InvalidSpec(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(invalid()),
        [target] => ("", target, ""),
        // A mode needs a source before the target: `/foo:rw` is neither.
        [_, second] if Mode::parse(second).is_some() => return Err(invalid()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    let flags = Mode::parse(mode).ok_or_else(|| Error::InvalidSpec(format!("invalid mode: {mode}")))?;
    let source = match source {
        "" => MountSource::Anonymous,
        path if path.starts_with('/') => MountSource::Bind(clean(path)),
        name => MountSource::Volume(
            VolumeName::parse(name).map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?,
        ),
    };
    build(source, target, mode, &flags).map_err(|reason| Error::InvalidSpec(format!("{}: {reason}", invalid())))
}

/// Reads one `--volumes-from` text into the container and the mode to apply.
///
/// # Errors
/// [`Error::InvalidSpec`] with Docker's text.
pub fn parse_volumes_from(spec: &str) -> Result<(&str, &str)> {
    if spec.is_empty() {
        return Err(Error::InvalidSpec("volumes-from specification cannot be an empty string".to_owned()));
    }
    let (container, mode) = spec.split_once(':').unwrap_or((spec, ""));
    match Mode::parse(mode) {
        _ if mode.is_empty() => Ok((container, "rw")),
        Some(flags) if flags.propagation.is_none() && !flags.no_copy => Ok((container, mode)),
        _ => Err(Error::InvalidSpec(format!("invalid mode: {mode}"))),
    }
}

/// What a mode text says.
#[derive(Debug, Default)]
struct Mode {
    read_only: bool,
    propagation: Option<Propagation>,
    no_copy: bool,
    relabel_shared: Option<bool>,
}

impl Mode {
    /// `None` if a word is unknown or two of one group are given.
    fn parse(text: &str) -> Option<Mode> {
        let mut mode = Mode::default();
        let mut groups = [false; 5];
        if text.is_empty() {
            return Some(mode);
        }
        for word in text.split(',') {
            let group = match word {
                "ro" | "rw" => {
                    mode.read_only = word == "ro";
                    0
                }
                "z" | "Z" => {
                    mode.relabel_shared = Some(word == "z");
                    1
                }
                "nocopy" => {
                    mode.no_copy = true;
                    2
                }
                "consistent" | "cached" | "delegated" => 3,
                _ => {
                    mode.propagation = Some(word.parse().ok()?);
                    4
                }
            };
            if std::mem::replace(&mut groups[group], true) {
                return None;
            }
        }
        Some(mode)
    }
}

/// The mount, or Docker's reason why not.
fn build(source: MountSource, target: &str, mode: &str, flags: &Mode) -> Result<MountSpec, String> {
    let kind = if matches!(source, MountSource::Bind(_)) { "bind" } else { "volume" };
    let config = |reason: &str| format!("invalid mount config for type \"{kind}\": {reason}");
    match kind {
        "bind" if flags.no_copy => return Err(config("field VolumeOptions must not be specified")),
        "volume" if flags.propagation.is_some() => return Err(config("field BindOptions must not be specified")),
        _ => {}
    }
    if target.is_empty() {
        return Err(config("field Target must not be empty"));
    }
    let clean_target = clean(&target.replace('\\', "/"));
    if clean_target == Path::new("/") {
        return Err(config("invalid specification: destination can't be '/'"));
    }
    if !target.starts_with('/') {
        return Err(config(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    Ok(MountSpec {
        source,
        target: clean_target,
        read_only: flags.read_only,
        mode: mode.to_owned(),
        propagation: flags.propagation.unwrap_or_default(),
        copy: !flags.no_copy,
        relabel_shared: flags.relabel_shared,
    })
}

/// The path without `.`, `..` and doubled slashes, by text alone (Go's `path.Clean` for absolute paths).
pub fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expect: Result<(MountSource, &str, bool, Propagation), &str>) {
        match (parse_bind(raw), expect) {
            (Ok(spec), Ok((source, target, read_only, propagation))) => {
                assert_eq!(spec.source, source, "{raw}");
                assert_eq!(spec.target, Path::new(target), "{raw}");
                assert_eq!(spec.read_only, read_only, "{raw}");
                assert_eq!(spec.propagation, propagation, "{raw}");
            }
            (Err(error), Err(text)) => assert_eq!(error.to_string(), text, "{raw}"),
            (got, expect) => panic!("{raw}: got {got:?}, expected {expect:?}"),
        }
    }

    fn bind(path: &str) -> MountSource {
        MountSource::Bind(path.into())
    }

    #[test]
    fn good_texts() {
        let volume = MountSource::Volume(VolumeName::parse("data").unwrap());
        check("/data", Ok((MountSource::Anonymous, "/data", false, Propagation::Rprivate)));
        check("data:/srv//x/../y/", Ok((volume, "/srv/y", false, Propagation::Rprivate)));
        check("/a/../b:/c:ro,z,rshared", Ok((bind("/b"), "/c", true, Propagation::Rshared)));
        check("/a:/c:rw,Z,cached,slave", Ok((bind("/a"), "/c", false, Propagation::Slave)));
        check("/:/host:ro", Ok((bind("/"), "/host", true, Propagation::Rprivate)));
        assert!(!parse_bind("v1:/x:nocopy").unwrap().copy);
        assert_eq!(parse_bind("v1:/x:Z").unwrap().relabel_shared, Some(false));
    }

    #[test]
    fn bad_texts() {
        for raw in ["", ":", ":/x", "/foo:rw", "/foo:ro,z", "/a:/b:ro:x", "/a:/b:/c:d:e"] {
            check(raw, Err(&format!("invalid volume specification: '{raw}'")));
        }
        check("/a:/b:rx", Err("invalid mode: rx"));
        check("/a:/b:ro,rw", Err("invalid mode: ro,rw"));
        check("/a:/b:ro,", Err("invalid mode: ro,"));
        let prefix = |raw: &str, kind: &str, reason: &str| {
            format!("invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {reason}")
        };
        let relative = "invalid mount path: 'x' mount path must be absolute";
        check("/a:x", Err(&prefix("/a:x", "bind", relative)));
        check("vol:x", Err(&prefix("vol:x", "volume", relative)));
        let root = "invalid specification: destination can't be '/'";
        check("/a:/", Err(&prefix("/a:/", "bind", root)));
        check("/a:/b/..", Err(&prefix("/a:/b/..", "bind", root)));
        let extra = |field: &str| format!("field {field} must not be specified");
        check("vv:/x:shared", Err(&prefix("vv:/x:shared", "volume", &extra("BindOptions"))));
        check("/a:/x:nocopy", Err(&prefix("/a:/x:nocopy", "bind", &extra("VolumeOptions"))));
        let short = "create c: volume name is too short, names should be at least two alphanumeric characters";
        check("c:/x:z,ro", Err(short));
        check("/a:", Err("invalid volume specification: '/a:'"));
        assert!(
            parse_bind("../x:/y")
                .unwrap_err()
                .to_string()
                .contains("includes invalid characters for a local volume name")
        );
    }

    #[test]
    fn volumes_from() {
        assert_eq!(parse_volumes_from("web").unwrap(), ("web", "rw"));
        assert_eq!(parse_volumes_from("web:ro").unwrap(), ("web", "ro"));
        for spec in ["", "web:x", "web:ro,rshared", "web:nocopy"] {
            assert!(parse_volumes_from(spec).is_err(), "{spec}");
        }
    }
}

//! Options of the local driver: a file system of the volume's own, mounted where its content is.

use crate::{Error, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_file_system, unmount as unmount_file_system};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `type`, `device` and `o` of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalOptions {
    kind: String,
    device: String,
    flags: MountFlags,
    /// What isn't a flag goes to the file system.
    data: String,
}

impl LocalOptions {
    /// Reads the options, in Docker's words where they are wrong. None without options.
    pub(crate) fn read(options: &BTreeMap<String, String>) -> Result<Option<LocalOptions>, String> {
        if options.is_empty() {
            return Ok(None);
        }
        if let Some(unknown) = options.keys().find(|name| !matches!(name.as_str(), "type" | "o" | "device" | "size")) {
            return Err(format!("invalid option: {unknown:?}"));
        }
        if options.contains_key("size") {
            return Err("quota size requested but no quota support".to_owned());
        }
        for required in ["device", "type"] {
            if options.get(required).is_none_or(String::is_empty) {
                return Err(format!("missing required option: {required:?}"));
            }
        }
        let (flags, data) = read_flags(options.get("o").map(String::as_str).unwrap_or_default());
        Ok(Some(LocalOptions { kind: options["type"].clone(), device: options["device"].clone(), flags, data }))
    }
}

/// Words of `mount -o` that are flags; the second value takes the flag away.
const FLAGS: [(&str, MountFlags, bool); 19] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("bind", MountFlags::BIND, true),
    ("rbind", MountFlags::BIND.union(MountFlags::REC), true),
];

fn read_flags(text: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match FLAGS.iter().find(|(name, ..)| *name == word) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None if word == "defaults" => {}
            None => data.push(word),
        }
    }
    (flags, data.join(","))
}

/// Mounts the file system unless it is mounted already, by an engine before this one perhaps.
pub(crate) fn mount(options: &LocalOptions, target: &Path) -> Result<()> {
    let failed = |reason: String| Error::Mount { mountpoint: target.display().to_string(), reason };
    if is_mounted(target).map_err(|error| failed(error.to_string()))? {
        return Ok(());
    }
    let LocalOptions { kind, device, flags, data } = options;
    let words = |error: io::Error| {
        let data = if data.is_empty() { String::new() } else { format!(", data: {data}") };
        failed(format!("mount {device}:{}{data}: {}", target.display(), go_words(&error)))
    };
    let data = CString::new(data.as_str()).map_err(|error| words(error.into()))?;
    let kind = if flags.contains(MountFlags::BIND) { "none" } else { kind };
    mount_file_system(device.as_str(), target, kind, *flags, Some(data.as_c_str()))
        .map_err(|error| words(error.into()))?;
    // A bind mount takes flags such as "ro" only when it is changed afterwards.
    if flags.contains(MountFlags::BIND) && *flags != (*flags & (MountFlags::BIND | MountFlags::REC)) {
        rustix::mount::mount_remount(target, (*flags - MountFlags::REC) | MountFlags::BIND, "")
            .map_err(|error| words(error.into()))?;
    }
    Ok(())
}

/// Unmounts whatever is mounted there; nothing is no error.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    if !is_mounted(target).unwrap_or(false) {
        return Ok(());
    }
    // Detached: a container that ends just now must not make this fail.
    unmount_file_system(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|error| Error::io(format!("unmount {}", target.display()))(error.into()))
}

/// Whether something is mounted on this directory. Binds of one file system have no device of their own, so mount ids decide.
fn is_mounted(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let stat = |path: &Path| statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID);
    let parent = path.parent().unwrap_or(path);
    let (own, above) = match (stat(path), stat(parent)) {
        (Ok(own), Ok(above)) => (own, above),
        (Err(error), _) | (_, Err(error)) if error == rustix::io::Errno::NOENT => return Ok(false),
        (Err(error), _) | (_, Err(error)) => return Err(error.into()),
    };
    if StatxFlags::from_bits_retain(own.stx_mask).contains(StatxFlags::MNT_ID) {
        return Ok(own.stx_mnt_id != above.stx_mnt_id);
    }
    Ok(std::fs::symlink_metadata(path)?.dev() != std::fs::symlink_metadata(parent)?.dev())
}

/// An error as Go prints it: lower case, without the number.
fn go_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<LocalOptions>, String> {
        LocalOptions::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn docker_words_for_wrong_options() {
        assert_eq!(read(&[("foo", "bar")]).unwrap_err(), "invalid option: \"foo\"");
        assert_eq!(read(&[("type", "tmpfs")]).unwrap_err(), "missing required option: \"device\"");
        assert_eq!(read(&[("device", "x")]).unwrap_err(), "missing required option: \"type\"");
        assert_eq!(read(&[("size", "1g")]).unwrap_err(), "quota size requested but no quota support");
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn flags_and_data() {
        let options =
            read(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,ro,nosuid,rw,uid=7")]).unwrap().unwrap();
        assert_eq!(options.flags, MountFlags::NOSUID);
        assert_eq!(options.data, "size=1m,uid=7");
    }

    #[test]
    fn errors_in_go_words() {
        assert_eq!(go_words(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}

//! Facts about the host, read from `/proc`, `/sys` and `/dev`: the one place of this crate that looks at the machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use corten_base::ErrorKind;

use crate::oci::NETWORK_SYSCTLS;
use crate::{Device, DeviceKind, HostFacts};

/// Why a device can't be had.
#[derive(Debug, thiserror::Error)]
#[error("error gathering device information while adding custom device {path:?}: {reason}")]
pub struct DeviceError {
    path: String,
    reason: String,
}

impl DeviceError {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Reads the facts, once when the daemon starts; the list of devices is left empty (see [`devices`]).
pub fn facts() -> HostFacts {
    let status = read("/proc/self/status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let kernel = parse_release(&read("/proc/sys/kernel/osrelease"));
    HostFacts {
        machine: std::env::consts::ARCH.to_owned(),
        kernel,
        last_capability: read("/proc/sys/kernel/cap_last_cap").trim().parse().unwrap_or(40),
        bounding: field("CapBnd:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(!0),
        default_sysctls: existing_sysctls(),
        thermal_throttle: thermal_throttle(Path::new("/sys/devices/system/cpu")),
        recursive_readonly: kernel >= (5, 12),
        seccomp: field("Seccomp:").is_some(),
        apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        default_profile: read("/sys/kernel/security/apparmor/profiles")
            .lines()
            .any(|it| it.starts_with("docker-default (")),
        devices: Vec::new(),
    }
}

/// The host's devices below `/dev` as privileged containers get them: without terminals, shared memory and what is not a device.
pub fn devices() -> Vec<Device> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), Path::new("/dev"), 0, &mut |path, target| {
        let excluded = [".lxc", ".lxd-mounts", ".udev", "console", "fd", "mqueue", "pts", "shm"];
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if excluded.contains(&name) {
            return false;
        }
        found.extend(device(path, target, "rwm"));
        true
    });
    found
}

/// The devices behind `--device on_host:in_container:access`: one node, or all below a directory.
pub fn devices_at(on_host: &str, in_container: &str, access: &str) -> Result<Vec<Device>, DeviceError> {
    let failed = |reason: String| DeviceError { path: on_host.to_owned(), reason };
    let source = resolve(Path::new(on_host));
    let metadata = fs::metadata(&source).map_err(|error| failed(reason(&error)))?;
    let target = Path::new(in_container);
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(&source, target, 0, &mut |path, target| {
            found.extend(device(&resolve(path), target, access));
            true
        });
    } else {
        found.extend(device(&source, target, access));
    }
    if found.is_empty() { Err(failed("not a device node".to_owned())) } else { Ok(found) }
}

/// The system's words for an error, as Docker's clients see them: lower case, without the number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Major and minor number of the device at a path, for limits of block devices.
pub fn device_number(path: &str) -> std::io::Result<(i64, i64)> {
    fs::metadata(path).map(|metadata| numbers(metadata.rdev()))
}

/// Follows a link only to a device below `/dev` (as `/dev/disk/by-id/...` does).
fn resolve(path: &Path) -> PathBuf {
    match fs::canonicalize(path) {
        Ok(target) if target.starts_with("/dev") => target,
        _ => path.to_owned(),
    }
}

fn device(path: &Path, target: &Path, access: &str) -> Option<Device> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let (major, minor) = numbers(metadata.rdev());
    // 0:0 is overlay's mark for a removed file.
    (major != 0 || minor != 0).then(|| Device {
        path: target.to_owned(),
        kind,
        major,
        minor,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

fn numbers(device: u64) -> (i64, i64) {
    let major = ((device >> 32) & 0xffff_f000) | ((device >> 8) & 0xfff);
    let minor = ((device >> 12) & 0xffff_ff00) | (device & 0xff);
    (major as i64, minor as i64)
}

/// Deeper trees than this are not device directories.
const MAX_DEPTH: u32 = 16;

/// Calls `visit` with each entry below `directory` and its place below `target`; directories it declines are not entered.
fn walk(directory: &Path, target: &Path, depth: u32, visit: &mut dyn FnMut(&Path, &Path) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, target) = (entry.path(), target.join(entry.file_name()));
        let entered = visit(&path, &target);
        if entered && depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, &target, depth + 1, visit);
        }
    }
}

fn existing_sysctls() -> Vec<String> {
    let exists = |name: &str| Path::new("/proc/sys").join(name.replace('.', "/")).exists();
    NETWORK_SYSCTLS.iter().filter(|(name, _)| exists(name)).map(|(name, _)| (*name).to_owned()).collect()
}

fn thermal_throttle(cpus: &Path) -> Vec<String> {
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()).collect();
    numbers.sort_unstable();
    let path = |number: &u32| cpus.join(format!("cpu{number}/thermal_throttle"));
    numbers.iter().map(path).filter(|path| path.exists()).map(|path| path.to_string_lossy().into_owned()).collect()
}

fn parse_release(release: &str) -> (u32, u32) {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases() {
        assert_eq!(parse_release("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_release("5.10-rc1"), (5, 10));
        assert_eq!(parse_release(""), (0, 0));
    }

    #[test]
    fn this_host() {
        let facts = facts();
        assert!(facts.kernel >= (5, 0) && facts.last_capability >= 35);
        assert_eq!(devices_at("/dev/null", "/dev/x", "r").unwrap()[0].minor, 3);
        let error = devices_at("/etc/passwd", "/dev/x", "r").unwrap_err().to_string();
        assert!(error.contains("\"/etc/passwd\": not a device node"), "{error}");
        let error = devices_at("/dev/nonex", "/dev/x", "r").unwrap_err().to_string();
        assert!(error.ends_with("custom device \"/dev/nonex\": no such file or directory"), "{error}");
        assert!(devices().iter().any(|device| device.path == Path::new("/dev/null")));
        assert_eq!(device_number("/dev/null").unwrap(), (1, 3));
    }
}

//! Device nodes, the default links of `/dev`, and the console.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use corten_sys::{mount, path};
use rustix::fs::{AtFlags, FileType, Mode, chownat, makedev, mknodat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Root;
use super::report::Explain;
use super::stage::Staged;
use crate::plan::{DevicePlan, Plan};
use crate::{Failure, FailureKind};

/// Links that programs expect; the runtime spec's list.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the plan's device nodes and, in a `/dev` of the container's own, the default links.
pub(super) fn make(plan: &Plan, root: &Root, staged: &Staged) -> Result<(), Failure> {
    for device in plan.devices.iter().filter(|device| !staged.covers(&device.path)) {
        make_one(device, root)?;
    }
    if plan.setup_dev && !staged.covers("/dev") {
        let dev = path::make_directories(root, "/dev", 0o755).explain("cannot open /dev")?;
        for (name, target) in LINKS {
            link(dev.as_fd(), name, target)?;
        }
        if path::find(root, "/proc/kcore").is_ok() {
            link(dev.as_fd(), "core", "/proc/kcore")?;
        }
    }
    Ok(())
}

fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<(), Failure> {
    match symlinkat(target, dev, name) {
        Err(Errno::EXIST) if name == "ptmx" => {
            // An image's own node would open the host's terminals.
            let _ = unlinkat(dev, name, AtFlags::empty());
            symlinkat(target, dev, name)
        }
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
    .explain_with(|| format!("cannot link /dev/{name}"))
}

fn make_one(device: &DevicePlan, root: &Root) -> Result<(), Failure> {
    let what = || format!("cannot make device {}", device.path);
    let (parent, name) = path::split(Path::new(&device.path)).explain_with(what)?;
    let directory = path::make_directories(root, parent, 0o755).explain_with(what)?;
    let kind = FileType::from_raw_mode(device.mode);
    let number = makedev(device.major, device.minor);
    // The caller's umask is 0, so the mode is exact.
    match mknodat(&directory, name, kind, Mode::from_raw_mode(device.mode & 0o7777), number) {
        Err(Errno::EXIST) => return verify_existing(device, root),
        result => result.explain_with(what)?,
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).explain_with(what)?;
    }
    Ok(())
}

/// Something is there already: fine if it is that device, else the image tries to pass something off as it.
fn verify_existing(device: &DevicePlan, root: &Root) -> Result<(), Failure> {
    let found = path::find_no_follow(root, &device.path).explain_with(|| device.path.clone())?;
    let stat = rustix::fs::fstat(&found).explain_with(|| device.path.clone())?;
    let same = FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(device.mode)
        && stat.st_rdev == makedev(device.major, device.minor);
    if same {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Invalid, format!("{} exists and is not the device", device.path)))
}

/// Puts the terminal at `/dev/console`: a bind from its own descriptor, so that no path of the image takes part in
/// naming the source (CVE-2025-52565), onto a place that is not followed as a link.
pub(super) fn bind_console(root: &Root, terminal: BorrowedFd<'_>) -> Result<(), Failure> {
    let what = "cannot set /dev/console up";
    let dev = path::make_directories(root, "/dev", 0o755).explain(what)?;
    match mknodat(&dev, "console", FileType::RegularFile, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).explain(what),
    }
    let place = path::find_no_follow(&dev, "console").explain(what)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&place).explain(what)?.st_mode) == FileType::Symlink {
        return Err(Failure::new(FailureKind::Invalid, "/dev/console is a symbolic link"));
    }
    let bind = mount::clone_of(terminal, false).explain(what)?;
    mount::attach(bind.as_fd(), place.as_fd()).explain(what)
}

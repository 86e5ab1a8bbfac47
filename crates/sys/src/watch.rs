//! Telling when nobody has a mount any more: no working directory, no open file, no namespace.
//!
//! A fanotify mark on a mount doesn't keep it, and goes with it, when its last user lets go; /proc shows which marks are left. See
//! fanotify_mark(2), fanotify_init(2), proc_pid_fdinfo(5).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::process::{check, fd_path};

/// Some mounts, to be asked whether they are gone. Dropping one that has not been used blocks for a grace period of the kernel.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Watches nothing yet. Needs CAP_SYS_ADMIN; a user may have 128 of them (`fs.fanotify.max_user_groups`).
    ///
    /// # Errors
    /// As fanotify_init(2).
    pub fn new() -> io::Result<Watch> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC) as u32) }.into())?;
        // SAFETY: the kernel has just made it for this call alone.
        Ok(Watch(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Watches the mount that a descriptor is open on, which may be detached.
    ///
    /// # Errors
    /// As fanotify_mark(2).
    pub fn add(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        let path = CString::new(fd_path(mount).into_os_string().into_encoded_bytes())?;
        // Nothing is ever told: the events that it names are to be ignored.
        let flags = libc::FAN_MARK_ADD
            | libc::FAN_MARK_MOUNT
            | libc::FAN_MARK_IGNORED_MASK
            | libc::FAN_MARK_IGNORED_SURV_MODIFY;
        let group = self.0.as_raw_fd();
        // SAFETY: the path is NUL-terminated and outlives the call.
        let result = unsafe { libc::fanotify_mark(group, flags, libc::FAN_OPEN, libc::AT_FDCWD, path.as_ptr()) };
        check(result.into()).map(drop)
    }

    /// Whether all mounts that were added are gone.
    ///
    /// # Errors
    /// If /proc can't be read.
    pub fn is_clear(&self) -> io::Result<bool> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_fd().as_raw_fd());
        Ok(!std::fs::read_to_string(path)?.lines().any(|line| line.starts_with("fanotify mnt_id:")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{FileSystem, clone_of};
    use rustix::fs::{Mode, OFlags, openat};

    #[test]
    fn who_has_anything_of_a_mount_is_noticed() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped who_has_anything_of_a_mount_is_noticed: it needs root");
        }
        let mount = FileSystem::open("tmpfs").unwrap().mount(0).unwrap();
        drop(openat(&mount, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o644)).unwrap());
        let place = openat(&mount, "file", OFlags::PATH, Mode::empty()).unwrap();
        let watch = Watch::new().unwrap();
        // Several times, as one is used again.
        for flags in [OFlags::RDONLY, OFlags::PATH, OFlags::WRONLY] {
            let (Ok(of_file), Ok(of_all)) = (clone_of(place.as_fd(), false), clone_of(mount.as_fd(), false)) else {
                return eprintln!("skipped: this kernel does not copy a detached mount, as Linux 6.15 does");
            };
            watch.add(of_file.as_fd()).unwrap();
            watch.add(of_all.as_fd()).unwrap();
            assert!(!watch.is_clear().unwrap());
            let (held, other) = (openat(&of_all, "file", flags, Mode::empty()).unwrap(), of_file.try_clone().unwrap());
            drop((of_all, of_file));
            assert!(!watch.is_clear().unwrap(), "two are open");
            drop(other);
            assert!(!watch.is_clear().unwrap(), "{flags:?}");
            drop(held);
            // The kernel lets go of a mount when the process returns to its own code, or a moment later.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !watch.is_clear().unwrap() {
                assert!(std::time::Instant::now() < deadline, "{flags:?}: a mount is not gone that nobody has");
                std::thread::yield_now();
            }
        }
        assert!(watch.add(std::fs::File::open("/").unwrap().as_fd()).is_ok() && !watch.is_clear().unwrap());
    }
}

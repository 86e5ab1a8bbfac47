//! Overlays as detached mounts: file descriptors that no table shows until somebody attaches them.
//!
//! Linux 6.5 takes one layer per `lowerdir+` call. Before, the layers' names have to fit together into the one page that
//! mount(2) takes, so they are written relative to the store's folder, by a thread that has a working directory and a mount
//! namespace of its own; a clone of the mount is then taken out of that namespace, which ends with the thread.
//!
//! See the kernel's Documentation/filesystems/overlayfs.rst, mount(2), open_tree(2).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corten_sys::mount::{self, FileSystem, Propagation, Tree, attr};
use corten_sys::{namespace, process};
use rustix::fs::CWD;
use rustix::mount::MountFlags;

use crate::{EMPTY, Error, Result, RootFs};

/// How to mount a root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The mount refuses changes; what is mounted on it later doesn't.
    pub read_only: bool,
    /// Nothing is synced: faster, and a crash of the machine may lose any of the changes (Linux 5.10; else ignored).
    pub volatile: bool,
}

/// The longest string that fsconfig(2) takes, with its end.
const STRING_MAX: usize = 256;
/// What mount(2) takes of options, with their end.
const PAGE: usize = 4096;

/// Options that Docker's overlay2 sets or the kernel's defaults are: a layer must mean the same on every kernel.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// Set once the kernel has shown that it doesn't know `lowerdir+`.
static OLD_KERNEL: AtomicBool = AtomicBool::new(false);

impl RootFs {
    /// Mounts the overlay, attached to nothing.
    ///
    /// # Errors
    /// [`Error::Mount`] with the kernel's answer.
    pub fn mount_detached(&self, options: MountOptions) -> Result<OwnedFd> {
        if options.volatile {
            self.forget_volatile()?;
        }
        if !OLD_KERNEL.load(Ordering::Relaxed) {
            match self.mount_each(options) {
                // A path that is too long, or a kernel that doesn't know `lowerdir+`.
                Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => OLD_KERNEL.store(true, Ordering::Relaxed),
                result => return result.map_err(|source| self.failed(source)),
            }
        }
        self.mount_in_a_page(options).map_err(|source| self.failed(source))
    }

    /// As [`mount_detached`](RootFs::mount_detached) on a kernel before 6.5, for tests on newer ones.
    ///
    /// # Errors
    /// [`Error::Mount`] with the kernel's answer.
    #[doc(hidden)]
    pub fn mount_detached_in_a_page(&self, options: MountOptions) -> Result<OwnedFd> {
        self.mount_in_a_page(options).map_err(|source| self.failed(source))
    }

    /// A volatile overlay leaves a mark that keeps its changes from being mounted again: its owner knows what that means.
    fn forget_volatile(&self) -> Result<()> {
        let mark = self.work.join("work/incompat/volatile");
        match std::fs::remove_dir_all(&mark) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { operation: "remove", path: mark, source })
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Mount { layers: self.lower.len(), upper: self.upper.clone(), source }
    }

    /// Layer by layer, through the new interface.
    fn mount_each(&self, options: MountOptions) -> io::Result<OwnedFd> {
        let overlay = FileSystem::open("overlay")?;
        overlay.set_string("source", "overlay")?;
        for lower in &self.lower {
            overlay.set_string("lowerdir+", short(lower)?)?;
        }
        overlay.set_string("upperdir", short(&self.upper)?)?;
        overlay.set_string("workdir", short(&self.work)?)?;
        for (key, value) in PLAIN {
            // Refused by kernels that were built without the feature, which then is off.
            drop(overlay.set_string(key, value));
        }
        if options.volatile {
            drop(overlay.set_flag("volatile"));
        }
        overlay.mount(attributes(options))
    }

    /// All layers in one string, relative to the store's folder.
    fn mount_in_a_page(&self, options: MountOptions) -> io::Result<OwnedFd> {
        let data = self.page(options)?;
        let data = std::ffi::CString::new(data)?;
        let root = self.root.clone();
        let mounted = thread::Builder::new().name("overlay".into()).spawn(move || {
            namespace::unshare(process::flags::MOUNT)?;
            mount::set_root_propagation(Propagation::Private)?;
            rustix::process::chdir(&root)?;
            rustix::mount::mount("overlay", EMPTY, "overlay", MountFlags::empty(), data.as_c_str())?;
            if options.read_only {
                // By path: such a kernel may be older than mount_setattr(2), too.
                rustix::mount::mount_remount(EMPTY, MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
            mount::open_tree(CWD, EMPTY, Tree::Clone)
        })?;
        mounted.join().map_err(|_| io::Error::other("the mounting thread panicked"))?
    }

    /// The options of mount(2).
    fn page(&self, options: MountOptions) -> io::Result<Vec<u8>> {
        let relative = |path: &Path| {
            let path = path.strip_prefix(&self.root).unwrap_or(path);
            path.as_os_str().as_bytes().to_vec()
        };
        let lower: Vec<_> = self.lower.iter().map(|path| relative(path)).collect();
        let mut data = [b"lowerdir=".to_vec(), lower.join(&b':')].concat();
        data.extend(
            [b",upperdir=".to_vec(), relative(&self.upper), b",workdir=".to_vec(), relative(&self.work)].concat(),
        );
        for (key, value) in PLAIN {
            if Path::new("/sys/module/overlay/parameters").join(key).exists() {
                data.extend(format!(",{key}={value}").into_bytes());
            }
        }
        if options.volatile {
            data.extend(b",volatile");
        }
        if data.len() >= PAGE {
            let text = format!("{} layers are too many for this kernel", self.lower.len());
            return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, text));
        }
        Ok(data)
    }
}

fn attributes(options: MountOptions) -> u64 {
    if options.read_only { attr::RDONLY } else { 0 }
}

/// A path as fsconfig(2) takes it.
fn short(path: &Path) -> io::Result<&Path> {
    if path.as_os_str().len() < STRING_MAX {
        return Ok(path);
    }
    let text = format!("the path {} is too long for an overlay", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidFilename, text))
}

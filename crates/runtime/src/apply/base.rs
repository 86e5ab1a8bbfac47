//! The minimal mount namespace in which a shim and its init live.
//!
//! Every mount that a new mount namespace copies is paid for at each start, and every host path that the init could
//! reach is one that a mistake could expose. So a warm shim leaves the host's tree for a small tmpfs that holds only
//! what an init needs: a place for the root file system, a null device and an empty read-only directory to cover
//! masked paths with, and a place to pass mounts through.
//!
//! ```text
//! /root/   the container's root file system is attached here
//! /stage/  a mount passes through here on kernels that cannot clone detached ones; what is staged for a container is mounted below
//! /file    a mount of a file passes through here on kernels that change attached ones only
//! /null    character device 1:3
//! /empty/  read-only tmpfs without room for anything
//! /kit/    what is taken away in one piece before the root file system comes: a mount of its own if it is put away early
//!   procfs/  a procfs without masks is attached here, for what is written during a start
//!   cgroup/  the hierarchies of cgroup v1, if they are to be shown often: a directory each
//! ```

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::attributes::{change_attached, change_detached};
pub use super::cgroupfs::Hierarchy;
use super::stage::TREES;
use corten_sys::mount::{self, FileSystem, Propagation, attr};
use corten_sys::process::flags;
use corten_sys::{namespace, path};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstatfs, makedev, mkdirat, mknodat};

const KIT: &str = "kit";
const PROCFS: &str = "kit/procfs";
const HIERARCHIES: &str = "kit/cgroup";

/// How hierarchies are mounted in the kit.
const SHOWN: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// `f_type` of cgroup v1 (linux/magic.h).
const CGROUP_MAGIC: i64 = 0x27_e0eb;

/// Handles into the minimal root.
#[derive(Debug)]
pub struct Base {
    /// Where the root file system is attached.
    pub root_place: OwnedFd,
    /// Where a mount may pass through.
    pub stage: OwnedFd,
    /// The null device.
    pub null: OwnedFd,
    /// An empty directory.
    pub empty: OwnedFd,
    /// The host's tree is still around it, in which the process may stand in a chroot ([`make_beside_host`]).
    pub in_host: bool,
    /// Nothing of the host is in it, nor anything that shows more than a container may see.
    pub(crate) bare: Cell<bool>,
}

/// Makes the kit of the minimal root, which is the working directory, a mount of its own, and puts the hierarchies of cgroup v1
/// into it, so that showing a container its part of them is to clone a mount. They are read-only: a neighbour in a joined PID
/// namespace that may trace others can look in here. One that can't be mounted is left out: who needs it hears why.
pub fn lay_out_kit(hierarchies: &[Hierarchy]) -> io::Result<()> {
    let place = path::find(CWD, KIT)?;
    mount::attach(mount::clone_of(place.as_fd(), false)?.as_fd(), place.as_fd())?;
    let top = path::find(CWD, HIERARCHIES)?;
    for hierarchy in hierarchies {
        let Ok(whole) = hierarchy.mount(SHOWN) else { continue };
        let name = hierarchy.directory();
        mkdirat(&top, &*name, Mode::from_raw_mode(0o700))?;
        mount::attach(whole.as_fd(), path::find(&top, &name)?.as_fd())?;
    }
    Ok(())
}

/// Makes the minimal root, which is the root directory, read-only: many containers are made in copies of one, and one in a PID
/// namespace of others, who may trace others, opens it to them for a moment. Whatever is to be in it is there.
pub fn seal() -> io::Result<()> {
    let readonly = mount::Attributes { set: attr::RDONLY, ..Default::default() };
    [KIT, "/"].iter().try_for_each(|place| change_attached(path::find(CWD, place)?.as_fd(), &readonly, false))
}

/// Moves the calling process into a mount namespace with the minimal root.
pub fn enter_minimal_root() -> io::Result<()> {
    namespace::unshare(flags::MOUNT)?;
    // Whoever joins a container's mount namespace arrives at its root: a chroot would hide the host's from this process only.
    namespace::stand_at_root()?;
    mount::set_root_propagation(Propagation::Private)?;
    exchange_root()
}

/// The same for a process whose root is a minimal one that others have, too: it gets one of its own. Mounts in there are
/// private already, and there is no procfs to ask.
pub fn leave_minimal_root() -> io::Result<()> {
    namespace::unshare(flags::MOUNT)?;
    exchange_root()
}

/// Puts the minimal root in the place of the mount namespace's.
fn exchange_root() -> io::Result<()> {
    let root = small_tmpfs()?;
    // Any directory of the old root can carry the new one on its way to the top.
    mount::attach(root.as_fd(), path::find(CWD, "/")?.as_fd())?;
    mount::pivot_into(root.as_fd())?;
    populate(&root)
}

/// Makes the minimal root on top of the directory `place` of a mount namespace that is the caller's own and still shows
/// the host's tree, and makes it the working directory. Cheaper than leaving that tree twice, for a process that will
/// leave it anyway, and hooks that run before find the host's files.
pub fn make_beside_host(place: &Path) -> io::Result<()> {
    mount::set_root_propagation(Propagation::Private)?;
    let root = small_tmpfs()?;
    mount::attach(root.as_fd(), host_directory(place)?.as_fd())?;
    rustix::process::fchdir(&root)?;
    populate(&root)
}

/// A directory of the host's tree, in the caller's own mount namespace. Nothing of a container has a say in its path.
pub fn host_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn small_tmpfs() -> io::Result<OwnedFd> {
    let tmpfs = FileSystem::open("tmpfs")?;
    // Whoever has become root of a user namespace is a stranger here, and still names what passes through.
    tmpfs.set_string("mode", "711")?;
    tmpfs.set_string("size", "64k")?;
    tmpfs.mount(attr::NOSUID | attr::NOEXEC)
}

fn populate(root: &OwnedFd) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o700);
    for directory in ["root", "stage", "empty", KIT, PROCFS, HIERARCHIES] {
        mkdirat(root, directory, mode)?;
    }
    let stage = path::find(root, "stage")?;
    TREES.iter().try_for_each(|tree| mkdirat(&stage, tree.trim_start_matches('/'), mode))?;
    rustix::process::umask(Mode::empty());
    mknodat(root, "file", FileType::RegularFile, Mode::from_raw_mode(0o600), 0)?;
    mknodat(root, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3))?;
    // Many containers are made around one node, and some keep it: nobody changes its owner and mode.
    let node = path::find(root, "null")?;
    let null = mount::clone_of(node.as_fd(), false)?;
    change_detached(null.as_fd(), &mount::Attributes { set: attr::RDONLY, ..Default::default() }, false)?;
    mount::attach(null.as_fd(), node.as_fd())?;
    let empty = FileSystem::open("tmpfs")?;
    empty.set_string("mode", "755")?;
    empty.set_string("size", "0")?;
    empty.set_string("nr_inodes", "1")?;
    let empty = empty.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    mount::attach(empty.as_fd(), path::find(root, "empty")?.as_fd())
}

/// Adds a procfs and a sysfs to the minimal root. The kernel lets root of a user namespace mount its own only where the
/// whole of one is in sight (mount_too_revealing in fs/namespace.c); both go away with the minimal root.
pub fn show_kernel_views() -> io::Result<()> {
    for kind in ["proc", "sysfs"] {
        mkdirat(CWD, kind, Mode::from_raw_mode(0o700))?;
        let view = FileSystem::open(kind)?.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
        mount::attach(view.as_fd(), path::find(CWD, kind)?.as_fd())?;
    }
    Ok(())
}

impl Base {
    /// Opens the handles. The minimal root is the caller's working directory.
    pub fn open() -> io::Result<Base> {
        let find = |name| path::find(CWD, name);
        Ok(Base {
            root_place: find("root")?,
            stage: find("stage")?,
            null: find("null")?,
            empty: find("empty")?,
            in_host: false,
            bare: Cell::new(false),
        })
    }

    /// Takes the kit away, all at once: each such piece costs a grace period of the kernel, and this one is paid before anybody waits.
    /// Descriptors of what was in it stay good.
    pub(super) fn put_kit_away(&self) -> io::Result<()> {
        mount::detach(c"kit")?;
        self.bare.set(true);
        Ok(())
    }

    /// Attaches a procfs without masks.
    pub(super) fn take_proc(&self, proc: BorrowedFd<'_>) -> io::Result<()> {
        self.bare.set(false);
        mount::attach(proc, path::find(CWD, PROCFS)?.as_fd())
    }

    /// A whole hierarchy of cgroup v1 in the kit, where hierarchies are shown: again, if the kit was put away.
    pub(super) fn hierarchy(&self, hierarchy: &Hierarchy) -> io::Result<OwnedFd> {
        let place = path::find(CWD, format!("{HIERARCHIES}/{}", hierarchy.directory()))?;
        if fstatfs(&place)?.f_type == CGROUP_MAGIC {
            return Ok(place);
        }
        self.bare.set(false);
        let whole = hierarchy.mount(SHOWN)?;
        mount::attach(whole.as_fd(), place.as_fd())?;
        Ok(whole)
    }

    /// True if whoever could look below the root file system, which takes CAP_SYS_ADMIN over its mounts, would find nothing there.
    pub(super) fn is_bare(&self) -> bool {
        self.bare.get()
    }
}

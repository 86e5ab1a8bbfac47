//! A container's root file system that becomes the next container's.
//!
//! Most short containers leave their root as it was. The daemon keeps the overlay that such a one was given a copy of, and once
//! the container is gone, and nothing has changed in its layer, the next one of the same image starts on it: making, syncing and
//! removing an overlay costs as much as a tenth of a container's life.
//!
//! What was one container's must not be within another's reach. Whoever still has a descriptor in the old root could write to the new
//! one, so roots are handed on only of containers that could not have passed one to anybody who outlives them: all
//! processes die with the PID namespace's first, nobody else was in their namespaces, no socket of another is to be found on a
//! shared mount or network, nothing was executed in them later. And none that had a right beyond the usual ones, which could
//! have changed the file system as such.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_snapshot::{ActiveDraft, Forgotten, MountOptions, Recorded, RootFs};
use corten_sys::mark::Mark;
use corten_sys::mount;

use crate::config::Config;
use crate::record::Record;
use crate::settings::{IpcMode, JoinMode, NetworkMode};
use crate::spare::Kind;
use crate::view::Files;

/// A container's root as it was made with it, for its first start.
#[derive(Debug)]
pub(crate) struct Root {
    /// The layer, mounted.
    pub(crate) mount: OwnedFd,
    pub(crate) copy: Option<Copy>,
    pub(crate) layer: Recorded,
}

/// The same mount once more, for a container to have, so that the first one is left when the container is gone.
#[derive(Debug)]
pub(crate) struct Copy {
    mount: OwnedFd,
    /// The layer's upper directory before any container had it.
    mark: Mark,
}

/// Those of a container's `hostname`, `hosts` and `resolv.conf`.
pub(crate) type Marks = [Mark; 3];

/// The mount that a container's root is a copy of.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) kind: Kind,
    mount: OwnedFd,
    layer: Recorded,
    mark: Mark,
    /// The files that tell it about its networks, as they were written first; none before.
    files: Option<Marks>,
}

/// A root as good as new.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) mount: OwnedFd,
    pub(crate) layer: ActiveDraft,
    /// How the files beside it looked before their container ran.
    pub(crate) files: Option<Marks>,
}

/// What a container's root can be handed on by; nothing, where it must not be.
#[derive(Debug, Default)]
pub(crate) struct Reuse(Mutex<Option<Lent>>);

impl Reuse {
    /// The mount that a container gets whose root is to be handed on: the copy, if there is one.
    pub(crate) fn lend(&self, root: Root, options: MountOptions) -> OwnedFd {
        let Root { mount, copy, layer } = root;
        let Some(copy) = copy else { return mount };
        let kind = Kind { chain: layer.parent().cloned(), options };
        *self.lock() = Some(Lent { kind, mount, layer, mark: copy.mark, files: None });
        copy.mount
    }

    /// Another copy for the same container, which starts again.
    pub(crate) fn copy(&self) -> Option<OwnedFd> {
        self.lock().as_ref().and_then(|lent| mount::clone_of(lent.mount.as_fd(), false).ok())
    }

    /// Whether there is nothing to be handed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_none()
    }

    /// The files that tell the container about its networks have been written, and it doesn't run yet. What has run before may have
    /// done something to them: then this comes too late.
    pub(crate) fn mark(&self, files: &Files) {
        let mut lent = self.lock();
        let Some(lent) = lent.as_mut().filter(|lent| lent.files.is_none()) else { return };
        let mark = |path: &Path| Mark::of(path).ok();
        lent.files = mark(&files.hostname)
            .zip(mark(&files.hosts))
            .zip(mark(&files.resolv_conf))
            .map(|((hostname, hosts), resolv_conf)| [hostname, hosts, resolv_conf]);
    }

    /// It must not be handed on. Blocks, if it is the last mount of its overlay.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// The container is gone.
    pub(crate) fn take(&self) -> Option<Lent> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copy {
    /// A copy of a layer's mount that nobody has had yet; none before Linux 6.15, which doesn't copy what is not attached. Blocks.
    pub(crate) fn of(mount: &OwnedFd, root: &RootFs) -> Option<Copy> {
        let mark = Mark::of(&root.upper).ok()?;
        Some(Copy { mount: mount::clone_of(mount.as_fd(), false).ok()?, mark })
    }
}

impl Lent {
    /// The mounted layer for the next container, if nothing has changed in it. Blocks.
    ///
    /// # Errors
    /// The layer that is to be swept; it is not mounted any more.
    pub(crate) fn renew(self, forgotten: Forgotten) -> Result<Renewed, Forgotten> {
        let Lent { mount, layer, mark, files, .. } = self;
        let layer = layer.renew(forgotten, &mark)?;
        Ok(Renewed { mount, layer, files })
    }
}

/// Whether no process that outlives such a container could have anything of its root open, and none of its own could have changed
/// more than files.
pub(crate) fn leaves_nothing_behind(record: &Record, config: &Config) -> bool {
    let spec = &record.spec;
    let alone = spec.pid_mode == JoinMode::Private
        && matches!(spec.ipc_mode, IpcMode::Private | IpcMode::None)
        && !matches!(spec.network_mode, NetworkMode::Host | NetworkMode::Container(_))
        && !spec.uts_host;
    let plain = !spec.privileged
        && spec.cap_add.is_empty()
        && spec.security_opt.is_empty()
        && spec.devices.is_empty()
        && spec.device_cgroup_rules.is_empty()
        && spec.masked_paths.is_none()
        && spec.readonly_paths.is_none();
    alone && plain && record.mounts.is_empty() && !config.runtimes.is_external(&spec.runtime)
}

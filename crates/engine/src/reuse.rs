//! A container's root file system that becomes the next container's.
//!
//! Most short containers leave their root as it was. The daemon keeps the overlay that such a one was given a copy of, and once
//! the container is gone, and nothing has changed in its layer, the next one of the same image starts on it: making, syncing and
//! removing an overlay, and the files beside it, costs a quarter of a container's life.
//!
//! What was one container's must not be within anybody's reach when it is the next one's. So the kernel is asked whether anything is left of
//! the mounts that the container had: whoever has a directory of it open, in the container, beside it or on the host, has the mount.
//!
//! Who watches an inode (inotify(7)) has none, and can pass the watch on. So only containers that share nothing with others hand on their
//! roots: no mount, no network, no processes, by which to reach somebody. What is left are processes of the host, which may look into
//! a container with their own ids and no more capabilities: hence a root goes only to one with the same user and rights. A container
//! that could change the file system as such, or make other mounts of it, hands on nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_snapshot::{ActiveDraft, Forgotten, Recorded, RootFs};
use corten_spec::HostFacts;
use corten_sys::mark::Mark;
use corten_sys::mount;

use crate::config::Config;
use crate::settings::{ContainerSpec, IpcMode, JoinMode, NetworkMode};
use crate::spare::Kind;
use crate::view::{Files, MountPoint};
use crate::watches::{Watched, Watches};

/// So often a root is handed on: what the kernel remembers of its names goes with it in the end.
const USES: u32 = 256;

/// Who may look into a container's root beside the container itself: processes with its ids, and no fewer capabilities (ptrace(2),
/// PTRACE_MODE_READ_FSCREDS). Only of containers that have no more than Docker's default rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    user: String,
    dropped: Vec<String>,
}

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
    kind: Kind,
    uses: u32,
    /// The layer's upper directory before the container had it.
    mark: Mark,
}

/// Those of a container's `hostname`, `hosts` and `resolv.conf`.
pub(crate) type Marks = [Mark; 3];

/// The mount that a container's root is a copy of.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) kind: Kind,
    /// How many containers have had it.
    uses: u32,
    mount: OwnedFd,
    layer: Recorded,
    mark: Mark,
    /// From the start on, before any program runs: all mounts that the container has got, and the files that tell it about its networks.
    running: Option<(Watched, Option<Marks>)>,
}

/// A root as good as new.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) mount: OwnedFd,
    pub(crate) layer: ActiveDraft,
    /// How the files beside it looked before their container ran.
    pub(crate) files: Option<Marks>,
    pub(crate) uses: u32,
}

/// What a container's root can be handed on by; nothing, where it must not be.
#[derive(Debug, Default)]
pub(crate) struct Reuse(Mutex<Option<Lent>>);

impl Rights {
    /// Those of a container, if its root may be another's, before it or after.
    pub(crate) fn of(spec: &ContainerSpec, mounts: &[MountPoint], host: &HostFacts, config: &Config) -> Option<Rights> {
        let alone = mounts.iter().all(|point| point.kind == "tmpfs")
            && spec.pid_mode == JoinMode::Private
            && !matches!(spec.ipc_mode, IpcMode::Host | IpcMode::Container(_))
            && !matches!(spec.network_mode, NetworkMode::Host | NetworkMode::Container(_));
        // Without the filter it could have mounts in a user namespace of its own.
        let plain = host.seccomp
            && !spec.privileged
            && spec.cap_add.is_empty()
            && spec.security_opt.is_empty()
            && spec.devices.is_empty()
            && spec.device_cgroup_rules.is_empty()
            && spec.masked_paths.is_none()
            && spec.readonly_paths.is_none()
            && !config.runtimes.is_external(&spec.runtime);
        (alone && plain).then(|| Rights { user: spec.user.clone(), dropped: spec.cap_drop.clone() })
    }
}

impl Copy {
    /// A copy of a layer's mount; none before Linux 6.15, which doesn't copy what is not attached.
    pub(crate) fn of(mount: &OwnedFd, root: &RootFs, kind: Kind, uses: u32) -> Option<Copy> {
        let mark = Mark::of(&root.upper).ok()?;
        Some(Copy { mount: mount::clone_of(mount.as_fd(), false).ok()?, kind, uses: uses + 1, mark })
    }
}

impl Reuse {
    /// The mount that a container gets at its first start: the copy, if there is one.
    pub(crate) fn lend(&self, root: Root) -> OwnedFd {
        let Root { mount, copy, layer } = root;
        let Some(Copy { mount: copy, kind, uses, mark }) = copy else { return mount };
        *self.lock() = Some(Lent { kind, uses, mount, layer, mark, running: None });
        copy
    }

    /// Whether there is nothing to be handed on, or on its way out.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.try_lock().is_ok_and(|lent| lent.is_none())
    }

    /// The container has its mounts, and its files are written, and its program doesn't run yet.
    pub(crate) fn begin<'a>(
        &self,
        watches: &Arc<Watches>,
        mounts: impl IntoIterator<Item = BorrowedFd<'a>>,
        files: &Files,
    ) {
        if let Some(lent) = &mut *self.lock() {
            lent.running = watches.watch(mounts).map(|watched| (watched, marks(files)));
        }
    }

    /// It must not be handed on. Blocks, if it is the last mount of its overlay, and so does who asks meanwhile.
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

fn marks(files: &Files) -> Option<Marks> {
    let mark = |path: &Path| Mark::of(path).ok();
    Some([mark(&files.hostname)?, mark(&files.hosts)?, mark(&files.resolv_conf)?])
}

impl Lent {
    /// Whether it has not been handed on too often.
    pub(crate) fn is_young(&self) -> bool {
        self.uses < USES
    }

    /// The mounted layer for the next container, if nothing has changed in it, and nobody has anything of it. Blocks.
    ///
    /// # Errors
    /// The layer that is to be swept; it is not mounted any more.
    pub(crate) fn renew(self, forgotten: Forgotten) -> Result<Renewed, Forgotten> {
        let Lent { kind, uses, mount, layer, mark, running } = self;
        let Some((watched, files)) = running else { return Err(forgotten) };
        // A volatile overlay goes on failing where the disk has failed once.
        if !watched.are_gone() || (kind.options.volatile && sync(&mount).is_err()) {
            return Err(forgotten);
        }
        let layer = layer.renew(forgotten, &mark)?;
        Ok(Renewed { mount, layer, files, uses })
    }
}

/// What a program in it that calls syncfs(2) would hear: of a volatile overlay nothing is synchronised.
fn sync(mount: &OwnedFd) -> rustix::io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat, syncfs};
    syncfs(openat(mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DeviceMapping;

    #[test]
    fn only_containers_that_are_alone_and_have_the_usual_rights_have_others_roots() {
        let (config, host) = (Config::default(), HostFacts { seccomp: true, ..HostFacts::default() });
        let other = || "other".to_string();
        let rights = |change: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = ContainerSpec::default();
            change(&mut spec);
            Rights::of(&spec, &[], &host, &config)
        };
        let beyond: [&dyn Fn(&mut ContainerSpec); 14] = [
            &|spec| spec.privileged = true,
            &|spec| spec.cap_add = vec!["NET_ADMIN".into()],
            &|spec| spec.security_opt = vec!["no-new-privileges".into()],
            &|spec| spec.devices = vec![DeviceMapping::default()],
            &|spec| spec.device_cgroup_rules = vec!["c 1:3 r".into()],
            &|spec| spec.masked_paths = Some(Vec::new()),
            &|spec| spec.readonly_paths = Some(Vec::new()),
            &|spec| spec.runtime = "crun".into(),
            &|spec| spec.pid_mode = JoinMode::Host,
            &|spec| spec.pid_mode = JoinMode::Container(other()),
            &|spec| spec.ipc_mode = IpcMode::Host,
            &|spec| spec.ipc_mode = IpcMode::Container(other()),
            &|spec| spec.network_mode = NetworkMode::Host,
            &|spec| spec.network_mode = NetworkMode::Container(other()),
        ];
        for (number, change) in beyond.into_iter().enumerate() {
            assert_eq!(rights(change), None, "{number}");
        }
        let usual = rights(&|_| {});
        assert!(usual.is_some());
        let mounted = |kind: &str| {
            let point = MountPoint { kind: kind.into(), ..MountPoint::default() };
            Rights::of(&ContainerSpec::default(), &[point], &host, &config)
        };
        assert_eq!([mounted("bind"), mounted("volume"), mounted("tmpfs")], [None, None, usual.clone()]);
        let unfiltered = HostFacts { seccomp: false, ..host.clone() };
        assert_eq!(Rights::of(&ContainerSpec::default(), &[], &unfiltered, &config), None);
        assert_eq!(rights(&|spec| spec.tty = true), usual);
        assert_ne!(rights(&|spec| spec.user = "1".into()), usual);
        assert_ne!(rights(&|spec| spec.cap_drop = vec!["ALL".into()]), usual);
    }
}

//! A chroot in which everything of the host is found: whoever stands in it takes another directory for the root than their mount
//! namespace, whose root is what others see who join it.

/// A shell command that makes it at `chroot/root` below the working directory, in a mount namespace whose mounts are private.
/// `chroot/outside` lies beside it.
const MAKE: &str = "mkdir -p chroot && mount -t tmpfs chroot chroot && mount --make-unbindable chroot && \
    mkdir chroot/root && touch chroot/outside && \
    for entry in /*; do if [ -L $entry ]; then cp -P $entry chroot/root; \
    elif [ -d $entry ]; then mkdir chroot/root$entry && mount --rbind $entry chroot/root$entry || exit 1; fi; done";

/// The command for a root that is a directory of the tree around it.
pub fn directory() -> String {
    MAKE.to_owned()
}

/// The command for a root that is a mount: the kernel lets it be exchanged for another.
pub fn mount() -> String {
    format!("{MAKE} && mount --make-private chroot && mount --rbind chroot/root chroot/root")
}

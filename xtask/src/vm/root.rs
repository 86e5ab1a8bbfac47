//! The machine's disk: a minimal Debian with the kernel's modules. It is made anew when the list of its packages has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::kernel::Kernel;
use super::{must, once};

/// What the tests use beside a minimal Debian: python3 plays a seccomp agent, apparmor loads profiles.
const PACKAGES: &str = "busybox-static,iproute2,nftables,netbase,procps,kmod,python3,apparmor";

/// Where the disk says what it was made of.
const LIST: &str = "root/packages";

/// Larger than its content by what the tests write; the file is sparse.
const SIZE: &str = "6G";

/// The disk's image. The machine writes to a throw-away layer over it.
pub fn make(vm: &Path, kernel: &Kernel) -> Result<PathBuf> {
    forget_another(vm)?;
    let root = once(vm.join("root"), |draft| {
        let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
        must(
            Command::new("mmdebstrap")
                .args(["--quiet", "--variant=minbase", "--mode=root", "--include", PACKAGES])
                .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*"])
                .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
                .arg("bookworm")
                .arg(draft)
                .arg(mirror),
        )?;
        Ok(fs::write(draft.join(LIST), PACKAGES)?)
    })?;
    let modules = root.join("lib/modules").join(kernel.modules().file_name().unwrap_or_default());
    once(modules, |draft| {
        fs::create_dir_all(draft.parent().unwrap_or(draft))?;
        must(Command::new("cp").arg("-a").arg(kernel.modules()).arg(draft))
    })?;
    once(vm.join("root.ext4"), |draft| {
        must(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(draft).arg(SIZE))
    })
}

/// Removes a disk of other packages.
fn forget_another(vm: &Path) -> Result<()> {
    let (root, image) = (vm.join("root"), vm.join("root.ext4"));
    if root.exists() && fs::read_to_string(root.join(LIST)).ok().as_deref() != Some(PACKAGES) {
        fs::remove_dir_all(root)?;
        if image.exists() {
            fs::remove_file(image)?;
        }
    }
    Ok(())
}

//! Debian's kernel: fetched from the mirror, unpacked, never installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{must, once};

/// The modules that the machine needs to reach its root, in the order of loading.
const BOOT_MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// An unpacked kernel.
pub struct Kernel {
    directory: PathBuf,
    release: String,
}

/// The kernel that `linux-image-amd64` stands for today, or the one that was fetched before.
pub fn fetch(vm: &Path) -> Result<Kernel> {
    let directory = once(vm.join("kernel"), |draft| {
        fs::create_dir_all(draft)?;
        let package = dependency("linux-image-amd64")?;
        must(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(draft))?;
        let archive = fs::read_dir(draft)?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some());
        let archive = archive.with_context(|| format!("apt-get downloaded nothing for {package}"))?;
        must(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(draft))?;
        fs::remove_file(archive)?;
        let release = entry_of(&draft.join("lib/modules"))?;
        must(Command::new("depmod").arg("-b").arg(draft).arg(release))
    })?;
    let release = entry_of(&directory.join("lib/modules"))?;
    Ok(Kernel { directory, release })
}

/// The package that a metapackage depends on.
fn dependency(package: &str) -> Result<String> {
    let output = Command::new("apt-cache").args(["depends", "--important", package]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    name.map(str::to_owned).with_context(|| format!("apt-cache knows no {package}; is apt-get update needed?"))
}

fn entry_of(directory: &Path) -> Result<String> {
    let mut entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?.flatten();
    let entry = entries.next().with_context(|| format!("{} is empty", directory.display()))?;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

impl Kernel {
    /// What the machine starts.
    pub fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The directory of modules, its name the kernel's release.
    pub fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }

    /// The first file system: busybox, the modules for the disk, and a script that goes over to it.
    pub fn boot_archive(&self, vm: &Path) -> Result<PathBuf> {
        once(vm.join("boot.cpio"), |draft| {
            let root = vm.join("boot");
            fs::create_dir_all(root.join("bin"))?;
            fs::copy("/bin/busybox", root.join("bin/busybox"))?;
            let files = self.with_dependencies(&BOOT_MODULES)?;
            let mut script = String::from(include_str!("boot.sh"));
            for (number, file) in files.iter().enumerate() {
                let name = format!("{number:02}.ko");
                fs::copy(self.modules().join(file), root.join(&name))?;
                script = script.replacen("#MODULES", &format!("/bin/busybox insmod /{name}\n#MODULES"), 1);
            }
            fs::write(root.join("init"), script)?;
            must(Command::new("chmod").arg("755").arg(root.join("init")))?;
            let pack = "cd \"$1\" && find . | cpio --quiet --owner 0:0 -o -H newc > \"$2\"";
            must(Command::new("sh").args(["-euc", pack, "sh"]).arg(&root).arg(draft))
        })
    }

    /// Paths of modules with all that they need, what is needed first.
    fn with_dependencies(&self, names: &[&str]) -> Result<Vec<String>> {
        let table = fs::read_to_string(self.modules().join("modules.dep"))?;
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for name in names {
            let file = format!("/{name}.ko");
            let line = table.lines().find(|line| line.split(':').next().is_some_and(|path| path.ends_with(&file)));
            // A module may be a part of the kernel itself; busybox would say so when the root isn't found.
            let Some((path, needed)) = line.and_then(|line| line.split_once(':')) else { continue };
            // depmod lists the nearest need first.
            for module in needed.split_whitespace().rev().chain([path]) {
                if seen.insert(module.to_owned()) {
                    found.push(module.to_owned());
                }
            }
        }
        ensure!(!found.is_empty(), "no module of {names:?} in {}", self.modules().display());
        Ok(found)
    }
}

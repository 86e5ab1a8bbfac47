//! `vm-test`: the tests of what depends on the kernel, in a virtual machine with Debian's own kernel and control groups in the
//! layout asked for, v2 alone unless something else is said.
//!
//! Control groups belong to a whole kernel: a host whose controllers sit on v1 can't show v2. So a machine is booted (qemu,
//! software emulation): Debian's `linux-image-amd64` and a minimal Debian root, both kept below `target/vm`. The test
//! executables are static and stand at the same paths as here, so they run as they are.
//!
//! ```text
//! target/vm/kernel/        the kernel's package, unpacked          target/vm/payload.tar   executables, /dev/vdb inside
//! target/vm/root.ext4      Debian with the modules, /dev/vda       target/vm/console.log  what the machine said
//! target/vm/boot.cpio      busybox and the modules that reach it   target/vm/LAYOUT/      what each suite said last: `PACKAGE-SUITE.log`
//! ```

mod kernel;
mod machine;
mod payload;
mod report;
mod root;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Which control groups the machine mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One v2 tree.
    V2,
    /// All controllers on v1, no v2 tree.
    V1,
    /// All controllers on v1, and a v2 tree without any beside them, as systemd's hybrid layout has it.
    Hybrid,
}

impl Layout {
    pub const ALL: [Layout; 3] = [Layout::V2, Layout::V1, Layout::Hybrid];

    /// As the option, the kernel's command line and the console's name have it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::V2 => "v2",
            Layout::V1 => "v1",
            Layout::Hybrid => "hybrid",
        }
    }

    pub fn parse(name: &str) -> Result<Layout> {
        let known = Layout::ALL.into_iter().find(|layout| layout.name() == name);
        known.with_context(|| format!("unknown cgroup layout {name:?}; there are v2, v1 and hybrid"))
    }
}

/// Boots the machine, runs the suites (`--cgroup v1|v2|hybrid`, then filters on their names), prints the count; fails if a test failed.
pub fn run(arguments: &[String]) -> Result<()> {
    let (layout, filters) = match arguments {
        [option, layout, filters @ ..] if option == "--cgroup" => (Layout::parse(layout)?, filters),
        filters => (Layout::V2, filters),
    };
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    let kernel = kernel::fetch(&directory)?;
    let root = root::make(&directory, &kernel)?;
    let boot = kernel.boot_archive(&directory)?;
    let payload = payload::make(&directory, filters)?;
    let console = directory.join("console.log");
    machine::boot(&machine::Parts { kernel: kernel.image(), boot, root, payload, console: console.clone() }, layout)?;
    // The kernel's own lines may be cut anywhere.
    let text = std::fs::read(&console).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    keep(layout, &text)?;
    let report = report::read(&text);
    println!("{report}console: {}", console.display());
    ensure!(report.is_good(), "tests failed in the virtual machine");
    Ok(())
}

fn directory() -> PathBuf {
    corten_testkit::workspace().join("target/vm")
}

/// Files what each suite said that came to its end, in the place of what it said before.
fn keep(layout: Layout, console: &str) -> Result<()> {
    let place = directory().join(layout.name());
    std::fs::create_dir_all(&place)?;
    for (suite, text) in report::suites(console) {
        std::fs::write(place.join(format!("{}.log", suite.replace('/', "-"))), text)?;
    }
    Ok(())
}

/// What all suites said last in this layout.
pub fn said(layout: Layout) -> Result<String> {
    let (place, name) = (directory().join(layout.name()), layout.name());
    let files = std::fs::read_dir(&place);
    let files = files.with_context(|| format!("{}: run ./x vm-test --cgroup {name} first", place.display()))?;
    files.map(|file| Ok(std::fs::read_to_string(file?.path())?)).collect()
}

/// Runs a program to its end; its failure is an error that names it.
fn must(command: &mut std::process::Command) -> Result<()> {
    let status = command.status().map_err(|error| anyhow::anyhow!("running {command:?}: {error}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Makes `path` by way of a draft beside it, unless it is there: what is found whole was made whole.
fn once(path: PathBuf, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if !path.exists() {
        let mut draft = path.clone().into_os_string();
        draft.push(".draft");
        let draft = PathBuf::from(draft);
        if draft.is_dir() {
            std::fs::remove_dir_all(&draft)?;
        }
        make(&draft)?;
        std::fs::rename(&draft, &path)?;
    }
    Ok(path)
}

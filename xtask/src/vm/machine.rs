//! The virtual machine: qemu without any device but two disks and a serial line.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Layout;

/// How long all suites may take; software emulation is ten times slower than the machine.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// A kernel that panics ends the machine instead of hanging.
const PARAMETERS: &str = "console=ttyS0 panic=-1 quiet";

/// The files that the machine is put together from, and the one that keeps its console.
pub struct Parts {
    pub kernel: PathBuf,
    pub boot: PathBuf,
    pub root: PathBuf,
    pub payload: PathBuf,
    pub console: PathBuf,
}

/// Runs the machine until it powers itself off; one that doesn't in time is ended and is an error.
pub fn boot(parts: &Parts, layout: Layout) -> Result<()> {
    let console = File::create(&parts.console)?;
    let kernel = format!("{PARAMETERS} corten.cgroup={}", layout.name());
    let kernel = if layout == Layout::V2 { kernel + " psi=1 cgroup_no_v1=all" } else { kernel };
    let disk = |file: &PathBuf| format!("file={},if=virtio,format=raw,snapshot=on", file.display());
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .args(["-device", "virtio-rng-pci"])
        .arg("-drive")
        .arg(disk(&parts.root))
        .arg("-drive")
        .arg(disk(&parts.payload))
        .arg("-kernel")
        .arg(&parts.kernel)
        .arg("-initrd")
        .arg(&parts.boot)
        .args(["-append", &kernel])
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .context("starting qemu-system-x86_64")?;
    let deadline = Instant::now() + LIMIT;
    while machine.try_wait()?.is_none() {
        if Instant::now() > deadline {
            machine.kill()?;
            machine.wait()?;
            bail!("the machine did not end in {} minutes; see {}", LIMIT.as_secs() / 60, parts.console.display());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

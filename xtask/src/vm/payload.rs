//! The test executables and what they look for at run time, each at the path that it has here, as one tar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use corten_testkit::{debian, engine::docker_client, workspace};
use serde_json::Value;

use super::must;

/// Packages whose tests meet the kernel, and of the product's own suites those about what a container may do and use.
const PACKAGES: [&str; 7] = [
    "corten-cgroup",
    "corten-runtime",
    "corten-snapshot",
    "corten-shim",
    "corten-sys",
    "corten-seccomp",
    "corten-network",
];
const SUITES: [&str; 12] = [
    "smoke",
    "apparmor",
    "limits",
    "isolation",
    "attacks",
    "executions",
    "init",
    "survival",
    "update",
    "stats",
    "runtimes",
    "runtime_command",
];

/// What tests run beside executables.
const SCRIPTS: [&str; 1] = ["crates/shim/tests/supervise/agent.py"];

/// Packs everything; with filters only the suites whose names contain one of them.
pub fn make(vm: &Path, filters: &[String]) -> Result<PathBuf> {
    let staging = vm.join("payload");
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    let mut list = String::new();
    for executable in executables()? {
        let wanted = filters.is_empty() || filters.iter().any(|filter| executable.name.contains(filter.as_str()));
        if executable.is_test && wanted {
            list += &format!("{} {} {}\n", executable.name, executable.package.display(), executable.path.display());
        }
        if wanted || !executable.is_test {
            strip(&executable.path, &inside(&staging, &executable.path)?)?;
            fs::create_dir_all(staging.join(relative(&executable.package)))?;
        }
    }
    ensure!(!list.is_empty(), "no suite is called like {filters:?}");
    fs::write(staging.join("suites"), list)?;
    let image = debian::busybox_tar();
    fs::copy(&image, inside(&staging, &image)?)?;
    fs::copy(on_path(&docker_client())?, inside(&staging, Path::new("/usr/local/bin/docker"))?)?;
    for script in SCRIPTS {
        let script = workspace().join(script);
        fs::copy(&script, inside(&staging, &script)?)?;
    }
    // testkit finds the repository by its own directory.
    fs::create_dir_all(staging.join(relative(&workspace().join("crates/testkit"))))?;
    script(&staging)?;
    let tar = vm.join("payload.tar");
    must(Command::new("tar").args(["--owner=0", "--group=0", "-C"]).arg(&staging).arg("-cf").arg(&tar).arg("."))?;
    Ok(tar)
}

fn script(staging: &Path) -> Result<()> {
    let path = staging.join("guest.sh");
    fs::write(&path, include_str!("guest.sh"))?;
    must(Command::new("chmod").arg("755").arg(path))
}

struct Executable {
    /// `package/target`.
    name: String,
    /// The package's directory, where cargo would run it.
    package: PathBuf,
    path: PathBuf,
    is_test: bool,
}

/// Builds the tests, and the product that some of them start.
fn executables() -> Result<Vec<Executable>> {
    let build = |arguments: &[&str]| -> Result<Vec<Executable>> {
        let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
            .args(["test", "--no-run", "--quiet", "--locked", "--message-format=json"])
            .args(arguments)
            .current_dir(workspace())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "building the tests failed");
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| read(&serde_json::from_str(line).ok()?)).collect())
    };
    let mut all = build(&PACKAGES.map(|package| ["-p", package]).concat())?;
    all.extend(build(&[&["-p", "corten"][..], &SUITES.map(|suite| ["--test", suite]).concat()].concat())?);
    Ok(all)
}

/// One message of cargo, if it tells of an executable.
fn read(message: &Value) -> Option<Executable> {
    let path = PathBuf::from(message["executable"].as_str()?);
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let name = format!("{}/{}", package.file_name()?.to_string_lossy(), message["target"]["name"].as_str()?);
    Some(Executable { name, package, path, is_test: message["profile"]["test"] == true })
}

/// Copies an executable without what only a debugger reads: the machine's memory and time are short.
fn strip(from: &Path, to: &Path) -> Result<()> {
    must(Command::new("strip").arg("-o").arg(to).arg(from))
}

/// The place in the staging directory of an absolute path, its parents made.
fn inside(staging: &Path, path: &Path) -> Result<PathBuf> {
    let place = staging.join(relative(path));
    fs::create_dir_all(place.parent().context("a file has a parent")?)?;
    Ok(place)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn on_path(program: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists());
    found.with_context(|| format!("{} is not on the PATH", program.display()))
}

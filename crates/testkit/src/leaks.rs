//! What an engine has on the machine at one moment: the leak check's list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything found that belongs to one engine. Two lists taken before and after an operation compare equal when it leaked nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Mounts below the engine's directory, in its mount namespace and in the machine's.
    pub mounts: BTreeSet<String>,
    /// Network links of its network namespace other than `lo` and the engine's bridge.
    pub links: BTreeSet<String>,
    /// Elements in the engine's nftables maps and sets.
    pub elements: BTreeSet<String>,
    /// Its cgroups below the parent that it was given.
    pub cgroups: BTreeSet<PathBuf>,
    /// The cgroups of its pool of warm supervisors, which are there as long as the daemon runs.
    pub pool: BTreeSet<PathBuf>,
    /// Processes other than the daemon that hold files of the engine open: shims, by command line.
    pub processes: BTreeSet<String>,
    /// Files of single containers, sandboxes and unfinished work below its directory.
    pub files: BTreeSet<PathBuf>,
}

impl Leaks {
    /// Lists what the engine called `name`, working in `directory` in the namespaces of `holder`, has now.
    pub fn of(holder: u32, name: &str, directory: &Path) -> Self {
        let in_pool = |group: &PathBuf| group.to_string_lossy().contains("/pool-");
        let (pool, cgroups) = cgroups(name).into_iter().partition(in_pool);
        Self {
            mounts: mounts(holder, directory),
            links: links(holder),
            elements: nft_elements(holder),
            cgroups,
            pool,
            processes: processes(directory),
            files: files(directory),
        }
    }
}

/// Ends every process that is in a cgroup of the engine called `name`.
pub fn kill_containers(name: &str) {
    for group in cgroups(name) {
        for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
    }
}

fn mounts(holder: u32, directory: &Path) -> BTreeSet<String> {
    let tables = [format!("/proc/{holder}/mountinfo"), "/proc/self/mountinfo".to_owned()];
    let directory = directory.to_string_lossy();
    let text: String = tables.iter().filter_map(|table| fs::read_to_string(table).ok()).collect();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&*directory))
        .map(str::to_owned)
        .collect()
}

fn links(holder: u32) -> BTreeSet<String> {
    let output = inside(holder, &["ip", "-o", "link"]);
    output
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| name.split('@').next().unwrap_or_default().to_owned())
        .filter(|name| !matches!(name.as_str(), "lo" | "corten0" | "uplink"))
        .collect()
}

fn nft_elements(holder: u32) -> BTreeSet<String> {
    let ruleset = inside(holder, &["nft", "list", "ruleset"]);
    ruleset
        .split("elements = {")
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .map(|list| list.trim().to_owned())
        .collect()
}

fn inside(holder: u32, command: &[&str]) -> String {
    let output = Command::new("nsenter")
        .args(["--target", &holder.to_string(), "--net", "--"])
        .args(command)
        .output()
        .unwrap_or_else(|error| panic!("running nsenter {command:?}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Removes the cgroup that the engine called `name` was given as its parent, and what a failed test has left below it.
pub fn remove_parent_groups(name: &str) {
    for parent in parent_groups(name) {
        let mut below = BTreeSet::new();
        collect_groups(&parent, &mut below);
        // In reverse order a child comes before its parent.
        for group in below.iter().rev().chain([&parent]) {
            let _ = fs::remove_dir(group);
        }
    }
}

fn parent_groups(name: &str) -> impl Iterator<Item = PathBuf> {
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    roots.chain(["/sys/fs/cgroup".into()]).map(move |root| root.join(name)).filter(|parent| parent.is_dir())
}

fn cgroups(name: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for parent in parent_groups(name) {
        collect_groups(&parent, &mut found);
    }
    found
}

fn collect_groups(parent: &Path, found: &mut BTreeSet<PathBuf>) {
    for group in
        fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
    {
        collect_groups(&group, found);
        found.insert(group);
    }
}

/// Processes that hold a file or directory of the engine open, other than this one and the daemon: a shim has its container's
/// directories open, so an orphan is found by them.
fn processes(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|process| {
            !command_line(process).contains(" daemon ") && !process.ends_with(std::process::id().to_string())
        })
        .filter(|process| holds_open(process, directory))
        .map(|process| format!("{} {}", process.display(), command_line(&process)))
        .collect()
}

fn command_line(process: &Path) -> String {
    String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn holds_open(process: &Path, directory: &Path) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.starts_with(directory))
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let lists = ["data/containers", "data/content/ingest", "run/sandboxes", "run/shims"];
    lists
        .iter()
        .flat_map(|list| fs::read_dir(directory.join(list)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}

//! What processes cost: the proportional set size of /proc/PID/smaps_rollup (proc_pid_smaps(5)), in kB.

use std::fs;

use anyhow::{Context, Result};

/// The proportional set size of one process, in kB (of 1,024 bytes, as the kernel prints it).
pub fn proportional(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("no Pss in {path}"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{path}: {line}"))
}

/// The children of a process and theirs, all of them.
pub fn descendants(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children: Vec<u32> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    children.iter().flat_map(|&child| std::iter::once(child).chain(descendants(child))).collect()
}

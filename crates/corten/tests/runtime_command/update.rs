//! `update`: every flag that is a limit, and the same limits as a document, in the files of the container's groups.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bench, bench};

/// A flag and its value, its section and key in the document; v1's controller and files of which one then says the value; v2's
/// files likewise with what one then says, nothing where v2 has no such limit.
struct Change(&'static str, &'static str, [&'static str; 2], [&'static str; 2], [&'static str; 2]);

/// In an order in which each is possible after the one before.
const CHANGES: [Change; 13] = [
    Change("cpu-period", "50000", ["cpu", "period"], ["cpu", "cpu.cfs_period_us"], ["cpu.max", "max 50000"]),
    Change("cpu-quota", "20000", ["cpu", "quota"], ["cpu", "cpu.cfs_quota_us"], ["cpu.max", "20000 50000"]),
    Change("cpu-burst", "7000", ["cpu", "burst"], ["cpu", "cpu.cfs_burst_us"], ["cpu.max.burst", "7000"]),
    Change("cpu-share", "512", ["cpu", "shares"], ["cpu", "cpu.shares"], ["cpu.weight", "59"]),
    Change("cpu-rt-period", "500000", ["cpu", "realtimePeriod"], ["cpu", "cpu.rt_period_us"], ["", ""]),
    Change("cpu-rt-runtime", "1000", ["cpu", "realtimeRuntime"], ["cpu", "cpu.rt_runtime_us"], ["", ""]),
    Change("cpuset-cpus", "0", ["cpu", "cpus"], ["cpuset", "cpuset.cpus"], ["cpuset.cpus", "0"]),
    Change("cpuset-mems", "0", ["cpu", "mems"], ["cpuset", "cpuset.mems"], ["cpuset.mems", "0"]),
    Change("cpu-idle", "1", ["cpu", "idle"], ["cpu", "cpu.idle"], ["cpu.idle", "1"]),
    Change(
        "memory-reservation",
        "33554432",
        ["memory", "reservation"],
        ["memory", "memory.soft_limit_in_bytes"],
        ["memory.low", "33554432"],
    ),
    Change("memory", "67108864", ["memory", "limit"], ["memory", "memory.limit_in_bytes"], ["memory.max", "67108864"]),
    Change("pids-limit", "77", ["pids", "limit"], ["pids", "pids.max"], ["pids.max", "77"]),
    Change(
        "blkio-weight",
        "300",
        ["blockIO", "weight"],
        ["blkio", "blkio.bfq.weight|blkio.weight"],
        ["io.bfq.weight|io.weight", "default 300"],
    ),
];

impl Change {
    /// The file that holds it, and what it is to say; nothing where this layout has no such limit.
    fn place(&self, bench: &Bench) -> Option<(PathBuf, &'static str)> {
        let Change(_, value, _, [controller, v1], [v2, says]) = *self;
        let groups = bench.groups();
        let part = format!("/{controller}/");
        let (group, names, value) = match groups.iter().find(|group| group.to_str().unwrap().contains(&part)) {
            Some(group) => (group, v1, value),
            None if v2.is_empty() => return None,
            None => (&groups[0], v2, says),
        };
        let mut files = names.split('|').map(|name| group.join(name));
        Some((files.clone().find(|file| file.exists()).unwrap_or_else(|| files.next_back().unwrap()), value))
    }

    /// As a document: lists are text, everything else is a number.
    fn document(&self) -> Value {
        let Change(_, value, [section, key], ..) = *self;
        let value = if ["cpus", "mems"].contains(&key) { json!(value) } else { serde_json::from_str(value).unwrap() };
        json!({section: {key: value}})
    }

    /// Makes the change, which succeeds where the kernel has the file, and else names it.
    fn check(&self, bench: &Bench, words: &[&str]) {
        let answer = bench.runtime(&[&["update"], words, &[bench.id.as_str()]].concat());
        match self.place(bench) {
            Some((file, value)) if file.exists() => {
                answer.ok();
                let text = fs::read_to_string(&file).unwrap();
                assert_eq!(text.lines().next(), Some(value), "{words:?}: {}", file.display());
            }
            Some((file, _)) => {
                println!("not on this kernel: {}", file.display());
                answer.fails(1, file.file_name().unwrap().to_str().unwrap());
            }
            None => drop(answer.ok()),
        }
    }
}

/// Below the root, which has real-time to give.
fn sleeper() -> Option<Bench> {
    let bench = bench("exec sleep 1000", |_, _| {})?;
    bench.configure(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", bench.id)));
    bench.run(&["--detach"]).ok();
    Some(bench)
}

fn end(bench: &Bench) {
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// Those of the list, and those that have a word or a test of their own here.
const OTHERS: [&str; 6] =
    ["resources", "kernel-memory", "kernel-memory-tcp", "memory-swap", "l3-cache-schema", "mem-bw-schema"];

#[test]
fn every_flag_reaches_its_file() {
    let Some(bench) = sleeper() else { return };
    let help = bench.runtime(&["update", "--help"]).ok();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split([',', ' ']).next());
    let tested: BTreeSet<&str> = CHANGES.iter().map(|change| change.0).chain(OTHERS).collect();
    assert_eq!(flags.collect::<BTreeSet<_>>(), tested);
    for change in &CHANGES {
        change.check(&bench, &[&format!("--{}", change.0), change.1]);
    }
    let answer = bench.runtime(&["update", "--kernel-memory", "1m", "--kernel-memory-tcp", "1m", &bench.id]);
    assert!(answer.err.contains("level=warning msg=\"Kernel memory settings are ignored and will be removed\""));
    answer.ok();
    end(&bench);
}

/// Together with memory: v1's file says the sum of both, v2's the difference.
#[test]
fn swap_goes_with_memory() {
    let Some(bench) = sleeper() else { return };
    let files = (["memory", "memory.memsw.limit_in_bytes"], "memory.swap.max");
    for (memory, swap, alone) in [("67108864", "134217728", "67108864"), ("33554432", "50331648", "16777216")] {
        let change = Change("memory-swap", swap, ["memory", "swap"], files.0, [files.1, alone]);
        if swap == "134217728" {
            change.check(&bench, &["--memory", memory, "--memory-swap", swap]);
        } else {
            let file = bench.path("resources");
            fs::write(&file, format!("{{\"memory\": {{\"limit\": {memory}, \"swap\": {swap}}}}}")).unwrap();
            change.check(&bench, &["-r", &file]);
        }
    }
    end(&bench);
}

/// Where the host has no resctrl; that schemata are written is shown on a directory, in the runtime's own tests.
#[test]
fn a_division_needs_a_processor_that_can() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let Some(bench) = sleeper() else { return };
    let update = |words: &[&str]| bench.runtime(&[&["update"], words, &[bench.id.as_str()]].concat());
    if mounts.contains(" - resctrl ") {
        update(&["--l3-cache-schema", "L3:0=1"]).fails(1, "");
    } else {
        update(&["--l3-cache-schema", "L3:0=1"]).fails(1, "Intel RDT/CAT: l3 cache schema is not enabled");
        update(&["--mem-bw-schema", "MB:0=20"]).fails(1, "Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    end(&bench);
}

#[test]
fn a_document_is_as_good_as_flags() {
    let Some(bench) = sleeper() else { return };
    let file = bench.path("resources");
    for change in &CHANGES {
        fs::write(&file, change.document().to_string()).unwrap();
        change.check(&bench, &["-r", &file]);
    }
    // Where there is a document, it alone counts.
    fs::write(&file, r#"{"pids": {"limit": 78}}"#).unwrap();
    bench.runtime(&["update", "--resources", &file, "--pids-limit", "79", &bench.id]).ok();
    assert_eq!(bench.group_file("pids", "pids.max", "pids.max"), "78");
    fs::write(&file, "{").unwrap();
    bench.runtime(&["update", "-r", &file, &bench.id]).fails(1, "cannot parse");
    end(&bench);
}

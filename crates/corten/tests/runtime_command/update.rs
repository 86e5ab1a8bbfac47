//! `update`: every flag that is a limit, and the same limits as a document, in the files of the container's groups.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bench, bench};

/// A flag with its value, the same as a document, and the files that then say so: on v1 in the hierarchy of a controller, and on
/// v2, where `None` is a limit that v2 does not know.
struct Change {
    flag: &'static str,
    document: Value,
    v1: (&'static str, &'static [&'static str], &'static str),
    v2: Option<(&'static [&'static str], &'static str)>,
}

fn change(
    flag: &'static str,
    document: Value,
    v1: (&'static str, &'static [&'static str], &'static str),
    v2: Option<(&'static [&'static str], &'static str)>,
) -> Change {
    Change { flag, document, v1, v2 }
}

/// In an order in which each is possible after the one before.
fn changes() -> Vec<Change> {
    let cpu = |key: &str, value: Value| json!({"cpu": {key: value}});
    let memory = |value: u64| json!({"memory": {"reservation": value}});
    vec![
        change(
            "--cpu-period=50000",
            cpu("period", json!(50000)),
            ("cpu", &["cpu.cfs_period_us"], "50000"),
            Some((&["cpu.max"], "max 50000")),
        ),
        change(
            "--cpu-quota=20000",
            cpu("quota", json!(20000)),
            ("cpu", &["cpu.cfs_quota_us"], "20000"),
            Some((&["cpu.max"], "20000 50000")),
        ),
        change(
            "--cpu-burst=7000",
            cpu("burst", json!(7000)),
            ("cpu", &["cpu.cfs_burst_us"], "7000"),
            Some((&["cpu.max.burst"], "7000")),
        ),
        change(
            "--cpu-share=512",
            cpu("shares", json!(512)),
            ("cpu", &["cpu.shares"], "512"),
            Some((&["cpu.weight"], "59")),
        ),
        change(
            "--cpu-rt-period=500000",
            cpu("realtimePeriod", json!(500_000)),
            ("cpu", &["cpu.rt_period_us"], "500000"),
            None,
        ),
        change(
            "--cpu-rt-runtime=1000",
            cpu("realtimeRuntime", json!(1000)),
            ("cpu", &["cpu.rt_runtime_us"], "1000"),
            None,
        ),
        change(
            "--cpuset-cpus=0",
            cpu("cpus", json!("0")),
            ("cpuset", &["cpuset.cpus"], "0"),
            Some((&["cpuset.cpus"], "0")),
        ),
        change(
            "--cpuset-mems=0",
            cpu("mems", json!("0")),
            ("cpuset", &["cpuset.mems"], "0"),
            Some((&["cpuset.mems"], "0")),
        ),
        change("--cpu-idle=1", cpu("idle", json!(1)), ("cpu", &["cpu.idle"], "1"), Some((&["cpu.idle"], "1"))),
        change(
            "--memory-reservation=32m",
            memory(32 << 20),
            ("memory", &["memory.soft_limit_in_bytes"], "33554432"),
            Some((&["memory.low"], "33554432")),
        ),
        change(
            "--memory=64m",
            json!({"memory": {"limit": 64 << 20}}),
            ("memory", &["memory.limit_in_bytes"], "67108864"),
            Some((&["memory.max"], "67108864")),
        ),
        change(
            "--pids-limit=77",
            json!({"pids": {"limit": 77}}),
            ("pids", &["pids.max"], "77"),
            Some((&["pids.max"], "77")),
        ),
        change(
            "--blkio-weight=300",
            json!({"blockIO": {"weight": 300}}),
            ("blkio", &["blkio.bfq.weight", "blkio.weight"], "300"),
            Some((&["io.bfq.weight", "io.weight"], "default 300")),
        ),
    ]
}

impl Change {
    /// The file that holds it, and what it is to say; nothing where this layout has no such limit.
    fn place(&self, bench: &Bench) -> Option<(PathBuf, &'static str)> {
        let groups = bench.groups();
        let (controller, names, value) = self.v1;
        let part = format!("/{controller}/");
        let (group, names, value) = match groups.iter().find(|group| group.to_str().unwrap().contains(&part)) {
            Some(group) => (group, names, value),
            None => self.v2.map(|(names, value)| (&groups[0], names, value))?,
        };
        let mut files = names.iter().map(|name| group.join(name));
        Some((files.clone().find(|file| file.exists()).unwrap_or_else(|| files.next_back().unwrap()), value))
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

#[test]
fn every_flag_reaches_its_file() {
    let Some(bench) = sleeper() else { return };
    for change in changes() {
        change.check(&bench, &[change.flag]);
    }
    let answer = bench.runtime(&["update", "--kernel-memory", "1m", "--kernel-memory-tcp", "1m", &bench.id]);
    assert!(answer.err.contains("level=warning msg=\"Kernel memory settings are ignored and will be removed\""));
    answer.ok();
    end(&bench);
}

#[test]
fn a_document_is_as_good_as_flags() {
    let Some(bench) = sleeper() else { return };
    let file = bench.path("resources");
    for change in changes() {
        fs::write(&file, change.document.to_string()).unwrap();
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

//! Control groups: where they are, limits, statistics, events.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{Bench, bench};

#[test]
fn pause_update_and_events() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    bench.on("pause").ok();
    assert_eq!(bench.status(), "paused");
    bench.runtime(&["exec", &bench.id, "true"]).fails(255, "cannot exec in a paused container");
    bench.on("resume").ok();
    assert_eq!(bench.status(), "running");
    bench.runtime(&["update", "--pids-limit", "77", "--memory", "64m", &bench.id]).ok();
    let event: Value = serde_json::from_str(&bench.runtime(&["events", "--stats", &bench.id]).ok()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bench.id)));
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 77}));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], json!(64 << 20));
    fs::write(bench.path("resources"), r#"{"pids": {"limit": 78}}"#).unwrap();
    bench.runtime(&["update", "-r", &bench.path("resources"), &bench.id]).ok();
    let event: Value = serde_json::from_str(&bench.runtime(&["events", "--stats", &bench.id]).ok()).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 78);
    bench.on("pause").ok();
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// Lines of `events`, up to its end.
fn events(bench: &Bench, flags: &[&str]) -> (Child, impl Iterator<Item = Value> + use<>) {
    let mut child =
        bench.command(&[&["events"], flags, &[bench.id.as_str()]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

#[test]
fn events_come_until_the_end() {
    // What is killed for memory is the hog, not the init.
    let script = "read line </go; tail /dev/zero; echo $? >/code; exec sleep 1000";
    let Some(bench) = bench(script, |config, _| {
        config["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    }) else {
        return;
    };
    let fifo = bench.path("bundle/rootfs/go");
    rustix::fs::mknodat(rustix::fs::CWD, &*fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    bench.run(&["--detach"]).ok();
    bench.runtime(&["events", "--interval", "0s", &bench.id]).fails(1, "interval must be greater than 0");
    let (mut child, mut lines) = events(&bench, &["--interval", "10ms"]);
    // The first statistics mean that the watch is there.
    let first = lines.next().unwrap();
    assert_eq!((&first["type"], &first["data"]["memory"]["usage"]["limit"]), (&json!("stats"), &json!(32 << 20)));
    for key in ["cpu", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
        assert!(first["data"][key].is_object(), "{key}: {first}");
    }
    fs::OpenOptions::new().write(true).open(fifo).unwrap().write_all(b"go\n").unwrap();
    let oom = lines.find(|line| line["type"] == "oom").unwrap();
    assert_eq!(oom, json!({"type": "oom", "id": bench.id}));
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    assert!(lines.all(|line| line["id"] == bench.id.as_str()));
    assert!(child.wait().unwrap().success());
    bench.wait_for_end();
    bench.on("events").fails(1, "is not running");
    bench.on("delete").ok();
    bench.runtime(&["events", "nosuch"]).fails(1, "container does not exist");
    bench.is_clean();
}

#[test]
fn limits_are_changed_one_by_one() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let update = |words: &[&str]| bench.runtime(&[&["update"], words, &[bench.id.as_str()]].concat());
    let file = |controller: &str, v1: &str, v2: &str| bench.group_file(controller, v1, v2);
    update(&["--cpu-share", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
    assert!(["512", "59", "20"].contains(&&*file("cpu", "cpu.shares", "cpu.weight")));
    assert_eq!(file("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(file("cpuset", "cpuset.mems", "cpuset.mems"), "0");
    update(&["--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m"]).ok();
    assert_eq!(file("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(file("memory", "memory.soft_limit_in_bytes", "memory.low"), (32 << 20).to_string());
    // A later change sees what the earlier ones have set: what is not named stays.
    update(&["--memory", "96m"]).ok();
    assert_eq!(file("memory", "memory.limit_in_bytes", "memory.max"), (96 << 20).to_string());
    assert_eq!(file("memory", "memory.soft_limit_in_bytes", "memory.low"), (32 << 20).to_string());
    update(&["--memory", "-1", "--memory-swap", "-1"]).ok();
    assert!(file("memory", "memory.limit_in_bytes", "memory.max").len() != 9, "the limit is gone");
    let mut command = bench.command(&["update", "-r", "-", &bench.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let resources = json!({"pids": {"limit": 79}, "devices": [{"allow": false, "access": "rwm"}]});
    child.stdin.take().unwrap().write_all(resources.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(file("pids", "pids.max", "pids.max"), "79");
    // Devices are not an update's: the null device is still there for an exec.
    bench.runtime(&["exec", &bench.id, "sh", "-c", "echo >/dev/null"]).ok();
    update(&["--memory", "lots"]).fails(1, "invalid value for memory: invalid size: 'lots'");
    update(&["-r", "/nowhere"]).fails(1, "cannot read /nowhere: no such file or directory");
    update(&["--cpuset-cpus", "9999"]).fails(1, "failed to write \"9999\": write /");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn processor_time_is_limited_and_changed() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let update = |words: &[&str]| bench.runtime(&[&["update"], words, &[bench.id.as_str()]].concat());
    let groups = bench.groups();
    if groups.iter().any(|group| group.ends_with("cpu/x") || group.join("cpu.shares").exists())
        && !groups.iter().any(|group| group.join("cpu.cfs_quota_us").exists())
    {
        println!("skipped: this kernel limits no processor time");
        bench.runtime(&["delete", "--force", &bench.id]).ok();
        return;
    }
    update(&["--cpu-period", "50000", "--cpu-quota", "20000"]).ok();
    update(&["--cpu-quota", "10000"]).ok();
    let quota = bench.group_file("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(["10000", "10000 50000"].contains(&&*quota), "{quota}");
    update(&["--cpu-period", "40000"]).ok();
    let period = bench.group_file("cpu", "cpu.cfs_period_us", "cpu.max");
    assert!(["40000", "10000 40000"].contains(&&*period), "{period}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn a_group_that_others_live_in_is_refused() {
    let Some(bench) = bench("exec sleep 1000", |config, _| {
        config["linux"]["cgroupsPath"] = json!(format!("/corten-test-{}/in/use", std::process::id()));
    }) else {
        return;
    };
    bench.run(&["--detach"]).ok();
    let create = ["create", "--bundle", &bench.path("bundle"), "corten-second"];
    bench.runtime(&create).fails(1, "container's cgroup is not empty: 1 process(es) found");
    assert_eq!(bench.status(), "running", "the first one is not touched");
    assert!(bench.runtime(&["list", "-q"]).ok().lines().eq([bench.id.as_str()]));
    // One that is there and empty is taken.
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    bench.runtime(&create).ok();
    bench.runtime(&["delete", "--force", "corten-second"]).ok();
    bench.on("delete").ok();
    bench.is_clean();
    let parent = format!("corten-test-{}", std::process::id());
    for root in
        fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()])
    {
        let _ = fs::remove_dir(root.join(&parent).join("in"));
        let _ = fs::remove_dir(root.join(&parent));
    }
}

/// A relative path begins in the caller's own groups, on v2 in the one above; so does the default, which is the id.
#[test]
fn relative_groups_are_the_callers() {
    for relative in [false, true] {
        let Some(bench) = bench("cat /proc/self/cgroup", |config, place| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let id = place.file_name().unwrap().to_str().unwrap();
            config["linux"]["cgroupsPath"] =
                if relative { json!(format!("{id}/x")) } else { json!(format!("/{id}/x")) };
        }) else {
            return;
        };
        let name = bench.place.path().file_name().unwrap().to_str().unwrap().to_owned();
        let seen = bench.run(&[]).ok();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let group = |text: &str, number: &str| {
            let line = text.lines().find(|line| line.split(':').next() == Some(number)).unwrap();
            line.splitn(3, ':').nth(2).unwrap().to_owned()
        };
        let v1 = seen.lines().any(|line| !line.starts_with("0::") && line.ends_with("/x"));
        for line in seen.lines().filter(|line| v1 != line.starts_with("0::")) {
            let number = line.split(':').next().unwrap();
            let own = group(&own, number);
            let above = if v1 { own } else { own.rsplit_once('/').unwrap().0.to_owned() };
            let above = if relative { above.trim_end_matches('/').to_owned() } else { String::new() };
            assert_eq!(group(&seen, number), format!("{above}/{name}/x"));
        }
        bench.is_clean();
        remove_parents(&name);
    }
}

/// A group above the container's is not the runtime's to remove.
fn remove_parents(name: &str) {
    fn walk(directory: &std::path::Path, name: &str) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), name);
                if entry.file_name() == name {
                    fs::remove_dir(entry.path()).unwrap();
                }
            }
        }
    }
    walk(std::path::Path::new("/sys/fs/cgroup"), name);
}

//! `docker update`: limits and restart policy of containers that are there, running or not, on whatever control groups the machine
//! has (`./x vm-test` runs this on v2).

mod common;

use std::time::{Duration, Instant};

use common::engine;
use corten_testkit::{TestEngine, is_root};
use serde_json::Value;

/// The file of a running container's group as the container sees it, by its name on v2 and on v1.
fn limit(engine: &TestEngine, container: &str, v2: &str, v1: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}");
    engine.docker(&["exec", container, "sh", "-c", &script]).ok().to_owned()
}

fn inspect(engine: &TestEngine, container: &str, format: &str) -> String {
    engine.docker(&["inspect", "-f", format, container]).ok().to_owned()
}

fn start(engine: &TestEngine, options: &[&str]) {
    engine.docker(&[&["run", "-d", "--network", "none"], options, &["busybox", "sleep", "1000"]].concat()).ok();
}

/// A request to update, answered with this status; the body.
fn post(engine: &TestEngine, version: &str, container: &str, body: &str, status: u16) -> Value {
    let answer = engine.post(&format!("{version}/containers/{container}/update"), body);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn a_running_containers_limits_change() {
    if !is_root("a_running_containers_limits_change") {
        return;
    }
    let mut engine = engine();
    start(&engine, &["--name", "box", "-m", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "20"]);
    let shown = |engine: &TestEngine| {
        let cpu = limit(engine, "box", "cpu.max", "cpu/cpu.cfs_quota_us");
        [
            limit(engine, "box", "memory.max", "memory/memory.limit_in_bytes"),
            cpu.split(' ').next().unwrap_or_default().to_owned(),
            limit(engine, "box", "pids.max", "pids/pids.max"),
            limit(engine, "box", "cpuset.cpus", "cpuset/cpuset.cpus"),
        ]
    };
    let all = shown(&engine)[3].clone();
    assert_eq!(shown(&engine)[..3], ["67108864", "50000", "20"]);
    let options = ["-m", "80m", "--memory-swap", "160m", "--cpus", "0.25", "--pids-limit", "30", "--cpuset-cpus", "0"];
    let updated = engine.docker(&[&["update"], &options[..], &["box"]].concat());
    assert_eq!((updated.ok(), updated.stderr.as_str()), ("box", ""));
    assert_eq!(shown(&engine), ["83886080", "25000", "30", "0"]);
    // Alone, each leaves the others.
    engine.docker(&["update", "--pids-limit", "-1", "box"]).ok();
    engine.docker(&["update", "-c", "512", "box"]).ok();
    assert_eq!(shown(&engine), ["83886080", "25000", "max", "0"]);
    assert_eq!(limit(&engine, "box", "cpu.weight", "cpu/cpu.shares"), if all.is_empty() { "59" } else { "512" });
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} \
                  {{.HostConfig.CpusetCpus}} {{.HostConfig.CpuShares}}";
    let expect = "83886080 167772160 250000000 0 0 512";
    assert_eq!(inspect(&engine, "box", format), expect);
    // They are the container's from now on, whatever becomes of daemon and process.
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(inspect(&engine, "box", format), expect);
    assert_eq!(shown(&engine), ["83886080", "25000", "max", "0"]);
    engine.docker(&["restart", "-t", "0", "box"]).ok();
    assert_eq!(shown(&engine), ["83886080", "25000", "max", "0"]);
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn a_stopped_container_starts_with_its_new_limits() {
    if !is_root("a_stopped_container_starts_with_its_new_limits") {
        return;
    }
    let engine = engine();
    engine.docker(&["create", "--name", "box", "--network", "none", "-m", "64m", "busybox", "sleep", "1000"]).ok();
    engine.docker(&["update", "-m", "72m", "--memory-reservation", "32m", "box"]).ok();
    engine.docker(&["start", "box"]).ok();
    assert_eq!(limit(&engine, "box", "memory.max", "memory/memory.limit_in_bytes"), "75497472");
    assert_eq!(limit(&engine, "box", "memory.low", "memory/memory.soft_limit_in_bytes"), "33554432");
    engine.docker(&["pause", "box"]).ok();
    engine.docker(&["update", "-m", "80m", "box"]).ok();
    engine.docker(&["unpause", "box"]).ok();
    assert_eq!(limit(&engine, "box", "memory.max", "memory/memory.limit_in_bytes"), "83886080");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    if !is_root("what_cannot_be_is_refused_in_dockers_words") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box", "-m", "64m", "--cpus", "0.5"]);
    start(&engine, &["--name", "period", "--cpu-period", "50000"]);
    let id = inspect(&engine, "box", "{{.Id}}");
    let update = |options: &[&str]| engine.docker(&[&["update"], options].concat());
    let refuse =
        |options: &[&str], text: &str| update(options).fails(1, &format!("Error response from daemon: {text}"));
    refuse(&["-m", "4m", "box"], "Minimum memory limit allowed is 6MB");
    refuse(
        &["-m", "64m", "--memory-swap", "32m", "box"],
        "Minimum memoryswap limit should be larger than memory limit",
    );
    let text = format!(
        "Cannot update container {id}: Memory limit should be smaller than already set memoryswap limit, update the \
         memoryswap at the same time"
    );
    refuse(&["-m", "512m", "box"], &text);
    let text = format!(
        "Cannot update container {id}: Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
    );
    refuse(&["--cpu-period", "5000", "box"], &text);
    refuse(
        &["--cpus", "1", "--cpu-quota", "5000", "box"],
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
    );
    update(&["--cpus", "1", "period"]).fails(1, "Nano CPUs cannot be updated as CPU Period has already been set");
    refuse(&["--cpuset-cpus", "4000", "box"], "Requested CPUs are not available - requested 4000, available: ");
    // Not every kernel has a scheduler with weights: the warning stands with the results, as Docker's client has it.
    let weight = update(&["--blkio-weight", "5", "box"]);
    let unknown = "box\nYour kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
    assert!(weight.stderr.contains("Range of blkio weight is from 10 to 1000") || weight.ok() == unknown, "{weight:?}");
    update(&["--restart", "sometimes", "box"]).fails(1, "invalid restart policy: unknown policy 'sometimes'");
    update(&["-m", "64m", "nosuch"]).fails(1, "No such container: nosuch");
    update(&["box"]).fails(1, "you must provide one or more flags when using this command");
    // Nothing of all that has changed anything.
    assert_eq!(inspect(&engine, "box", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"), "67108864 500000000");
    assert_eq!(limit(&engine, "box", "memory.max", "memory/memory.limit_in_bytes"), "67108864");
    post(&engine, "/v1.51", "box", r#"{"Memory": 536870912}"#, 409);
    post(&engine, "/v1.51", "box", r#"{"Memory": 1}"#, 400);
    post(&engine, "/v1.51", "nosuch", "{}", 404);
    engine.docker(&["rm", "-f", "box", "period"]).ok();
    engine.finish();
}

/// What the kernel refuses leaves the container as it was.
#[test]
fn a_refusal_of_the_kernel_leaves_nothing() {
    if !is_root("a_refusal_of_the_kernel_leaves_nothing") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box", "--cpu-period", "100000", "--cpu-quota", "50000", "--pids-limit", "20"]);
    // A quota of more than its largest number; Docker's own check knows no upper bound.
    let body = r#"{"PidsLimit": 30, "CpuQuota": 9223372036854775807}"#;
    let refused = post(&engine, "/v1.51", "box", body, 500);
    assert!(refused["message"].as_str().is_some_and(|text| text.starts_with("Cannot update container ")), "{refused}");
    assert_eq!(inspect(&engine, "box", "{{.HostConfig.CpuQuota}} {{.HostConfig.PidsLimit}}"), "50000 20");
    assert_eq!(limit(&engine, "box", "pids.max", "pids/pids.max"), "20");
    let cpu = limit(&engine, "box", "cpu.max", "cpu/cpu.cfs_quota_us");
    assert!(["50000 100000", "50000"].contains(&cpu.as_str()), "{cpu}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn the_restart_policy_counts_from_the_next_end() {
    if !is_root("the_restart_policy_counts_from_the_next_end") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box"]);
    engine.docker(&["update", "--restart", "on-failure:3", "box"]).ok();
    let policy = "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(inspect(&engine, "box", policy), "on-failure:3");
    // Nobody stopped it: it failed, and comes back.
    let pid = common::pid(&engine, "box");
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill(1)").success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while inspect(&engine, "box", "{{.RestartCount}} {{.State.Status}}") != "1 running" {
        assert!(Instant::now() < deadline, "the container stays away:\n{}", engine.log());
    }
    engine.docker(&["rm", "-f", "box"]).ok();
    // A container that goes with its end can't come back.
    start(&engine, &["--name", "brief", "--rm"]);
    let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
    engine.docker(&["update", "--restart", "always", "brief"]).fails(1, text);
    engine.docker(&["rm", "-f", "brief"]).ok();
    engine.finish();
}

#[test]
fn versions_events_and_both_clients() {
    if !is_root("versions_events_and_both_clients") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box", "--pids-limit", "20"]);
    assert_eq!(post(&engine, "/v1.51", "box", r#"{"CpuShares": 300}"#, 200), serde_json::json!({"Warnings": null}));
    // Before 1.40 the API knew no limit of tasks here; until 1.41 it knew kernel memory, which no kernel limits any more.
    let old = post(&engine, "/v1.39", "box", r#"{"PidsLimit": 5, "KernelMemory": 67108864}"#, 200);
    let text = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation \
                discarded.";
    assert_eq!(old, serde_json::json!({"Warnings": [text]}));
    assert_eq!(post(&engine, "/v1.42", "box", r#"{"KernelMemory": 67108864}"#, 200)["Warnings"], Value::Null);
    assert_eq!(inspect(&engine, "box", "{{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}"), "20 300");
    let options =
        ["update", "-m", "64m", "--memory-swap", "-1", "--cpu-quota", "30000", "--restart", "unless-stopped", "box"];
    assert_eq!(engine.corten(&options).ok(), "box");
    let format =
        "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuQuota}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(inspect(&engine, "box", format), "67108864 -1 30000 unless-stopped");
    engine.corten(&["update", "-m", "64m", "nosuch"]).fails(1, "Error response from daemon: No such container: nosuch");
    engine.corten(&["update", "box"]).fails(1, "you must provide one or more flags when using this command");
    // Whole seconds: until the end of this one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    let until = (now.as_secs() + 1).to_string();
    let events = ["events", "--since", "1", "--until", &until, "--filter", "event=update"];
    let events = engine.docker(&[&events[..], &["--format", "{{.Actor.Attributes.name}}"]].concat());
    assert_eq!(events.ok().lines().collect::<Vec<_>>(), ["box"; 4]);
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

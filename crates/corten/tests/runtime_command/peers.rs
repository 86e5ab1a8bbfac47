//! The same questions to runc, inside the root that `./x peers` makes.

use std::collections::BTreeSet;
use std::process::Command;

use corten_testkit::peers;
use serde_json::{Value, json};

use crate::support::bench;

/// What runc says; none, and a line that says why, where it is not there.
fn runc(words: &[&str]) -> Option<String> {
    if !corten_testkit::is_root("peers") {
        return None;
    }
    let root = corten_testkit::workspace().join("target/peers/sid");
    if !root.join("usr/bin/runc").exists() {
        println!("skipped: there is no runc to compare with; ./x peers makes its root");
        return None;
    }
    let enter = r#"root=$1; shift; mount -t proc proc "$root/proc"; exec chroot "$root" runc "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-eu", "-c", enter, "sh"]).arg(root).args(words);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn ours(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_corten")).arg("runtime").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn flags(help: &str) -> BTreeSet<String> {
    let words = help
        .lines()
        .filter(|line| line.trim_start().starts_with("--"))
        .filter_map(|line| line.split_whitespace().next());
    words.map(|word| word.trim_end_matches(',').to_owned()).collect()
}

/// Every flag that runc's help names.
#[test]
fn flags_are_runcs() {
    for command in [
        "create", "delete", "events", "exec", "kill", "list", "pause", "ps", "resume", "run", "spec", "start", "state",
        "update",
    ] {
        let Some(theirs) = runc(&[command, "--help"]) else { return };
        let ours = flags(&ours(&[command, "--help"]));
        let missing: Vec<_> = flags(&theirs).into_iter().filter(|flag| !ours.contains(flag)).collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
    }
    let theirs = runc(&["--help"]).unwrap();
    let ours = flags(&ours(&["--help"]));
    assert!(flags(&theirs).is_subset(&ours), "{ours:?}");
}

/// Everything that runc lists as a feature, but for what is left out here by intention.
#[test]
fn features_are_runcs() {
    let Some(theirs) = runc(&["features"]) else { return };
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let ours: Value = serde_json::from_str(&ours(&["features"])).unwrap();
    let mut missing = Vec::new();
    compare("", &theirs, &ours, &mut missing);
    let intended = |place: &String| {
        // No systemd driver, no annotations that change anything, no machine but three.
        ["/linux/cgroup/systemd", "/potentiallyUnsafeConfigAnnotations", "/annotations", "/ociVersionMax"]
            .iter()
            .any(|it| place.starts_with(it))
            || place.starts_with("/linux/seccomp/archs")
    };
    missing.retain(|place| !intended(place));
    assert!(missing.is_empty(), "{missing:?}");
}

/// Places where `theirs` has more than `ours`.
fn compare(place: &str, theirs: &Value, ours: &Value, missing: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), _) => {
            for (key, value) in theirs {
                compare(&format!("{place}/{key}"), value, &ours[key], missing);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            let left = theirs.iter().filter(|value| !ours.contains(value));
            missing.extend(left.map(|value| format!("{place}: {value}")));
        }
        (theirs, ours) if theirs != ours => missing.push(format!("{place}: {theirs}, not {ours}")),
        _ => {}
    }
}

/// Ends of a container, each step with its exit code and message. `RUNTIME` is the command, `ROOT` its containers' directory.
const ENDS: &str = r#"
    step() {
        code=0
        $RUNTIME "$@" </dev/null >/dev/null 2>"$ROOT.err" || code=$?
        echo "$*: $code $(sed -n 's/.*level=error msg="\(.*\)"$/\1/p' "$ROOT.err")"
    }
    # Also where it has never begun, which the answers tell.
    ended() { until $RUNTIME state "$1" | grep -q stopped || [ ! -e "$ROOT/$1" ]; do :; done; }
    mkdir -p "$ROOT/empty"
    for command in 'kill none' 'delete none' 'delete --force none' 'delete empty' 'delete empty' 'kill none NOPE'; do step $command; done
    step create one; step kill one NOPE; step delete one
    step create one; step kill one KILL; ended one; step delete one
    step run -d one
    for command in 'delete one' 'kill one CONT' 'pause one' 'delete one' 'kill one KILL'; do step $command; done
    ended one
    for command in 'kill one' 'kill one KILL' 'kill --all one KILL' 'pause one' 'resume one' 'start one'; do step $command; done
    for command in 'delete one' 'delete one' 'delete --force one'; do step $command; done
"#;

/// With a PID namespace of the container's own and without.
#[test]
fn ends_are_runcs() {
    if runc(&["--version"]).is_none() {
        return;
    }
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    for own_processes in [true, false] {
        if !own_processes {
            bench.configure(|config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != "pid");
            });
        }
        let sid = corten_testkit::workspace().join("target/peers/sid");
        let mut theirs = peers::enter(&sid, bench.place.path(), &[]);
        theirs.args(["sh", "-euc", &format!("cd /bench/bundle; RUNTIME=runc ROOT=/run/runc; {ENDS}")]);
        let (mut ours, root) = (Command::new("sh"), bench.path("state"));
        let runtime = format!("{} runtime --root {root}", env!("CARGO_BIN_EXE_corten"));
        ours.args(["-euc", &format!("RUNTIME='{runtime}' ROOT={root}; {ENDS}")]).current_dir(bench.path("bundle"));
        let [theirs, ours] = [theirs, ours].map(|mut command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        });
        assert!(theirs.lines().count() > 20, "{theirs}");
        assert_eq!(theirs.lines().collect::<Vec<_>>(), ours.lines().collect::<Vec<_>>(), "{own_processes}");
    }
    bench.is_clean();
}

/// The same bundle here and there: the same fields, and the same values where they say what was set.
#[test]
fn events_are_runcs() {
    if runc(&["--version"]).is_none() {
        return;
    }
    let Some(bench) = bench("exec sleep 1000", |config, _| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    }) else {
        return;
    };
    let script =
        "cd /bench/bundle; runc run -d \"$1\" </dev/null >/dev/null; runc events --stats \"$1\"; runc delete -f \"$1\"";
    let mut peers = peers::enter(&corten_testkit::workspace().join("target/peers/sid"), bench.place.path(), &[]);
    let output = peers.args(["sh", "-eu", "-c", script, "sh", &bench.id]).output().unwrap();
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    bench.run(&["--detach"]).ok();
    let ours: Value = serde_json::from_str(&bench.runtime(&["events", "--stats", &bench.id]).ok()).unwrap();
    let mut fields = [BTreeSet::new(), BTreeSet::new()];
    for (value, fields) in [&theirs, &ours].into_iter().zip(&mut fields) {
        collect("", value, fields);
        // Left out while they are zero.
        fields.retain(|place| place != "/data/memory/cache" && !place.starts_with("/data/blkio/"));
    }
    assert_eq!(fields[0], fields[1]);
    let same =
        ["/id", "/type", "/data/cpuset", "/data/pids/limit", "/data/memory/usage/limit", "/data/memory/swap/limit"];
    for place in
        same.into_iter().chain(["/data/memory/kernel/limit", "/data/memory/kernelTCP", "/data/network_interfaces"])
    {
        assert_eq!(theirs.pointer(place), ours.pointer(place), "{place}");
        assert!(theirs.pointer(place).is_some(), "{place}");
    }
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// The places of all fields.
fn collect(place: &str, value: &Value, fields: &mut BTreeSet<String>) {
    fields.insert(place.to_owned());
    for (key, value) in value.as_object().into_iter().flatten() {
        collect(&format!("{place}/{key}"), value, fields);
    }
}

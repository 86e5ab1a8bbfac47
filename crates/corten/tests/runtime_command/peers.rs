//! The same questions to runc, inside the root that `./x peers` makes.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

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

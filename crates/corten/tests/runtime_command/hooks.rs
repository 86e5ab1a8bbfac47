//! Hooks: their order, places, state, failures.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bench;

/// A hook that writes its stage, the state's status, and where it stands.
fn hook(stage: &str, place: &Path, inside: bool) -> Value {
    let log = if inside { "/hooks".to_owned() } else { place.join("hooks").display().to_string() };
    // Outside, the host's own shell; in the container, its.
    let path = if inside { "/bin/sh" } else { "/usr/bin/sh" };
    let script = format!(
        "read -r state; case $state in *'\"status\":\"'*) s=${{state#*'\"status\":\"'}}; s=${{s%%'\"'*}};; esac; \
         echo \"{stage} $s\" >>{log}"
    );
    json!([{"path": path, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

#[test]
fn hooks_run_in_their_order_and_places() {
    let Some(bench) = bench("echo program >>/hooks; exec sleep 1000", |config, place| {
        let outside = |stage| hook(stage, place, false);
        config["hooks"] = json!({
            "prestart": outside("prestart"), "createRuntime": outside("createRuntime"),
            "createContainer": outside("createContainer"), "startContainer": hook("startContainer", place, true),
            "poststart": outside("poststart"), "poststop": outside("poststop"),
        });
    }) else {
        return;
    };
    let (outside, inside) = (bench.path("hooks"), bench.path("bundle/rootfs/hooks"));
    bench.create(&[]).ok();
    let created = "prestart creating\ncreateRuntime creating\ncreateContainer creating\n";
    assert_eq!(fs::read_to_string(&outside).unwrap(), created);
    assert!(!Path::new(&inside).exists());
    bench.on("start").ok();
    assert!(fs::read_to_string(&inside).unwrap().starts_with("startContainer created\n"));
    assert_eq!(fs::read_to_string(&outside).unwrap(), format!("{created}poststart running\n"));
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    assert_eq!(fs::read_to_string(&outside).unwrap(), format!("{created}poststart running\npoststop stopped\n"));
    bench.is_clean();
}

/// What the hook is called, its words and its environment are what the list says; on standard input it has the container's
/// state, with the annotations. In the container as outside.
#[test]
fn hooks_have_words_and_an_environment_of_their_own() {
    let script = "read -r state; echo \"$0|$1|$2\"; echo $state; cat /proc/self/environ; exit 9";
    for stage in ["createRuntime", "startContainer"] {
        let Some(bench) = bench("true", |config, _| {
            // Busybox is what it is called.
            let (path, called) =
                if stage == "startContainer" { ("/bin/busybox", "sh") } else { ("/usr/bin/sh", "called") };
            config["annotations"] = json!({"org.some": "thing"});
            let args = json!([called, "-c", script, "name", "a b", ""]);
            config["hooks"] = json!({stage: [{"path": path, "args": args, "env": ["PATH=/bin:/usr/bin", "ONE=1=2"]}]});
        }) else {
            return;
        };
        let answer = bench.run(&[]);
        // A failed hook's output is told; as a log line it stands in quotes.
        let said = answer.err.replace('\\', "");
        assert!(answer.code == Some(1) && said.contains("name|a b|"), "{stage}: {answer:?}");
        assert!(said.contains("\"annotations\":{\"org.some\":\"thing\"}"), "{stage}: {said}");
        assert!(said.contains("ONE=1=2") && !said.contains("HOME=") && !said.contains("CARGO"), "{stage}: {said}");
        bench.is_clean();
    }
}

/// More than a pipe has room for, and than an error tells.
#[test]
fn hooks_may_say_much() {
    let script = "dd if=/dev/zero bs=64k count=64 && dd if=/dev/zero bs=64k count=64 >&2 && echo done >../said";
    let Some(bench) = bench("true", |config, _| {
        config["hooks"] = json!({"createRuntime": [{"path": "/usr/bin/sh", "args": ["sh", "-ec", script], "env": ["PATH=/bin:/usr/bin"]}]});
    }) else {
        return;
    };
    bench.run(&[]).ok();
    assert_eq!(fs::read_to_string(bench.path("said")).unwrap(), "done\n");
    bench.is_clean();
}

#[test]
fn a_hook_that_fails_or_takes_too_long_ends_the_container() {
    let failing = json!([{"path": "/usr/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]);
    let slow = json!([{"path": "/usr/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    for (stage, hooks, text) in [
        ("createRuntime", &failing, "error running createRuntime hook #0: /usr/bin/sh: exit status: 3, output: why"),
        ("prestart", &slow, "it did not end within 1 s"),
        ("createContainer", &failing, "error running createContainer hook #0"),
    ] {
        let Some(bench) = bench("true", |config, place| {
            config["hooks"] = json!({stage: hooks, "poststop": hook("poststop", place, false)});
        }) else {
            return;
        };
        bench.create(&[]).fails(1, text);
        assert_eq!(fs::read_to_string(bench.path("hooks")).unwrap(), "poststop stopped\n", "{stage}");
        bench.is_clean();
    }
    let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 4"]}]);
    let Some(bench) = bench("true", |config, _| config["hooks"] = json!({"startContainer": inside})) else { return };
    bench.create(&[]).ok();
    bench.on("start").fails(1, "error running startContainer hook #0");
    bench.wait_for_end();
    bench.on("delete").ok();
    bench.is_clean();
}

/// The runtime specification 1.3, runtime.md "Lifecycle", step 9: a `poststart` hook that fails stops the container.
#[test]
fn a_poststart_hook_that_fails_stops_the_container() {
    let failing = json!([{"path": "/usr/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]);
    let with_hooks = |config: &mut Value, place: &Path| {
        config["hooks"] = json!({"poststart": failing, "poststop": hook("poststop", place, false)});
    };
    let Some(bench) = bench("exec sleep 1000", with_hooks) else { return };
    bench.create(&[]).ok();
    bench.on("start").fails(1, "error running poststart hook #0: /usr/bin/sh: exit status: 3, output: why");
    bench.wait_for_end();
    assert_eq!(bench.status(), "stopped");
    bench.on("delete").ok();
    bench.run(&["--detach"]).fails(1, "error running poststart hook #0");
    assert_eq!(fs::read_to_string(bench.path("hooks")).unwrap(), "poststop stopped\n".repeat(2));
    bench.is_clean();
}

/// A `poststop` hook that fails is told, and the others follow.
#[test]
fn a_poststop_hook_that_fails_changes_nothing() {
    let Some(bench) = bench("exit 5", |config, place| {
        let mut hooks = hook("poststop", place, false);
        let failing = json!({"path": "/usr/bin/sh", "args": ["sh", "-c", "exit 3"]});
        hooks.as_array_mut().unwrap().insert(0, failing);
        config["hooks"] = json!({"poststop": hooks});
    }) else {
        return;
    };
    let answer = bench.run(&[]);
    assert_eq!(answer.code, Some(5), "{answer:?}");
    assert!(answer.err.contains("level=warning") && answer.err.contains("poststop hook #0"), "{answer:?}");
    assert_eq!(fs::read_to_string(bench.path("hooks")).unwrap(), "poststop stopped\n");
    bench.is_clean();
}

/// What runs hooks has signals blocked; hooks have not, in the runtime's process and in the container's.
#[test]
fn hooks_can_be_ended_by_signals() {
    for stage in ["prestart", "createContainer", "startContainer"] {
        let Some(bench) = bench("true", |config, _| {
            let shell = if stage == "startContainer" { "/bin/sh" } else { "/usr/bin/sh" };
            config["hooks"] = json!({stage: [{"path": shell, "args": ["sh", "-c", "kill -TERM $$; echo survived"]}]});
        }) else {
            return;
        };
        bench.run(&[]).fails(1, "signal: 15");
        bench.is_clean();
    }
}

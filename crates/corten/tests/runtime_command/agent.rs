//! A seccomp agent that the profile names is handed the listener by the command line.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::bench;

/// An agent that answers one notification with ENOMEDIUM, and tells what it was told; none without Python.
pub(crate) fn agent(path: &str, more: &[&str]) -> Option<(Child, impl Iterator<Item = Value> + use<>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/tests/supervise/agent.py");
    let Ok(mut child) = Command::new("python3").arg(script).arg(path).args(more).stdout(Stdio::piped()).spawn() else {
        println!("skipped: python3 is not installed");
        return None;
    };
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    assert_eq!(said.next(), Some(json!("listening")));
    Some((child, said))
}

#[test]
fn the_listener_goes_to_the_agent() {
    // With and without no_new_privileges: the filter is loaded at different moments.
    for no_new_privileges in [true, false] {
        let Some(bench) = bench("exec sleep 1000", |config, place| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["annotations"] = json!({"some": "thing"});
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place.join("agent"), "listenerMetadata": "for you",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            });
            config["process"]["args"] = json!(["sh", "-c", "mkdir /made 2>/why; exec sleep 1000"]);
        }) else {
            return;
        };
        bench.create(&[]).fails(1, "cannot connect to the seccomp agent");
        bench.is_clean();
        for status in ["creating", "running"] {
            let Some((mut child, mut said)) = agent(&bench.path("agent"), &[]) else { return };
            let pid = if status == "creating" {
                bench.run(&["--detach"]).ok();
                bench.state()["pid"].clone()
            } else {
                let exec = ["exec", "--pid-file", &bench.path("pid"), &bench.id, "mkdir", "/other"];
                bench.runtime(&exec).fails(1, "No medium found");
                serde_json::from_slice(&std::fs::read(bench.path("pid")).unwrap()).unwrap()
            };
            let told = said.next().unwrap();
            let expected = json!({
                "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid, "metadata": "for you",
                "state": {
                    "ociVersion": "1.3.0", "id": bench.id, "status": status, "pid": pid, "bundle": bench.path("bundle"),
                    "annotations": {"some": "thing"},
                },
            });
            assert_eq!(told, json!({"state": expected, "descriptors": 1}));
            assert!(said.next().unwrap()["call"].is_u64(), "it was asked");
            assert!(child.wait().unwrap().success());
            std::fs::remove_file(bench.path("agent")).unwrap();
        }
        let why = std::fs::read_to_string(bench.path("bundle/rootfs/why")).unwrap();
        assert!(why.contains("No medium found"), "{why}");
        bench.runtime(&["delete", "--force", &bench.id]).ok();
        bench.is_clean();
    }
}

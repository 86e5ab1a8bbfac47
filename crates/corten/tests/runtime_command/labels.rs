//! A profile of AppArmor, where the kernel has that module (`./x vm-test`: Debian's has) and its parser is installed.

use std::fs;

use corten_testkit::apparmor::Profile;
use serde_json::json;

use crate::support::{Bench, bench};

/// Says which profile it is under, and tries to write.
const SCRIPT: &str =
    "cat /proc/self/attr/current; mkdir -p /closed; echo x >/closed/file && echo wrote; echo x >/open && echo open";

#[track_caller]
fn confined(output: &str, profile: &Profile) {
    assert_eq!(output, format!("{} (enforce)\nopen\n", profile.name));
}

#[test]
fn an_apparmor_profile_is_in_force() {
    let Some(profile) = Profile::load(&format!("corten-test-{}", std::process::id())) else { return };
    let with = |script: &str, name: &str| -> Option<Bench> {
        bench(script, |config, _| config["process"]["apparmorProfile"] = json!(name))
    };
    // With and without privileges to gain: the module has rules of its own for the latter.
    for no_new_privileges in [true, false] {
        let Some(bench) = with(SCRIPT, &profile.name) else { return };
        bench.configure(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges));
        confined(&bench.run(&[]).ok(), &profile);
        bench.is_clean();
    }
    let Some(bench) = with("exec sleep 1000", "unconfined") else { return };
    bench.run(&["--detach"]).ok();
    let exec =
        |words: &[&str]| bench.runtime(&[&["exec"], words, &[bench.id.as_str(), "sh", "-c", SCRIPT]].concat()).ok();
    assert_eq!(exec(&[]), "unconfined\nwrote\nopen\n");
    fs::remove_file(bench.path("bundle/rootfs/closed/file")).unwrap();
    confined(&exec(&["--apparmor", &profile.name]), &profile);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
    // One that is not loaded is no start without any.
    let Some(bench) = with("true", "corten-test-nowhere") else { return };
    bench.run(&[]).fails(1, "cannot apply apparmor profile corten-test-nowhere");
    bench.is_clean();
}

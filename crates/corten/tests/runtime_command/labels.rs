//! A profile of AppArmor, where the kernel has that module (`./x vm-test`: Debian's has) and its parser is installed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Bench, bench};

/// Allows everything but writing below `/closed`. Loaded while it lives.
struct Profile(String);

impl Profile {
    fn load() -> Option<Profile> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|enabled| enabled.trim() == "Y") {
            println!("skipped: this kernel has no AppArmor");
            return None;
        }
        let profile = Profile(format!("corten-test-{}", std::process::id()));
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{ file, capability, network, mount, umount, \
             signal, ptrace, unix, pivot_root, deny /closed/** w, }}\n",
            profile.0
        );
        if !Path::new("/sys/kernel/security/apparmor").exists() || !profile.parse(&["--replace"], &text) {
            println!("skipped: apparmor_parser is not installed, or securityfs is not mounted");
            return None;
        }
        Some(profile)
    }

    fn parse(&self, words: &[&str], text: &str) -> bool {
        let parser = Command::new("apparmor_parser").args(words).arg("--skip-cache").stdin(Stdio::piped()).spawn();
        let Ok(mut parser) = parser else { return false };
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        parser.wait().unwrap().success()
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse(&["--remove"], &format!("profile {} {{ }}\n", self.0));
    }
}

/// Says which profile it is under, and tries to write.
const SCRIPT: &str =
    "cat /proc/self/attr/current; mkdir -p /closed; echo x >/closed/file && echo wrote; echo x >/open && echo open";

#[track_caller]
fn confined(output: &str, profile: &Profile) {
    assert_eq!(output, format!("{} (enforce)\nopen\n", profile.0));
}

#[test]
fn an_apparmor_profile_is_in_force() {
    let Some(profile) = Profile::load() else { return };
    let with = |script: &str, name: &str| -> Option<Bench> {
        bench(script, |config, _| config["process"]["apparmorProfile"] = json!(name))
    };
    // With and without privileges to gain: the module has rules of its own for the latter.
    for no_new_privileges in [true, false] {
        let Some(bench) = with(SCRIPT, &profile.0) else { return };
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
    confined(&exec(&["--apparmor", &profile.0]), &profile);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
    // One that is not loaded is no start without any.
    let Some(bench) = with("true", "corten-test-nowhere") else { return };
    bench.run(&[]).fails(1, "cannot apply apparmor profile corten-test-nowhere");
    bench.is_clean();
}

//! Containers under profiles of AppArmor, where the kernel has it (`./x vm-test`). A program of its own: other engines' containers would be
//! under the profile that is loaded here. Ends with the leak check.

mod common;

use common::{engine, sh, sleeper};
use corten_testkit::apparmor::Profile;
use corten_testkit::is_root;

/// Docker's default profile counts where it is loaded; privileged containers and `unconfined` are without, and another one
/// takes its place. An exec is under its container's.
#[test]
fn profiles_of_apparmor_are_dockers() {
    if !is_root("profiles_of_apparmor_are_dockers") {
        return;
    }
    let Some(default) = Profile::load("docker-default") else { return };
    let Some(other) = Profile::load("corten-test-other") else { return };
    let engine = engine();
    assert!(engine.docker(&["info", "-f", "{{.SecurityOptions}}"]).ok().contains("name=apparmor"));
    let current = |options: &[&str]| sh(&engine, options, "cat /proc/self/attr/current");
    assert_eq!(current(&[]), format!("{} (enforce)", default.name));
    assert_eq!(current(&["--security-opt", "apparmor=corten-test-other"]), format!("{} (enforce)", other.name));
    assert_eq!(current(&["--security-opt", "apparmor=unconfined"]), "unconfined");
    assert_eq!(current(&["--privileged"]), "unconfined");
    let write = "mkdir -p /closed; (echo x >/closed/file) 2>/dev/null && echo wrote; echo done";
    assert_eq!(sh(&engine, &[], write), "done");
    sleeper(&engine, &["--name", "box", "--security-opt", "apparmor=corten-test-other"]);
    let exec = ["exec", "--privileged", "box", "cat", "/proc/self/attr/current"];
    assert_eq!(engine.docker(&exec).ok(), format!("{} (enforce)", other.name));
    engine.docker(&["rm", "-f", "box"]).ok();
    let unknown = ["run", "--rm", "--security-opt", "apparmor=corten-test-nowhere", "busybox", "true"];
    // The client's code for whatever says "no such file or directory".
    engine.docker(&unknown).fails(127, "cannot apply apparmor profile corten-test-nowhere");
    engine.finish();
}

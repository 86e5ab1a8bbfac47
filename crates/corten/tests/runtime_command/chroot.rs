//! A runtime that stands in a chroot is at another root than its mount namespace. Whoever joins the container's namespace arrives
//! at that one's root: it has to be the container's, too.

use std::process::Command;

use corten_testkit::chroot;
use serde_json::{Value, json};

use crate::support::{Answer, Bench, bench};

/// A bench whose configuration names files that are in the chroot only, as a mount's source and to hooks.
fn chrooted(change: impl FnOnce(&mut Value)) -> Option<Bench> {
    bench("exec sleep 1000", |config, _| {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test -e /only/file && ! test -e /outside"]}]);
        config["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
        let bind = json!({"destination": "/seen", "source": "/only", "options": ["rbind"]});
        config["mounts"].as_array_mut().unwrap().push(bind);
        change(config);
    })
}

/// Runs a command of the runtime in a chroot, a directory of the host's tree or (`mounted`) a mount, whose surroundings share their
/// mounts with others, as systemd has it. They must all be there afterwards.
fn in_chroot(bench: &Bench, mounted: bool, words: &[&str]) -> Answer {
    let script = format!(
        "cd $1 && shift && {} && mkdir chroot/root/only && echo here > chroot/root/only/file && \
         mount --make-rshared / && before=$(wc -l </proc/self/mountinfo) || exit 98; chroot chroot/root \"$@\"; code=$?; \
         [ $(wc -l </proc/self/mountinfo) = $before ] || exit 99; exit $code",
        if mounted { chroot::mount() } else { chroot::directory() }
    );
    let runtime = bench.command(words);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-uc", &script, "sh"]).arg(bench.place.path());
    command.arg(runtime.get_program()).args(runtime.get_args());
    bench.answer(command)
}

#[track_caller]
fn check(mounted: bool, flags: &[&str], change: impl FnOnce(&mut Value)) {
    let Some(bench) = chrooted(change) else { return };
    let bundle = bench.path("bundle");
    let words = [&["run", "--detach", "--bundle", &bundle], flags, &[&bench.id]].concat();
    in_chroot(&bench, mounted, &words).ok();
    let look = "cat /seen/file; ls -d /* | grep -vE '^/(bin|dev|proc|seen|sys)$'; true";
    let seen = bench.runtime(&["exec", &bench.id, "sh", "-c", look]);
    assert_eq!(seen.ok(), "here\n", "an exec sees the container's root");
    let pid = bench.state()["pid"].to_string();
    let root = bench.runtime(&["exec", &bench.id, "readlink", "/proc/1/root"]);
    assert_eq!(root.ok(), "/\n", "as its init does");
    let joined = ["--target", &pid, "--mount", "/bin/test", "-e", "/seen/file"];
    assert!(Command::new("nsenter").args(joined).status().unwrap().success(), "and so do others");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn a_chroot_around_the_runtime_is_no_way_out() {
    check(true, &[], |_| {});
    check(false, &[], |_| {});
}

#[test]
fn nor_without_a_pivot() {
    check(false, &["--no-pivot"], |_| {});
}

/// The kernel's own refusal says as much as nothing.
#[test]
fn a_user_namespace_is_refused_there() {
    let bench = chrooted(|config| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    });
    let Some(bench) = bench else { return };
    let words = ["run", "--detach", "--bundle", &bench.path("bundle"), &bench.id];
    let refused = "cannot run a container with a user namespace from a chroot";
    in_chroot(&bench, false, &words).fails(1, refused);
    in_chroot(&bench, true, &words).fails(1, refused);
    bench.is_clean();
}

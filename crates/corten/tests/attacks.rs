//! Attacks that need somebody on the inside: a container that watches, waits and swaps while the engine works on it or on its
//! neighbour. docs/security.md says which attack each known vulnerability is, and which test tries it.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{engine, image, replace_by_link, sh, sleeper};
use corten_testkit::{TestEngine, is_root};
use rustix::fs::{CWD, RenameFlags};

/// Fingerprint of a file of the host that nobody may change.
fn checksum(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whoever comes in with `exec` is looked at from inside: its executable (CVE-2019-5736), its open files and its working
/// directory (CVE-2016-9962, CVE-2024-21626) must be the container's own at any moment.
#[test]
fn whoever_comes_in_brings_nothing_of_the_host() {
    if !is_root("whoever_comes_in_brings_nothing_of_the_host") {
        return;
    }
    let engine = engine();
    let before = checksum(Path::new(common::CORTEN));
    let watch = "while [ ! -e /tmp/stop ]; do echo 'turn -> /tmp/turn'; cd /proc; ls -l [0-9]*/exe [0-9]*/cwd [0-9]*/root [0-9]*/fd; \
        for p in [0-9]*; do (: >> $p/exe) && echo ' -> OVERWRITTEN'; done; done 2>/dev/null | \
        sed -n 's/.* -> //p' | sort | uniq -c | sed 's/^ *//' > /tmp/seen; touch /tmp/done; sleep 1000";
    for options in [&[][..], &["--cap-add", "SYS_PTRACE"]] {
        let all = [&["run", "-d", "--name", "spy", "--network", "none"], options, &["busybox", "sh", "-c", watch]];
        engine.docker(&all.concat()).ok();
        for command in [&["true"][..], &["/proc/self/exe"], &["/nowhere"], &["sh", "-c", "cd /; true"]].repeat(12) {
            engine.docker(&[&["exec", "spy"], command].concat());
        }
        let collect = "touch /tmp/stop; while [ ! -e /tmp/done ]; do :; done; cat /tmp/seen";
        let seen = engine.docker(&["exec", "spy", "sh", "-c", collect]).ok().to_owned();
        let known = |target: &str| {
            let own = ["/bin/busybox", "/proc", "pipe:[", "/dev/null", "/tmp/", "/dev/pts/"];
            target == "/" || own.iter().any(|start| target.starts_with(start))
        };
        // With CAP_SYS_PTRACE the kernel shows everybody's links, so that what they lead to counts; the executable is the
        // read-only image of the shims, `/null` the null device of their own root, the control socket closes at exec, and
        // its own score is written in a procfs of the container's PID namespace, which is being made for that.
        let own = |target: &str| {
            let is_shims = target.starts_with("socket:[") || target.contains("corten") || target == "/null";
            is_shims || target.ends_with("/oom_score_adj") || target == "anon_inode:[fscontext]"
        };
        let traced = |target: &str| !options.is_empty() && own(target);
        let seen: Vec<(u64, &str)> =
            seen.lines().map(|line| line.split_once(' ').unwrap()).map(|(n, to)| (n.parse().unwrap(), to)).collect();
        let strange: Vec<_> = seen.iter().filter(|(_, target)| !known(target) && !traced(target)).collect();
        assert!(strange.is_empty(), "{options:?}: {strange:?}");
        let turns = seen.iter().find(|(_, target)| *target == "/tmp/turn").unwrap().0;
        assert!(turns > 1, "the watcher has seen nothing: {turns} turns");
        engine.docker(&["rm", "-f", "spy"]).ok();
    }
    assert_eq!(checksum(Path::new(common::CORTEN)), before);
    engine.finish();
}

/// An image whose shell is a script for `/proc/self/exe` makes the engine's process execute itself inside (CVE-2019-5736).
#[test]
fn an_image_that_executes_its_executor_gets_nothing() {
    if !is_root("an_image_that_executes_its_executor_gets_nothing") {
        return;
    }
    let engine = engine();
    let before = checksum(Path::new(common::CORTEN));
    image(&engine, "sly", "CMD [\"/run-me\"]", |root| {
        std::fs::write(root.join("run-me"), "#!/proc/self/exe\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.join("run-me"), mode).unwrap();
        replace_by_link("/proc/self/exe", root.join("self"));
    });
    // As with runc the engine's own program runs then, as the container's user, with the container's rights and view: it finds no
    // engine there, and nobody can write to it, neither while it runs nor through a handle kept until it has ended.
    // It may have ended before it was opened: then there is another one.
    let overwrite = "for victim in /self /run-me; do open=; until [ $open ]; do $victim ps & p=$!; { open=1; wait $p; \
        for file in /proc/$p/exe /proc/self/fd/5; do (cat /bin/busybox > $file) && echo overwritten $file; done; } \
        5< /proc/$p/exe; done; done; echo end";
    let answer = engine.docker(&["run", "--rm", "--network", "none", "sly", "sh", "-c", overwrite]);
    assert_eq!(answer.ok(), "end");
    for command in [&["/self", "ps"], &["/self", "daemon"], &["/proc/self/exe", "ps"]] {
        let answer = engine.docker(&[&["run", "--rm", "--network", "none", "sly"][..], command].concat());
        assert_ne!(answer.code, 0, "{answer:?}");
    }
    assert_eq!(checksum(Path::new(common::CORTEN)), before);
    engine.finish();
}

/// The program of an attack image, which is this file's own executable: it swaps a directory of a volume for a link that leads out, for
/// ever and without a moment in which there is neither. Does nothing where it is only a test.
#[test]
fn program_of_an_attack_image() {
    let Some(place) = std::env::var_os(SWAPS_IN).map(std::path::PathBuf::from) else { return };
    let (directory, link) = (place.join("x"), place.join("link"));
    std::fs::create_dir_all(directory.join("stage")).unwrap();
    std::os::unix::fs::symlink("../../../../../../..", &link).unwrap();
    loop {
        rustix::fs::renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    }
}

/// Tells the attack image's program where to do it.
const SWAPS_IN: &str = "CORTEN_TEST_SWAPS_IN";

/// A container swaps a directory of a shared volume for a link while others mount below it (CVE-2021-30465): each mount is made in its
/// own container, where the one or the other led to. Above a container's root there is a `stage`, too: the shim's own.
#[test]
fn a_neighbour_that_swaps_links_moves_no_mount() {
    if !is_root("a_neighbour_that_swaps_links_moves_no_mount") {
        return;
    }
    let engine = engine();
    let swap = "CMD [\"/attack\", \"--exact\", \"program_of_an_attack_image\", \"--nocapture\"]";
    image(&engine, "swapper", swap, |root| {
        std::fs::copy(std::env::current_exe().unwrap(), root.join("attack")).unwrap();
    });
    let evil = ["run", "-d", "--name", "evil", "--network", "none", "-v", "shared:/shared"];
    engine.docker(&[&evil[..], &["-e", &format!("{SWAPS_IN}=/shared"), "swapper"]].concat()).ok();
    let victim = ["run", "--rm", "--network", "none", "-v", "shared:/data", "--tmpfs", "/data/x/stage:size=4096k"];
    let look = ["busybox", "grep", "size=4096k", "/proc/self/mountinfo"];
    let (mut missed, mut hit) = (0, 0);
    while missed < 5 || hit < 5 {
        let answer = engine.corten(&[&victim[..], &look].concat());
        let places: Vec<_> = answer.ok().lines().filter_map(|line| line.split(' ').nth(4)).collect();
        match places[..] {
            ["/data/x/stage" | "/data/link/stage"] => missed += 1,
            ["/stage"] => hit += 1,
            _ => panic!("mounted at {places:?} of the container"),
        }
        assert!(missed + hit < 300, "the attack was none: {missed} starts unharmed, {hit} hit");
    }
    engine.docker(&["rm", "-f", "evil"]).ok();
    engine.docker(&["volume", "rm", "shared"]).ok();
    engine.finish();
}

/// Who joins a mount namespace arrives at its root. Of a daemon in a chroot that was the host's, which the chroot only hides.
#[test]
fn a_chroot_around_the_daemon_is_no_way_out() {
    if !is_root("a_chroot_around_the_daemon_is_no_way_out") {
        return;
    }
    let engine = TestEngine::start_in_chroot(common::CORTEN);
    common::import_busybox(&engine);
    sleeper(&engine, &["--name", "inside", "-v", "/etc:/seen:ro"]);
    let look = "head -n 1 /seen/passwd; readlink /proc/1/root; ls -d /*";
    let seen = engine.docker(&["exec", "inside", "sh", "-c", look]);
    let own = sh(&engine, &["-v", "/etc:/seen:ro"], look);
    assert_eq!(seen.ok(), own, "an exec sees what the first process sees");
    assert!(own.starts_with("root:") && own.contains("\n/\n") && !own.contains("/outside"), "{own}");
    engine.docker(&["rm", "-f", "inside"]).ok();
    engine.finish();
}

/// A control group's `release_agent` is a program that the host's kernel would run (CVE-2022-0492): no container may mount a
/// hierarchy that shows one, nor see groups that aren't its own.
#[test]
fn control_groups_are_no_way_out() {
    if !is_root("control_groups_are_no_way_out") {
        return;
    }
    let engine = engine();
    let script = "mkdir -p /tmp/c; for type in cgroup cgroup2; do for option in memory rdma none,name=x ''; do \
        mount -t $type ${option:+-o $option} c /tmp/c && echo mounted $type $option; \
        unshare -Urm sh -c \"mount -t $type ${option:+-o $option} c /tmp/c && echo mounted in namespace\"; done; done 2>/dev/null; \
        unshare -Ur echo in a user namespace 2>/dev/null; \
        find /sys/fs/cgroup /tmp/c -name release_agent; for d in /sys/fs/cgroup/*/..; do ls $d | grep -c corten; done | sort -u; \
        for f in /sys/fs/cgroup/*/notify_on_release; do (echo 1 > $f) 2>/dev/null && echo wrote $f; done; echo end";
    for options in [&[][..], &["--cgroupns", "private"], &["--cap-add", "DAC_OVERRIDE"]] {
        assert_eq!(sh(&engine, options, script), "0\nend", "{options:?}");
    }
    let remount = "for g in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw,bind $g; umount $g; done 2>/dev/null; \
        for g in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $g/made && echo made; done 2>/dev/null; echo end";
    assert_eq!(sh(&engine, &[], remount), "end");
    engine.finish();
}

/// The names under which the kernel's views are mounted are links to elsewhere (CVE-2023-27561, CVE-2019-19921, `/dev`
/// CVE-2026-41579).
#[test]
fn links_in_place_of_the_kernels_views_lead_nowhere() {
    if !is_root("links_in_place_of_the_kernels_views_lead_nowhere") {
        return;
    }
    let engine = engine();
    let outside = engine.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for (number, name) in ["dev", "proc", "sys"].into_iter().enumerate() {
        for (way, target) in [format!("../../../../../../..{}", outside.display()), "/tmp".into()].iter().enumerate() {
            let tag = format!("sly{number}{way}");
            image(&engine, &tag, "CMD [\"true\"]", |root| replace_by_link(target, root.join(name)));
            let answer = engine.docker(&["run", "--rm", "--network", "none", &tag, "head", "-c", "1", "/proc/kcore"]);
            // Refused, or made right in the place of the link.
            assert!(answer.stdout.is_empty(), "{name}: {answer:?}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name} to {target}");
        }
    }
    engine.finish();
}

//! Images and containers that try to get out, or to get in the way.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use corten_shim::client::Error;
use corten_shim::client::ExecProcess;
use corten_shim::protocol::{Event, LogConfig, Streams};
use corten_sys::mount::{Attributes, attr};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev};
use serde_json::json;

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[
    ("attacks::mount_points_behind_links_stay_inside", mount_points_behind_links_stay_inside),
    ("attacks::kernel_views_behind_links_are_refused", kernel_views_behind_links_are_refused),
    ("attacks::links_swapped_while_starting", links_swapped_while_starting),
    ("attacks::a_null_that_is_swapped_masks_nothing_else", a_null_that_is_swapped_masks_nothing_else),
    ("attacks::masked_links_mask_what_they_lead_to", masked_links_mask_what_they_lead_to),
    ("attacks::masks_do_not_use_the_images_null", masks_do_not_use_the_images_null),
    ("attacks::console_link_is_refused", console_link_is_refused),
    ("attacks::working_directory_outside", working_directory_outside),
    ("attacks::own_binary_is_read_only", own_binary_is_read_only),
    ("attacks::below_a_containers_root_is_nothing", below_a_containers_root_is_nothing),
    ("attacks::masks_hold_in_nested_namespaces", masks_hold_in_nested_namespaces),
    ("attacks::a_warm_shim_ends_with_its_stub", a_warm_shim_ends_with_its_stub),
    ("attacks::a_shim_killed_takes_its_stub_along", a_shim_killed_takes_its_stub_along),
    ("attacks::the_minimal_root_gives_nothing_to_write_to", the_minimal_root_gives_nothing_to_write_to),
    ("attacks::packets_of_any_size", packets_of_any_size),
    ("attacks::an_exec_that_leaves_writers_behind", an_exec_that_leaves_writers_behind),
    ("attacks::a_leader_killed_at_any_moment", a_leader_killed_at_any_moment),
    ("attacks::descriptors_inside", descriptors_inside),
];

fn outcome(world: &World, rootfs: &Path, spec: serde_json::Value) -> Result<(), Error> {
    let mut shim = Shim::new(world);
    let result = shim.start(rootfs, &plan(spec), pipes(), &[]).map(drop);
    if result.is_ok() {
        shim.exited();
    }
    shim.drop_connection();
    result
}

fn mount_points_behind_links_stay_inside(world: &World) {
    let rootfs = world.own_rootfs("links");
    let outside = world.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, rootfs.join("absolute")).unwrap();
    symlink("../../../../../../../../tmp", rootfs.join("up")).unwrap();
    let mut wanted = spec(&["sh", "-c", "grep -c ' /tmp/made ' /proc/self/mountinfo"]);
    let mounts = wanted["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/absolute/made", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/up/made", "type": "tmpfs", "source": "tmpfs"}));
    let (output, _) = run(world, &rootfs, wanted);
    assert_eq!(output, "1\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(rootfs.join(outside.strip_prefix("/").unwrap()).join("made").is_dir(), "made inside the root");
}

fn kernel_views_behind_links_are_refused(world: &World) {
    for name in ["proc", "sys", "dev"] {
        let rootfs = world.own_rootfs(&format!("view-{name}"));
        fs::remove_dir(rootfs.join(name)).unwrap();
        symlink("/tmp", rootfs.join(name)).unwrap();
        let error = outcome(world, &rootfs, spec(&["true"])).unwrap_err();
        assert!(error.to_string().contains("must be mounted on ordinary directory"), "{error}");
    }
}

/// Exchanges two names as fast as it goes while `work` is done.
fn exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // A failure must not leave the other one running.
        let done = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Starts containers until there were enough of each outcome that `outcome` tells apart: the attack has hit, and it has missed.
fn until_all_came<const KINDS: usize>(mut outcome: impl FnMut() -> usize) {
    const ENOUGH: usize = 10;
    let mut seen = [0; KINDS];
    for _ in 0..2000 {
        seen[outcome()] += 1;
        if seen.iter().all(|count| *count >= ENOUGH) {
            return;
        }
    }
    panic!("the attack was none: {seen:?}");
}

/// A directory on the way to a mount point becomes a link out of the root while the mount is made (CVE-2021-30465). The mount is
/// in the container's tree each time, where one or the other led to. Above the root there is a `stage`, too: the shim's own.
fn links_swapped_while_starting(world: &World) {
    let rootfs = world.own_rootfs("race");
    fs::create_dir_all(rootfs.join("a/stage")).unwrap();
    symlink("../../../..", rootfs.join("evil")).unwrap();
    let mut wanted = spec(&["grep", " - tmpfs swapped ", "/proc/self/mountinfo"]);
    let mounts = wanted["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/a/stage", "type": "tmpfs", "source": "swapped"}));
    exchanging(&rootfs.join("a"), &rootfs.join("evil"), || {
        until_all_came::<2>(|| {
            let (output, _) = run_in(Shim::new(world), &rootfs, wanted.clone());
            let places: Vec<_> = output.lines().filter_map(|line| line.split(' ').nth(4)).collect();
            match places[..] {
                ["/a/stage" | "/evil/stage"] => 0,
                ["/stage"] => 1,
                _ => panic!("mounted at {places:?} of the container"),
            }
        });
    });
}

/// The image's null device, which has been looked at, becomes a link to what a bind over a masked path would show (CVE-2025-31133).
/// Masks are not made of it.
fn a_null_that_is_swapped_masks_nothing_else(world: &World) {
    let rootfs = world.own_rootfs("swapped-null");
    let (null, link) = (rootfs.join("dev/null"), rootfs.join("dev/link"));
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &null, FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
    symlink("/proc/sys/kernel/core_pattern", &link).unwrap();
    let mut wanted = spec(&["stat", "-c", "%t:%T", "/proc/keys", "/proc/timer_list"]);
    wanted["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let attack = || {
        until_all_came::<2>(|| {
            let mut shim = Shim::new(world);
            let (ours, theirs) = UnixStream::pair().unwrap();
            let started = shim.start(&rootfs, &plan(wanted.clone()), pipes(), &[(ALL, &theirs)]);
            drop(theirs);
            match started {
                Ok(_) => {
                    let output = unframe(&read_all(&ours));
                    assert_eq!(output, "1:3\n1:3\n", "what covers a masked path");
                    shim.exited();
                    shim.release();
                    0
                }
                Err(error) => {
                    assert!(error.to_string().contains("is not the device"), "{error}");
                    shim.drop_connection();
                    1
                }
            }
        });
    };
    exchanging(&null, &link, attack);
}

/// A masked path that is a link masks what it leads to, in the container: nothing is read by its other name.
fn masked_links_mask_what_they_lead_to(world: &World) {
    let rootfs = world.own_rootfs("masked-links");
    for (name, target) in [("near", "etc/plain"), ("far", "../../../../../etc/passwd"), ("away", "/stage/none")] {
        symlink(target, rootfs.join(name)).unwrap();
    }
    let mut wanted = spec(&["stat", "-c", "%t:%T", "/etc/plain", "/etc/passwd"]);
    let masked = wanted["linux"]["maskedPaths"].as_array_mut().unwrap();
    masked.extend([json!("/near"), json!("/far"), json!("/away")]);
    assert_eq!(run(world, &rootfs, wanted).0, "1:3\n1:3\n");
}

fn masks_do_not_use_the_images_null(world: &World) {
    // A /dev of the image's own making, with a link for its null device.
    let rootfs = world.own_rootfs("null");
    symlink("/proc/sys/kernel/core_pattern", rootfs.join("dev/null")).unwrap();
    let mut wanted = spec(&["sh", "-c", "cat /proc/keys | head -c 9; stat -c %t:%T /proc/keys; echo end"]);
    wanted["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let error = outcome(world, &rootfs, wanted.clone()).unwrap_err();
    assert!(error.to_string().contains("is not the device"), "{error}");
    fs::remove_file(rootfs.join("dev/null")).unwrap();
    let (output, _) = run(world, &rootfs, wanted);
    assert_eq!(output, "1:3\nend\n");
}

fn console_link_is_refused(world: &World) {
    let rootfs = world.own_rootfs("console");
    symlink("/proc/sys/kernel/core_pattern", rootfs.join("dev/console")).unwrap();
    let mut wanted = spec(&["true"]);
    wanted["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    wanted["process"]["terminal"] = true.into();
    let mut shim = Shim::new(world);
    let streams = Streams { tty: true, ..pipes() };
    let error = shim.start(&rootfs, &plan(wanted), streams, &[]).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    shim.drop_connection();
}

fn working_directory_outside(world: &World) {
    for fd in 3..20 {
        let mut wanted = spec(&["cat", "etc/hostname"]);
        wanted["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        match outcome(world, &world.rootfs, wanted) {
            Err(_) => {}
            Ok(()) => panic!("descriptor {fd} gave a working directory"),
        }
    }
}

fn own_binary_is_read_only(world: &World) {
    // While it runs the kernel refuses writers; when it has ended the mount that it was opened through does.
    let script = "for p in /proc/[0-9]*; do (echo x >> $p/exe) 2>&1; done; exit 0";
    let (output, _) = run(world, &world.rootfs, spec(&["sh", "-c", script]));
    assert!(output.contains("Text file busy") || output.contains("Read-only"), "{output}");
    let (connection, mut child, ready) = Shim::warm(world);
    for pid in [ready.pid, ready.init_pid.unwrap()] {
        let exe = fs::File::open(format!("/proc/{pid}/exe")).unwrap();
        let flags = rustix::fs::fstatvfs(&exe).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{pid}: {flags:?}");
        // Nor can somebody with CAP_SYS_ADMIN in a mount namespace of his own make it writable.
        let writable = Attributes { clear: attr::RDONLY, ..Attributes::default() };
        let error = corten_sys::mount::set_attributes(exe.as_fd(), &writable, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{pid}: {error}");
    }
    drop(connection);
    child.wait().unwrap();
}

/// A prepared container's root lies over the minimal one. Who has CAP_SYS_ADMIN there may unmount it and enter anew: nothing
/// that it finds leads anywhere.
fn below_a_containers_root_is_nothing(world: &World) {
    let mut shim = Shim::prepared(world);
    let pid = shim.start(&world.rootfs, &plan(spec(&["sleep", "1000"])), pipes(), &[]).unwrap();
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
    let found = corten_sys::namespace::in_mount_namespace(namespace.as_fd(), || {
        corten_sys::mount::detach(c"/")?;
        corten_sys::namespace::join(namespace.as_fd(), corten_sys::process::flags::MOUNT)?;
        let mut found = Vec::new();
        walk(Path::new("/"), &mut found)?;
        Ok(found)
    });
    let (directories, others): (Vec<_>, Vec<_>) = found.unwrap().into_iter().partition(|(_, directory)| *directory);
    assert!(directories.contains(&("/stage/proc".into(), true)), "the root was not over it: {directories:?}");
    let others: Vec<_> = others.iter().take(5).map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(others, ["/file", "/null"]);
    kill(pid);
    shim.exited();
    shim.release();
}

/// Everything below a directory, sorted, with whether it is a directory.
fn walk(top: &Path, found: &mut Vec<(PathBuf, bool)>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(top)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let directory = entry.file_type()?.is_dir();
        found.push((entry.path(), directory));
        if directory {
            walk(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// The kernel lets root of a nested user namespace mount a procfs or sysfs only where a whole one is in its mount namespace.
fn masks_hold_in_nested_namespaces(world: &World) {
    for kind in ["proc", "sysfs"] {
        let nested = format!("busybox unshare -Urmpf mount -t {kind} none /tmp && echo mounted || echo refused");
        let mut wanted = spec(&["sh", "-c", &nested]);
        wanted["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let (output, _) = run(world, &world.rootfs, wanted);
        assert!(output.contains("permission denied") && output.contains("refused\n"), "{kind}: {output}");
    }
}

fn kill(pid: i32) {
    corten_sys::process::signal_pidfd(corten_sys::process::open_pidfd(pid).unwrap().as_fd(), 9).unwrap();
}

fn a_warm_shim_ends_with_its_stub(world: &World) {
    let (mut connection, mut child, ready) = Shim::warm(world);
    kill(ready.init_pid.unwrap());
    assert!(matches!(connection.recv(PATIENCE), Err(Error::Closed)), "who takes it from the pool sees that it is gone");
    child.wait().unwrap();
}

fn a_shim_killed_takes_its_stub_along(world: &World) {
    let (connection, mut child, ready) = Shim::warm(world);
    let stub = corten_sys::process::open_pidfd(ready.init_pid.unwrap()).unwrap();
    kill(ready.pid);
    child.wait().unwrap();
    let mut polled = [PollFd::new(&stub, PollFlags::IN)];
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&patience)).unwrap(), 1, "the stub outlives its shim");
    drop(connection);
}

/// A neighbour in a joined PID namespace who may trace others finds it behind `/proc/<pid>/root`: all shims share it, and what is
/// in it covers masked paths and shows control groups.
fn the_minimal_root_gives_nothing_to_write_to(world: &World) {
    let (connection, mut child, ready) = Shim::warm(world);
    for pid in [ready.pid, ready.init_pid.unwrap()] {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let writable = mounts.lines().filter(|line| line.split(' ').nth(5).unwrap().starts_with("rw"));
        assert_eq!(writable.collect::<Vec<_>>(), [""; 0]);
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        assert_eq!(fs::remove_file(root.join("null")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        let hierarchies = fs::read_dir(root.join("kit/cgroup")).unwrap().flatten();
        assert!(hierarchies.into_iter().all(|hierarchy| fs::create_dir(hierarchy.path().join("made")).is_err()));
    }
    drop(connection);
    child.wait().unwrap();
}

/// More descriptors than one packet carries, log attributes larger than a page, many processes in one answer.
fn packets_of_any_size(world: &World) {
    let mut wanted =
        spec(&["sh", "-c", "grep -c ' /many/' /proc/self/mountinfo; ls /proc/self/fd | grep -c .; sleep 100"]);
    let source = world.rootfs.join("etc/plain");
    for number in 0..600 {
        let mount = json!({"destination": format!("/many/{number}"), "source": source, "options": ["bind", "ro"]});
        wanted["mounts"].as_array_mut().unwrap().push(mount);
    }
    let rootfs = world.own_rootfs("many");
    let attrs = [("label".to_owned(), "x".repeat(100_000))].into();
    let log = LogConfig::JsonFile { file: "log".into(), max_size: None, max_files: 1, attrs };
    let mut shim = Shim::logging(world, log);
    let (ours, theirs) = UnixStream::pair().unwrap();
    shim.start(&rootfs, &plan(wanted), pipes(), &[(ALL, &theirs)]).unwrap();
    drop(theirs);
    assert!(read_until(&ours, "4\n").contains("600\n"));
    let process = plan(spec(&["sleep", "100"])).process;
    // As many as the socket holds ends of: a daemon that takes no packets is dropped.
    for number in 0..200 {
        let seq =
            shim.connection.exec(&format!("{number:064}"), ExecProcess::Plan(&process), None, None, None).unwrap();
        shim.answer(seq).unwrap();
    }
    let seq = shim.connection.state().unwrap();
    match shim.answer(seq).unwrap() {
        Event::State(state) => assert_eq!(state.execs.len(), 200),
        other => panic!("expected State, got {other:?}"),
    }
    let seq = shim.connection.signal(None, 9).unwrap();
    // Ends may be told before the answer.
    shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
    shim.exited();
    shim.connection.release().unwrap();
    while shim.connection.recv(PATIENCE).is_ok() {}
    assert_eq!(shim.child.wait().unwrap().code, 0);
}

fn an_exec_that_leaves_writers_behind(world: &World) {
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    // They don't mind that nobody reads any more, and the client never does.
    let script = "trap '' PIPE; for i in 1 2 3 4; do (while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done) 2>/dev/null & done";
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = plan(spec(&["sh", "-c", script])).process;
    let seq = shim.connection.exec("e1", ExecProcess::Plan(&process), None, Some((ALL, theirs.as_fd())), None).unwrap();
    shim.answer(seq).unwrap();
    drop(theirs);
    assert_eq!(shim.exec_exited("e1").code, 0);
    let output = read_all(&ours);
    assert!(output.len() < 2 << 20, "{} bytes", output.len());
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
    assert_eq!(shim.exited().code, 137);
    shim.release();
}

/// The process that leads an exec in stands in the container's control group, where it may be killed for memory. Be it before it
/// has cloned, before it has told so, or after: the exec fails, or it runs and its end is told.
fn a_leader_killed_at_any_moment(world: &World) {
    let mut shim = Shim::new(world);
    let init = shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap().to_string();
    let process = plan(spec(&["true"])).process;
    let children = format!("/proc/{0}/task/{0}/children", shim.ready.pid);
    let (mut failed, mut ran) = (0, 0);
    for round in 0_u32..400 {
        let id = format!("{round:064}");
        let seq = shim.connection.exec(&id, ExecProcess::Plan(&process), None, None, None).unwrap();
        let is_answered = || {
            let mut polled = [PollFd::new(&shim.connection, PollFlags::IN)];
            rustix::event::poll(&mut polled, Some(&Timespec::default())).unwrap() > 0
        };
        while !is_answered() {
            let text = fs::read_to_string(&children).unwrap();
            let Some(leader) = text.split_whitespace().find(|pid| **pid != *init) else { continue };
            (0..round * 8).for_each(|_| std::hint::spin_loop());
            let _ = corten_sys::process::open_pidfd(leader.parse().unwrap())
                .and_then(|leader| corten_sys::process::signal_pidfd(leader.as_fd(), 9));
            break;
        }
        match shim.answer(seq) {
            Ok(_) => {
                shim.exec_exited(&id);
                ran += 1;
            }
            Err(Error::Failed(_)) => failed += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    assert!(failed > 0 && ran > 0, "killed too early or too late: {failed} failed, {ran} ran");
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
    shim.exited();
    shim.release();
}

/// Nothing of the shim's or the host's is open in the container's first process or an exec's.
fn descriptors_inside(world: &World) {
    let script = "cd /proc/$$/fd; for fd in *; do readlink $fd; done; echo end; sleep 100";
    let mut shim = Shim::prepared(world);
    let (ours, theirs) = UnixStream::pair().unwrap();
    shim.start(&world.rootfs, &plan(spec(&["sh", "-c", script])), pipes(), &[(ALL, &theirs)]).unwrap();
    let first = read_until(&ours, "end");
    let (ours, exec) = UnixStream::pair().unwrap();
    let process = plan(spec(&["sh", "-c", script])).process;
    let seq = shim.connection.exec("e1", ExecProcess::Plan(&process), None, Some((ALL, exec.as_fd())), None).unwrap();
    shim.answer(seq).unwrap();
    let second = read_until(&ours, "end");
    for text in [first, second] {
        let count = |what| text.matches(what).count();
        assert_eq!(count("pipe:[") + count("/dev/null"), 3, "{text}");
        assert_eq!((count(":"), count("/")), (count("pipe:["), 2 * count("/dev/null")), "something else: {text}");
    }
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
    drop((theirs, exec));
    shim.exited();
    shim.connection.release().unwrap();
    while shim.connection.recv(PATIENCE).is_ok() {}
    assert_eq!(shim.child.wait().unwrap().code, 0);
}

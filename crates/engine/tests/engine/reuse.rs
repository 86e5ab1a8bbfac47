//! Roots that are handed on from one container to the next, and those that must not be.

use std::collections::HashSet;
use std::fs::{metadata, read_dir};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use corten_engine::settings::{IpcMode, JoinMode, NetworkMode};
use corten_engine::{ContainerSpec, Engine, ExecSpec, StartExec};
use corten_sys::mount::{FileSystem, clone_of};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Place, busybox, create, ended, force_remove, log, start, wanted};

/// Whether anything is handed on here; prints the reason if not.
fn hands_on(test: &str) -> bool {
    let detached = FileSystem::open("tmpfs").and_then(|tmpfs| tmpfs.mount(0)).expect("root mounts a tmpfs");
    let copied = clone_of(detached.as_fd(), false);
    if let Err(error) = &copied {
        eprintln!("skipped {test}: this kernel does not copy a detached mount, as Linux 6.15 does ({error})");
    }
    copied.is_ok()
}

/// An engine that hands on what it can: it has seen two containers of busybox.
async fn warm(engine: &Engine) {
    busybox(engine).await;
    for name in ["first", "second"] {
        create(engine, name, wanted("busybox", &["true"])).await;
        force_remove(engine, name).await;
    }
}

fn upper(engine: &Engine, name: &str) -> PathBuf {
    engine.containers().inspect(name).expect("it is there").files.upper.clone()
}

fn shell(script: &str) -> ContainerSpec {
    wanted("busybox", &["sh", "-c", script])
}

/// What the container `box` has written: Docker's frames, each behind a head of eight bytes that ends with its length, unwrapped.
async fn output(engine: &Engine) -> String {
    let framed = log(engine, "box").await;
    let (mut rest, mut text) = (framed.as_bytes(), Vec::new());
    while let Some((head, body)) = rest.split_at_checked(8) {
        let (frame, next) = body.split_at(usize::from(head[7]));
        text.extend_from_slice(frame);
        rest = next;
    }
    String::from_utf8(text).unwrap()
}

/// Runs a container to its end and removes it; whether its layer is still there when all has settled.
async fn is_handed_on(engine: &Engine, spec: ContainerSpec) -> bool {
    start(engine, "box", spec).await;
    ended(engine, "box").await;
    is_left(engine).await
}

/// Removes the container `box`; whether its layer is still there when all has settled.
async fn is_left(engine: &Engine) -> bool {
    let upper = upper(engine, "box");
    force_remove(engine, "box").await;
    engine.settle().await;
    upper.exists()
}

pub fn a_root_left_as_it_was_is_the_next_containers() {
    if !hands_on("a_root_left_as_it_was_is_the_next_containers") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        let script =
            "echo; echo only; hostname; cat /etc/hostname; touch -c /nowhere; ls -a / | wc -l; mount | grep -c ' / '";
        let (mut seen, mut again, mut listings) = (HashSet::new(), 0, HashSet::new());
        // As many as may be ready, and some more.
        for _ in 0..24 {
            let id = start(&engine, "box", shell(script)).await;
            assert_eq!(ended(&engine, "box").await, 0);
            again += usize::from(!seen.insert(upper(&engine, "box")));
            let (text, host) = (output(&engine).await, &id[..12]);
            let rest = text.strip_prefix(&format!("\nonly\n{host}\n{host}\n")).unwrap_or_else(|| panic!("{text}"));
            listings.insert(rest.to_owned());
            assert!(is_left(&engine).await);
        }
        assert!(again > 0, "none of {} had another's", seen.len());
        assert_eq!(listings.len(), 1, "{listings:?}");
    });
}

pub fn a_root_that_was_changed_is_nobody_elses() {
    if !hands_on("a_root_that_was_changed_is_nobody_elses") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        let changes = [
            "echo 1 > /new",
            "echo 1 > /new; rm /new",
            "mkdir /new; rmdir /new",
            "rm /bin/busybox",
            "chmod 700 /",
            "chmod 700 /; chmod 755 /",
            "chown 1 /; chown 0 /",
            "touch /",
            "chmod 711 /bin",
        ];
        for change in changes {
            assert!(!is_handed_on(&engine, shell(change)).await, "{change}");
        }
        assert!(is_handed_on(&engine, shell("true")).await);
        let killed = "touch /new; rm /new; kill -9 $$";
        assert!(!is_handed_on(&engine, shell(killed)).await);
    });
}

pub fn files_that_were_changed_are_nobody_elses() {
    if !hands_on("files_that_were_changed_are_nobody_elses") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        let list = "stat -c '%a %u:%g %h' /etc/hosts /etc/hostname /etc/resolv.conf; grep -c evil /etc/hosts";
        let changes = [
            "chmod 666 /etc/hosts",
            "chown 1:2 /etc/hostname",
            "echo 1.2.3.4 evil >> /etc/hosts",
            "chmod 4755 /etc/resolv.conf",
        ];
        for change in changes {
            // The layer itself is none the worse for it.
            assert!(is_handed_on(&engine, shell(change)).await, "{change}");
        }
        for _ in 0..12 {
            start(&engine, "box", shell(list)).await;
            ended(&engine, "box").await;
            assert_eq!(output(&engine).await, "644 0:0 1\n644 0:0 1\n644 0:0 1\n0\n");
            is_left(&engine).await;
        }
    });
}

pub fn a_root_in_others_reach_is_nobody_elses() {
    if !hands_on("a_root_in_others_reach_is_nobody_elses") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        let running = || async { start(&engine, "box", wanted("busybox", &["sleep", "1000"])).await };
        // As with `cd` there, from the host or from a container that sees the host's processes.
        let open = |what: &str, flags: OFlags| {
            let pid = engine.containers().inspect("box").unwrap().state.pid;
            openat(CWD, format!("/proc/{pid}/root{what}"), flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let holds = [
            ("/", OFlags::PATH),
            ("/bin", OFlags::DIRECTORY),
            ("/bin/busybox", OFlags::RDONLY),
            ("/etc/hosts", OFlags::WRONLY | OFlags::APPEND),
            ("/etc/hostname", OFlags::PATH),
            ("/etc/resolv.conf", OFlags::RDONLY),
        ];
        for (what, flags) in holds {
            running().await;
            let held = open(what, flags);
            assert!(!is_left(&engine).await, "somebody has {what}");
            drop(held);
        }
        running().await;
        drop(open("/bin", OFlags::DIRECTORY));
        assert!(is_left(&engine).await, "nobody has anything any more");
    });
}

pub fn a_root_that_others_came_into_is_nobody_elses() {
    if !hands_on("a_root_that_others_came_into_is_nobody_elses") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        start(&engine, "box", wanted("busybox", &["sleep", "1000"])).await;
        let process = ExecSpec { args: vec!["true".into()], ..ExecSpec::default() };
        let id = engine.execs().create("box", process).await.unwrap();
        engine.execs().start(id.as_str(), StartExec { detach: true, ..StartExec::default() }).await.unwrap();
        assert!(!is_left(&engine).await, "something was executed in it");
        let with = |change: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = wanted("busybox", &["true"]);
            change(&mut spec);
            spec
        };
        let shares = [
            with(&|spec| spec.binds = vec!["/var/tmp:/shared:ro".into()]),
            with(&|spec| spec.volumes = ["/volume".into()].into()),
            with(&|spec| spec.ipc_mode = IpcMode::Host),
            with(&|spec| spec.pid_mode = JoinMode::Host),
            with(&|spec| spec.network_mode = NetworkMode::Host),
        ];
        for spec in shares {
            assert!(!is_handed_on(&engine, spec.clone()).await, "{spec:?}");
        }
        // Who joins a network has the other's hosts file.
        for join in [
            |spec: &mut ContainerSpec| spec.network_mode = NetworkMode::Container("box".into()),
            |spec: &mut ContainerSpec| spec.pid_mode = JoinMode::Container("box".into()),
        ] {
            start(&engine, "box", wanted("busybox", &["sleep", "1000"])).await;
            let mut joining = wanted("busybox", &["true"]);
            join(&mut joining);
            start(&engine, "guest", joining).await;
            ended(&engine, "guest").await;
            assert!(!is_left(&engine).await, "another one was in its namespaces");
            let its = upper(&engine, "guest");
            force_remove(&engine, "guest").await;
            engine.settle().await;
            assert!(!its.exists(), "it was in another one's");
        }
        assert!(is_handed_on(&engine, shell("true")).await);
    });
}

pub fn a_root_goes_to_none_with_other_rights() {
    if !hands_on("a_root_goes_to_none_with_other_rights") {
        return;
    }
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        for change in [
            |spec: &mut ContainerSpec| spec.privileged = true,
            |spec: &mut ContainerSpec| spec.cap_add = vec!["SYS_ADMIN".into()],
            |spec: &mut ContainerSpec| spec.security_opt = vec!["seccomp=unconfined".into()],
        ] {
            for _ in 0..2 {
                let mut spec = shell("true");
                change(&mut spec);
                assert!(!is_handed_on(&engine, spec.clone()).await, "{spec:?}");
            }
        }
        let mut seen: [HashSet<PathBuf>; 2] = Default::default();
        for number in 0..24 {
            let mut spec = shell("true");
            if number % 2 == 1 {
                spec.user = "1000".into();
            }
            start(&engine, "box", spec).await;
            ended(&engine, "box").await;
            seen[number % 2].insert(upper(&engine, "box"));
            is_left(&engine).await;
        }
        assert!(seen[0].is_disjoint(&seen[1]), "{seen:?}");
        assert!(seen.iter().all(|seen| seen.len() < 12), "{seen:?}");
    });
}

pub fn a_container_that_starts_again_has_its_own_root() {
    Place::new().with_engine(|engine| async move {
        warm(&engine).await;
        create(&engine, "box", shell("cat /count; echo 1 >> /count")).await;
        for settle in [false, true, false, true] {
            engine.containers().start("box").await.unwrap();
            assert_eq!(ended(&engine, "box").await, 0);
            if settle {
                engine.settle().await;
            }
        }
        assert_eq!(output(&engine).await.lines().filter(|line| *line == "1").count(), 6);
        assert!(!is_left(&engine).await);
        // What the first run did to its files, the second one's start doesn't cover up.
        create(&engine, "box", shell("chmod 666 /etc/hosts")).await;
        for _ in 0..2 {
            engine.containers().start("box").await.unwrap();
            ended(&engine, "box").await;
        }
        assert!(!is_left(&engine).await);
        // One that has ended, and stays, keeps nothing mounted.
        start(&engine, "box", wanted("busybox", &["sleep", "1000"])).await;
        let pid = engine.containers().inspect("box").unwrap().state.pid;
        let device = metadata(format!("/proc/{pid}/root")).unwrap().dev();
        let is_open = || {
            let files = read_dir("/proc/self/fd").unwrap().filter_map(|entry| metadata(entry.unwrap().path()).ok());
            files.into_iter().any(|found| found.dev() == device)
        };
        assert!(is_open() || !hands_on("that it is mounted while it runs"));
        engine.containers().kill("box", "KILL").await.unwrap();
        ended(&engine, "box").await;
        engine.settle().await;
        assert!(!is_open());
        force_remove(&engine, "box").await;
    });
}

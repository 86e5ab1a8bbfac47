//! The engine with real containers, in a network and mount namespace of its own, with a leak check after each test.
//!
//! This program is its own shim: the engine spawns `/proc/self/exe shim`, so there is no test harness that would take that word for
//! a filter. `cargo test -p corten-engine --test engine [part of a name]` as root; without root it says so and does nothing.

#![expect(clippy::unwrap_used, reason = "a test, but without the harness by which clippy knows one")]

mod reuse;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use corten_engine::life::Phase;
use corten_engine::settings::{NetworkMode, RestartPolicy};
use corten_engine::{
    AttachOptions, Config, ContainerSpec, CreateContainer, Engine, Error, ExecSpec, ListOptions, LogOptions,
    RemoveOptions, StartExec, StopOptions, WaitCondition,
};
use corten_images::ImportOptions;
use corten_testkit::leaks::Leaks;
use tokio::io::AsyncReadExt;

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("hello_runs_and_is_gone", hello_runs_and_is_gone),
    ("failed_starts_leave_nothing", failed_starts_leave_nothing),
    ("a_life_with_every_request", a_life_with_every_request),
    ("executions", executions),
    ("containers_outlive_the_engine", containers_outlive_the_engine),
    ("containers_are_found_below_an_earlier_parent", containers_are_found_below_an_earlier_parent),
    ("many_at_once", many_at_once),
    ("the_next_of_a_kind_is_made_beforehand", the_next_of_a_kind_is_made_beforehand),
    ("a_pool_that_was_killed_comes_back", a_pool_that_was_killed_comes_back),
    ("restart_policies", restart_policies),
    ("volumes_and_ports", volumes_and_ports),
    ("one_engine_for_a_data_root", one_engine_for_a_data_root),
    ("a_root_left_as_it_was_is_the_next_containers", reuse::a_root_left_as_it_was_is_the_next_containers),
    ("a_root_that_was_changed_is_nobody_elses", reuse::a_root_that_was_changed_is_nobody_elses),
    ("files_that_were_changed_are_nobody_elses", reuse::files_that_were_changed_are_nobody_elses),
    ("a_root_in_others_reach_is_nobody_elses", reuse::a_root_in_others_reach_is_nobody_elses),
    ("a_root_that_others_came_into_is_nobody_elses", reuse::a_root_that_others_came_into_is_nobody_elses),
    ("a_root_goes_to_none_with_other_rights", reuse::a_root_goes_to_none_with_other_rights),
    ("a_container_that_starts_again_has_its_own_root", reuse::a_container_that_starts_again_has_its_own_root),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "shim") {
        corten_shim::main(&words[1..]);
    }
    if !corten_testkit::is_root("engine") {
        return ExitCode::SUCCESS;
    }
    // CLONE_NEWNS and CLONE_NEWNET, before there is any thread.
    corten_sys::namespace::unshare(0x0002_0000 | 0x4000_0000).expect("root may unshare");
    corten_sys::mount::set_root_propagation(corten_sys::mount::Propagation::Private)
        .expect("the mounts become private");
    corten_sys::namespace::bring_loopback_up().expect("loopback comes up");
    let wanted = |name: &str| words.iter().all(|word| word.starts_with('-') || name.contains(word.as_str()));
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        println!("test {name} ...");
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// A place for engines, and what it held before them.
struct Place {
    directory: tempfile::TempDir,
    name: String,
}

impl Place {
    fn new() -> Place {
        let directory =
            tempfile::Builder::new().prefix("corten-engine-").tempdir_in("/var/tmp").expect("a directory for the test");
        let name = directory.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        Place { directory, name }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn config(&self) -> Config {
        Config {
            data_root: self.path().join("data"),
            exec_root: self.path().join("run"),
            cgroup_parent: format!("/{}", self.name),
            pool_size: 1,
            live_restore: true,
            ..Config::default()
        }
    }

    /// Runs a test with an engine, and looks that it left nothing but what was there when the engine was fresh.
    fn with_engine<F: Future<Output = ()>>(&self, test: impl FnOnce(Engine) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let engine = Engine::start(self.config()).await.unwrap_or_else(|error| panic!("{}", error.message()));
            let fresh = self.leaks();
            test(engine.clone()).await;
            engine.settle().await;
            let left = self.leaks();
            // What containers have must be gone; the network room's rules are as at the start, the pool is as large as it is.
            let own = left.processes.iter().filter(|process| process.contains("self ")).cloned().collect();
            let expected =
                Leaks { elements: fresh.elements, pool: left.pool.clone(), processes: own, ..Leaks::default() };
            assert_eq!(left, expected);
            engine.shutdown().await;
            assert_eq!(self.leaks().pool, BTreeSet::new(), "the pool's own, and those of an engine that died before");
        });
    }

    fn leaks(&self) -> Leaks {
        Leaks::of(std::process::id(), &self.name, self.path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(controller.path().join(&self.name));
        }
    }
}

/// Makes `busybox` from Debian's package.
async fn busybox(engine: &Engine) {
    let tar = std::fs::read(corten_testkit::debian::busybox_tar()).expect("the tar was made");
    let (sender, body) = tokio::sync::mpsc::channel(1);
    let options = ImportOptions {
        name: Some(corten_base::Reference::parse_normalized("busybox").expect("a good name")),
        changes: vec!["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        ..ImportOptions::default()
    };
    let mut import = engine.images().import(body, options);
    sender.send(Ok(Bytes::from(tar))).await.expect("the import reads");
    drop(sender);
    while let Some(step) = import.next().await {
        step.unwrap_or_else(|error| panic!("{}", error.message()));
    }
}

fn wanted(image: &str, cmd: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        cmd: Some(cmd.iter().map(|word| word.to_string()).collect()),
        network_mode: NetworkMode::None,
        ..ContainerSpec::default()
    }
}

async fn create(engine: &Engine, name: &str, spec: ContainerSpec) -> String {
    let request = CreateContainer { name: Some(name.into()), spec, ..CreateContainer::default() };
    engine.containers().create(request).await.unwrap_or_else(|error| panic!("{}", error.message())).id.to_string()
}

async fn start(engine: &Engine, name: &str, spec: ContainerSpec) -> String {
    let id = create(engine, name, spec).await;
    engine.containers().start(name).await.unwrap_or_else(|error| panic!("{}", error.message()));
    id
}

async fn ended(engine: &Engine, name: &str) -> i32 {
    engine.containers().wait(name, WaitCondition::NotRunning).expect("it is there").finished().await.exit_code
}

async fn force_remove(engine: &Engine, name: &str) {
    let options = RemoveOptions { force: true, volumes: true };
    engine.containers().remove(name, options).await.unwrap_or_else(|error| panic!("{}", error.message()));
}

async fn log(engine: &Engine, name: &str) -> String {
    let options = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
    let mut log = engine.containers().logs(name, options).await.expect("it has a log");
    let mut text = Vec::new();
    while let Some(piece) = log.next().await {
        text.extend(piece.expect("the log is readable"));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn phase(engine: &Engine, name: &str) -> Phase {
    engine.containers().inspect(name).expect("it is there").state.phase
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("it must be refused").message()
}

fn hello_runs_and_is_gone() {
    Place::new().with_engine(|engine| async move {
        let mut events = engine.subscribe(Default::default(), None);
        let spec = ContainerSpec {
            image: "corten/hello".into(),
            network_mode: NetworkMode::None,
            auto_remove: true,
            ..Default::default()
        };
        create(&engine, "hello", spec).await;
        let wait = engine.containers().wait("hello", WaitCondition::Removed).unwrap();
        let options = AttachOptions { stdout: true, stderr: true, stream: true, ..Default::default() };
        let mut attached = engine.containers().attach("hello", options).await.unwrap();
        engine.containers().start("hello").await.unwrap();
        let mut text = Vec::new();
        attached.stream.as_mut().unwrap().read_to_end(&mut text).await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains("Hello from Corten!"));
        assert_eq!(wait.finished().await.exit_code, 0);
        assert_eq!(refused(engine.containers().inspect("hello")), "No such container: hello");
        let mut seen = Vec::new();
        while let Ok(Some(event)) = events.try_next() {
            if event.kind == corten_events::Kind::Container {
                seen.push(event.action.clone());
            }
        }
        assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
    });
}

fn failed_starts_leave_nothing() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        let check = async |spec: ContainerSpec, exit_code: i32, expect: &str| {
            create(&engine, "bad", spec).await;
            let error = refused(engine.containers().start("bad").await);
            assert!(error.contains(expect), "{error}");
            let view = engine.containers().inspect("bad").unwrap();
            assert_eq!((view.state.phase, view.state.exit_code), (Phase::Created, exit_code), "{error}");
            force_remove(&engine, "bad").await;
        };
        for network in [NetworkMode::None, NetworkMode::Bridge] {
            let with = |cmd: &[&str]| ContainerSpec { network_mode: network.clone(), ..wanted("busybox", cmd) };
            check(with(&["nope"]), 127, "exec: \"nope\": executable file not found in $PATH").await;
            check(with(&["/etc/passwd"]), 126, "permission denied").await;
            check(with(&["/etc"]), 126, "is a directory").await;
            let nobody = ContainerSpec { user: "nobody-there".into(), ..with(&["true"]) };
            check(nobody, 128, "unable to find user nobody-there: no matching entries in passwd file").await;
        }
        let joins =
            ContainerSpec { network_mode: NetworkMode::Container("nobody".into()), ..wanted("busybox", &["true"]) };
        check(joins, 128, "No such container: nobody").await;
        let no_network =
            ContainerSpec { network_mode: NetworkMode::Named("nowhere".into()), ..wanted("busybox", &["true"]) };
        check(no_network, 128, "failed to set up container networking: network nowhere not found").await;
        refusals_at_create(&engine).await;
    });
}

async fn refusals_at_create(engine: &Engine) {
    let refuse = async |spec: ContainerSpec| {
        let request = CreateContainer { name: Some("never".into()), spec, ..CreateContainer::default() };
        refused(engine.containers().create(request).await)
    };
    assert_eq!(refuse(wanted("nosuch", &["x"])).await, "No such image: nosuch:latest");
    assert_eq!(refuse(wanted("busybox", &[])).await, "no command specified");
    let limits = corten_engine::settings::Resources { memory: 1, ..Default::default() };
    assert_eq!(
        refuse(ContainerSpec { resources: limits, ..wanted("busybox", &["x"]) }).await,
        "Minimum memory limit allowed is 6MB"
    );
    let runtime = ContainerSpec { runtime: "foo".into(), ..wanted("busybox", &["x"]) };
    assert_eq!(refuse(runtime).await, "unknown or invalid runtime name: foo");
    let caps = ContainerSpec { cap_add: vec!["FOO".into()], ..wanted("busybox", &["x"]) };
    assert_eq!(refuse(caps).await, "invalid CapAdd: unknown capability: \"CAP_FOO\"");
    let binds = ContainerSpec { binds: vec!["/a:/b".into(), "/c:/b".into()], ..wanted("busybox", &["x"]) };
    assert_eq!(refuse(binds).await, "Duplicate mount point: /b");
    // Each gave the name back.
    create(engine, "never", wanted("busybox", &["x"])).await;
    force_remove(engine, "never").await;
}

fn a_life_with_every_request() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        let containers = engine.containers();
        let script = "trap 'echo stopping; exit 4' TERM; echo up; while :; do sleep 0.05; done";
        let id = start(&engine, "one", wanted("busybox", &["sh", "-c", script])).await;
        while !log(&engine, "one").await.contains("up") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(refused(containers.start("one").await), "Container is already started");
        let taken = CreateContainer { name: Some("one".into()), spec: wanted("busybox", &["x"]), ..Default::default() };
        assert!(refused(containers.create(taken).await).contains(&format!("already in use by container \"{id}\"")));
        let error = refused(containers.remove("one", RemoveOptions::default()).await);
        assert_eq!(
            error,
            "cannot remove container \"one\": container is running: stop the container before removing or force remove"
        );

        containers.pause("one").await.unwrap();
        assert_eq!(phase(&engine, "one"), Phase::Paused);
        containers.unpause(&id[..12]).await.unwrap();
        containers.rename("one", "two").await.unwrap();
        assert_eq!(refused(containers.inspect("one")), "No such container: one");
        containers.stop("two", StopOptions::default()).await.unwrap();
        assert_eq!(ended(&engine, "two").await, 4);
        assert!(log(&engine, "two").await.contains("stopping"));
        assert_eq!(refused(containers.stop("two", StopOptions::default()).await), "Container is already stopped");
        assert!(refused(containers.kill("two", "").await).ends_with("is not running"));

        containers.restart("two", StopOptions::default()).await.unwrap();
        assert_eq!(phase(&engine, "two"), Phase::Running);
        let (titles, rows) = containers.top("two", "").await.unwrap();
        assert!(titles.contains(&"PID".to_string()) && !rows.is_empty());
        containers.kill("two", "KILL").await.unwrap();
        assert_eq!(ended(&engine, "two").await, 137);
        assert_eq!(containers.list(&ListOptions::default()).unwrap().len(), 0);
        assert_eq!(containers.list(&ListOptions { all: true, ..Default::default() }).unwrap().len(), 1);
        force_remove(&engine, "two").await;
    });
}

fn executions() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        start(&engine, "main", wanted("busybox", &["sleep", "1000"])).await;
        let execs = engine.execs();
        let spec = |args: &[&str]| ExecSpec {
            args: args.iter().map(|word| word.to_string()).collect(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecSpec::default()
        };
        let run = async |args: &[&str]| {
            let id = execs.create("main", spec(args)).await.unwrap().to_string();
            let mut attached = execs.start(&id, StartExec::default()).await.unwrap().unwrap();
            let mut text = Vec::new();
            while let Some(piece) = attached.log.as_mut().unwrap().next().await {
                text.extend(piece.unwrap());
            }
            attached.stream.as_mut().unwrap().read_to_end(&mut text).await.unwrap();
            attached.end.take().unwrap().recorded().await;
            (String::from_utf8_lossy(&text).into_owned(), execs.inspect(&id).unwrap().exit_code)
        };
        let (text, code) = run(&["sh", "-c", "echo in; cat /proc/1/cmdline; exit 7"]).await;
        assert!(text.contains("in\n") && text.contains("sleep\u{0}1000"), "{text}");
        assert_eq!(code, Some(7));
        let (text, code) = run(&["nope"]).await;
        assert!(text.contains("exec: \"nope\": executable file not found in $PATH\r\n"), "{text}");
        assert_eq!(code, Some(127));
        let detached = execs.create("main", spec(&["nope"])).await.unwrap().to_string();
        let start_detached = StartExec { detach: true, ..StartExec::default() };
        assert!(refused(execs.start(&detached, start_detached).await).starts_with("OCI runtime exec failed"));
        assert!(refused(execs.start(&detached, StartExec::default()).await).contains("has already run"));
        force_remove(&engine, "main").await;
        assert_eq!(refused(execs.inspect(&detached)), format!("No such exec instance: {detached}"));
    });
}

/// The engine is dropped without a word, as `kill -9` would do it, and another one begins.
fn containers_outlive_the_engine() {
    let place = Place::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    first.block_on(async {
        let engine = Engine::start(place.config()).await.unwrap();
        busybox(&engine).await;
        start(&engine, "lives", wanted("busybox", &["sh", "-c", "while :; do echo tick; sleep 0.05; done"])).await;
        start(&engine, "ends", wanted("busybox", &["sh", "-c", "read x < /dev/null; sleep 0.3; exit 5"])).await;
        start(&engine, "goes", ContainerSpec { auto_remove: true, ..wanted("busybox", &["sleep", "0.3"]) }).await;
        create(&engine, "made", wanted("busybox", &["true"])).await;
        let nowhere = ContainerSpec { cgroup_parent: "../up".into(), ..wanted("busybox", &["true"]) };
        create(&engine, "misplaced", nowhere).await;
    });
    drop(first);
    // Both of those that end do so while nobody watches.
    std::thread::sleep(Duration::from_secs(1));
    place.with_engine(|engine| async move {
        assert_eq!(phase(&engine, "lives"), Phase::Running);
        assert_eq!((ended(&engine, "ends").await, phase(&engine, "ends")), (5, Phase::Exited));
        while engine.containers().inspect("goes").is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        engine.containers().start("made").await.unwrap();
        assert_eq!(ended(&engine, "made").await, 0);
        let id =
            engine.execs().create("lives", ExecSpec { args: vec!["true".into()], ..Default::default() }).await.unwrap();
        engine.execs().start(id.as_str(), StartExec { detach: true, ..Default::default() }).await.unwrap();
        let before = log(&engine, "lives").await.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(log(&engine, "lives").await.len() > before);
        assert!(engine.containers().start("misplaced").await.is_err());
        for name in ["lives", "ends", "made", "misplaced"] {
            force_remove(&engine, name).await;
        }
    });
}

/// The next engine has its groups elsewhere: those of what lives on are still used and removed, and so is a dead pool.
fn containers_are_found_below_an_earlier_parent() {
    let place = Place::new();
    let earlier = format!("{}/earlier", place.name);
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lost = first.block_on(async {
        let config = Config { cgroup_parent: earlier.clone(), ..place.config() };
        let engine = Engine::start(config).await.unwrap();
        busybox(&engine).await;
        start(&engine, "lives", wanted("busybox", &["sleep", "1000"])).await;
        start(&engine, "lost", wanted("busybox", &["sleep", "1000"])).await;
        engine.containers().inspect("lost").unwrap().state.pid
    });
    drop(first);
    let status = std::fs::read_to_string(format!("/proc/{lost}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    let shim = rustix::process::Pid::from_raw(shim.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    place.with_engine(|engine| async move {
        assert_eq!((phase(&engine, "lives"), ended(&engine, "lost").await), (Phase::Running, 255));
        engine.containers().pause("lives").await.unwrap();
        engine.containers().unpause("lives").await.unwrap();
        let sleep = ExecSpec { args: vec!["sleep".into(), "1000".into()], ..Default::default() };
        let id = engine.execs().create("lives", sleep).await.unwrap();
        engine.execs().start(id.as_str(), StartExec { detach: true, ..Default::default() }).await.unwrap();
        let (_, rows) = engine.containers().top("lives", "").await.unwrap();
        assert_eq!(rows.len(), 2, "who comes in later is in the container's group, too");
        for name in ["lives", "lost"] {
            force_remove(&engine, name).await;
        }
        engine.settle().await;
        for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let left = controller.unwrap().path().join(&earlier);
            assert!(!left.exists() || std::fs::remove_dir(&left).is_ok(), "{} is not empty", left.display());
        }
    });
}

fn many_at_once() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        let mut runs = tokio::task::JoinSet::new();
        for number in 0..24 {
            let engine = engine.clone();
            runs.spawn(async move {
                let mode = if number % 2 == 0 { NetworkMode::None } else { NetworkMode::Bridge };
                let spec =
                    ContainerSpec { network_mode: mode, ..wanted("busybox", &["sh", "-c", &format!("exit {number}")]) };
                let name = format!("many-{number}");
                start(&engine, &name, spec).await;
                assert_eq!(ended(&engine, &name).await, number);
                force_remove(&engine, &name).await;
            });
        }
        while let Some(run) = runs.join_next().await {
            run.unwrap();
        }
    });
}

fn the_next_of_a_kind_is_made_beforehand() {
    let place = Place::new();
    let (containers, spares) = (place.path().join("data/containers"), place.path().join("data/spares"));
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    // One that is on its way out may be gone by now.
    let inodes = move || -> Vec<u64> {
        use std::os::unix::fs::DirEntryExt;
        std::fs::read_dir(&spares).unwrap().map(|entry| entry.unwrap().ino()).collect()
    };
    place.with_engine(|engine| async move {
        busybox(&engine).await;
        create(&engine, "first", wanted("busybox", &["true"])).await;
        start(&engine, "second", wanted("busybox", &["true"])).await;
        assert_eq!(ended(&engine, "second").await, 0);
        while inodes().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ready = inodes();
        let id = start(&engine, "third", wanted("busybox", &["cat", "/etc/hostname"])).await;
        assert!(ready.contains(&inode(&containers.join(&id))));
        assert_eq!(ended(&engine, "third").await, 0);
        assert!(log(&engine, "third").await.contains(&id[..12]));
        for name in ["first", "second", "third"] {
            force_remove(&engine, name).await;
        }
        // They keep no image alive, nor a new one of the same name from being used.
        engine.images().remove("busybox", false, false).await.unwrap();
        while !inodes().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        busybox(&engine).await;
        start(&engine, "new", wanted("busybox", &["true"])).await;
        assert_eq!(ended(&engine, "new").await, 0);
        force_remove(&engine, "new").await;
    });
}

fn a_pool_that_was_killed_comes_back() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        start(&engine, "before", wanted("busybox", &["true"])).await;
        assert_eq!(ended(&engine, "before").await, 0);
        force_remove(&engine, "before").await;
        engine.settle().await;
        // The zygote and its idle copies: no container has a process now.
        let children: Vec<i32> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        assert!(children.len() >= 2, "{children:?}");
        for pid in children {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        for name in ["after", "another"] {
            start(&engine, name, wanted("busybox", &["true"])).await;
            assert_eq!(ended(&engine, name).await, 0);
            force_remove(&engine, name).await;
        }
    });
}

fn restart_policies() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        let spec = ContainerSpec {
            restart: RestartPolicy::OnFailure(2),
            ..wanted("busybox", &["sh", "-c", "echo run; exit 1"])
        };
        start(&engine, "again", spec).await;
        let all = tokio::time::timeout(Duration::from_secs(20), ended(&engine, "again"));
        assert_eq!(all.await.expect("it ends for good"), 1);
        assert_eq!(log(&engine, "again").await.matches("run").count(), 3);
        assert_eq!(engine.containers().inspect("again").unwrap().state.restart_count, 2);
        force_remove(&engine, "again").await;
    });
}

fn volumes_and_ports() {
    Place::new().with_engine(|engine| async move {
        busybox(&engine).await;
        let mut spec = ContainerSpec {
            network_mode: NetworkMode::Bridge,
            binds: vec!["data:/data".into()],
            volumes: ["/anonymous".to_string()].into(),
            ..wanted("busybox", &["sh", "-c", "echo here > /data/index.html; exec httpd -f -h /data"])
        };
        let binding = corten_engine::settings::PortBinding { host_ip: String::new(), host_port: "18080".into() };
        spec.port_bindings.insert("80/tcp".into(), vec![binding]);
        start(&engine, "web", spec.clone()).await;
        assert_eq!(engine.volumes().list(Default::default()).await.unwrap().len(), 2);
        let view = engine.containers().inspect("web").unwrap();
        assert_eq!(view.network.ports["80/tcp"][0].host_port, 18080);
        create(&engine, "rival", spec.clone()).await;
        let error = refused(engine.containers().start("rival").await);
        assert!(error.ends_with("Bind for 0.0.0.0:18080 failed: port is already allocated"), "{error}");
        force_remove(&engine, "rival").await;
        let in_use = refused(engine.volumes().remove("data", false).await);
        assert!(in_use.contains("volume is in use"), "{in_use}");
        // The port is free as soon as the end is told.
        engine.containers().kill("web", "").await.unwrap();
        start(&engine, "next", spec).await;
        force_remove(&engine, "next").await;
        force_remove(&engine, "web").await;
        assert_eq!(engine.volumes().list(Default::default()).await.unwrap().len(), 1);
        engine.volumes().remove("data", false).await.unwrap();
    });
}

fn one_engine_for_a_data_root() {
    let place = Place::new();
    let config = place.config();
    place.with_engine(|_| async move {
        let second = refused(Engine::start(config).await);
        assert!(second.contains(&format!("is in use by another daemon (pid {})", std::process::id())), "{second}");
    });
}

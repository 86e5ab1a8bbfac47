//! `corten runtime` as higher tools drive it: the real executable, on the real kernel. Needs root.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A bundle with busybox, a root for the runtime's state, and one container's id.
struct Bench {
    place: TempDir,
    id: String,
}

/// A bench whose container runs `script`; none, and a line that says why, where it can't be.
fn bench(script: &str, change: impl FnOnce(&mut Value, &Path)) -> Option<Bench> {
    if !corten_testkit::is_root("runtime_command") {
        return None;
    }
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: busybox-static is not installed");
        return None;
    };
    let place = tempfile::Builder::new().prefix("corten-runtime-").tempdir().unwrap();
    let bin = place.path().join("bundle/rootfs/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in ["sh", "cat", "true", "sleep", "echo", "readlink", "tty", "id", "test", "kill"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let id = format!("corten-runtime-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let bench = Bench { place, id };
    bench.runtime(&["spec", "--bundle", &bench.path("bundle")]).ok();
    let path = bench.place.path().join("bundle/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["root"]["readonly"] = json!(false);
    change(&mut config, bench.place.path());
    fs::write(path, config.to_string()).unwrap();
    Some(bench)
}

/// What a command printed and how it ended.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    fn fails(self, code: i32, text: &str) {
        assert!(self.code == Some(code) && self.err.contains(text), "{code}, {text:?} expected: {self:?}");
    }
}

impl Bench {
    fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
        command.args(["runtime", "--root", &self.path("state")]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command whose output goes to files: a detached container may keep it open.
    fn runtime(&self, words: &[&str]) -> Answer {
        let (out, err) = (self.path("out"), self.path("err"));
        let mut command = self.command(words);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let status = command.status().unwrap();
        let read = |path: &str| fs::read_to_string(path).unwrap();
        Answer { code: status.code(), out: read(&out), err: read(&err) }
    }

    fn create(&self, more: &[&str]) -> Answer {
        self.runtime(&[&["create", "--bundle", &self.path("bundle")], more, &[&self.id]].concat())
    }

    fn run(&self, more: &[&str]) -> Answer {
        self.runtime(&[&["run", "--bundle", &self.path("bundle")], more, &[&self.id]].concat())
    }

    fn on(&self, command: &str) -> Answer {
        self.runtime(&[command, &self.id])
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.on("state").ok()).unwrap()
    }

    fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of the init, which is no child of this process.
    fn wait_for_end(&self) {
        let pid = i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap();
        let Ok(pidfd) = corten_sys::process::open_pidfd(pid) else { return };
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert!(rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0, "the container does not end");
    }

    fn groups(&self) -> Vec<PathBuf> {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        roots.chain(["/sys/fs/cgroup".into()]).map(|root| root.join(&self.id)).filter(|group| group.exists()).collect()
    }

    /// Nothing of the container is left: no directory, group, mount or process.
    #[track_caller]
    fn is_clean(&self) {
        let state = self.place.path().join("state");
        let left: Vec<_> = fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.place.path().to_str().unwrap()), "a mount is left");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

#[test]
fn a_life_step_by_step() {
    let Some(bench) = bench("echo started >/mark; exec sleep 1000", |config, _| {
        config["annotations"] = json!({"a": "b"});
    }) else {
        return;
    };
    bench.create(&["--pid-file", &bench.path("pid")]).ok();
    let state = bench.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"], json!({"a": "b"}));
    assert_eq!(state["bundle"], bench.path("bundle").as_str());
    assert_eq!(state["pid"].to_string(), fs::read_to_string(bench.path("pid")).unwrap());
    assert!(!Path::new(&bench.path("bundle/rootfs/mark")).exists(), "the program ran before its start");
    bench.create(&[]).fails(1, "container with given ID already exists");
    bench.on("resume").fails(1, "container not paused");

    bench.on("start").ok();
    assert_eq!(bench.status(), "running");
    bench.on("start").fails(1, "cannot start a container in the running state");
    bench.on("delete").fails(1, "that is not stopped: running");
    let listed: Value = serde_json::from_str(&bench.runtime(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(listed[0]["id"], bench.id.as_str());
    assert_eq!(bench.runtime(&["list", "-q"]).ok(), format!("{}\n", bench.id));
    assert!(bench.runtime(&["list"]).ok().starts_with("ID "));

    bench.on("kill").ok();
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    assert_eq!((bench.status(), bench.state()["pid"].clone()), ("stopped".into(), json!(0)));
    bench.on("kill").fails(1, "container not running");
    bench.on("delete").ok();
    bench.on("state").fails(1, "container does not exist");
    bench.on("delete").fails(1, "container does not exist");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn the_exit_code_is_the_programs() {
    let Some(bench) = bench("echo out; echo err >&2; exit 7", |_, _| {}) else { return };
    let answer = bench.run(&[]);
    assert_eq!((answer.code, &*answer.out, &*answer.err), (Some(7), "out\n", "err\n"));
    bench.is_clean();
}

#[test]
fn signals_end_with_128_and_more() {
    let Some(bench) = bench("kill -9 $$; sleep 1000", |config, _| {
        // As the first process of a PID namespace it could not kill itself.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    }) else {
        return;
    };
    assert_eq!(bench.run(&[]).code, Some(137));
    bench.is_clean();
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let Some(bench) = bench("true", |config, _| config["process"]["args"] = json!(["nosuch"])) else { return };
    bench.create(&[]).fails(1, "executable file not found in $PATH");
    bench.is_clean();
    bench.run(&[]).fails(1, "corten runtime run failed: unable to start container process");
    bench.is_clean();
    bench.runtime(&["create", "--bundle", "/nonexistent", &bench.id]).fails(1, "cannot open the bundle");
    bench.runtime(&["create", "--bundle", &bench.path("bundle"), "a/b"]).fails(1, "invalid container ID format");
    bench.runtime(&["create", "--nope"]).fails(1, "flag provided but not defined: -nope");
    bench.runtime(&["--systemd-cgroup", "list"]).fails(1, "--systemd-cgroup is not supported");
    bench.is_clean();
}

#[test]
fn messages_are_logged_as_runc_does() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let log = bench.path("log");
    let answer = bench.runtime(&["--log", &log, "--log-format", "json", "state", "nosuch"]);
    assert_eq!((answer.code, &*answer.err), (Some(1), "container does not exist\n"));
    let line: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist")));
    assert!(corten_base::time::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
    bench.on("state").fails(1, "level=error msg=\"container does not exist\"");
}

#[test]
fn exec_joins_the_container() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let exec =
        |flags: &[&str], words: &[&str]| bench.runtime(&[&["exec"], flags, &[bench.id.as_str()], words].concat());
    let answer =
        exec(&["--env", "A=1", "--cwd", "/bin"], &["sh", "-c", "echo $A $PWD $(readlink /proc/1/exe); exit 3"]);
    assert_eq!((answer.code, &*answer.out), (Some(3), "1 /bin /bin/busybox\n"), "{answer:?}");
    let answer = exec(&["--user", "7:8", "--additional-gids", "9"], &["sh", "-c", "id -u; id -g; id -G"]);
    assert_eq!(answer.ok(), "7\n8\n8 9\n");
    exec(&[], &["nosuch"]).fails(255, "executable file not found in $PATH");
    exec(&["--detach", "--pid-file", &bench.path("pid")], &["sleep", "1000"]).ok();
    let pid = fs::read_to_string(bench.path("pid")).unwrap();
    let pids: Vec<i32> = serde_json::from_str(&bench.runtime(&["ps", "--format", "json", &bench.id]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&pid.parse().unwrap()));
    assert_eq!(bench.on("ps").ok().lines().count(), 3, "a heading and two processes");
    bench.runtime(&["kill", "--all", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    bench.on("delete").ok();
    exec(&[], &["true"]).fails(255, "container does not exist");
    bench.is_clean();
}

#[test]
fn pause_update_and_events() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    bench.on("pause").ok();
    assert_eq!(bench.status(), "paused");
    bench.runtime(&["exec", &bench.id, "true"]).fails(255, "cannot exec in a paused container");
    bench.on("resume").ok();
    assert_eq!(bench.status(), "running");
    bench.runtime(&["update", "--pids-limit", "77", "--memory", "64m", &bench.id]).ok();
    let event: Value = serde_json::from_str(&bench.runtime(&["events", "--stats", &bench.id]).ok()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bench.id)));
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 77}));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], json!(64 << 20));
    fs::write(bench.path("resources"), r#"{"pids": {"limit": 78}}"#).unwrap();
    bench.runtime(&["update", "-r", &bench.path("resources"), &bench.id]).ok();
    let event: Value = serde_json::from_str(&bench.runtime(&["events", "--stats", &bench.id]).ok()).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 78);
    bench.on("pause").ok();
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

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

#[test]
fn the_terminal_goes_to_the_console_socket() {
    let Some(bench) = bench("tty; read line", |config, _| config["process"]["terminal"] = json!(true)) else {
        return;
    };
    bench.create(&[]).fails(1, "cannot allocate tty if the runtime will detach without setting console socket");
    let path = bench.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    bench.run(&["--detach", "--console-socket", &path]).ok();
    let (socket, _) = listener.accept().unwrap();
    let mut terminal = fs::File::from(receive(&OwnedFd::from(socket)));
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    assert_eq!(String::from_utf8(text).unwrap(), "/dev/pts/0\r\n");
    terminal.write_all(b"\n").unwrap();
    bench.wait_for_end();
    bench.on("delete").ok();
    bench.is_clean();
}

fn receive(socket: &OwnedFd) -> OwnedFd {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(socket.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.next().unwrap().next().unwrap()
}

/// CVE-2019-5736: the runtime's own file, which stands behind an init's `/proc/<pid>/exe`, cannot be opened for writing. That
/// it is being executed is no defence: it ends with the execution.
#[test]
fn the_executable_cannot_be_reached_for_writing() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    bench.create(&[]).ok();
    let exe = format!("/proc/{}/exe", bench.state()["pid"]);
    // Truncation asks for the mount's permission before it asks whether the file is busy.
    let error = fs::OpenOptions::new().write(true).truncate(true).open(exe).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn a_user_namespace_has_hooks_and_execs_too() {
    let Some(bench) = bench("exec sleep 1000", |config, _| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    }) else {
        return;
    };
    let chown =
        Command::new("chown").args(["-R", "-h", "100000:100000", &bench.path("bundle/rootfs")]).status().unwrap();
    assert!(chown.success());
    bench.run(&["--detach"]).ok();
    let map = bench.runtime(&["exec", &bench.id, "cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn the_name_chooses_the_role() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let link = bench.path("corten-runtime");
    symlink(env!("CARGO_BIN_EXE_corten"), &link).unwrap();
    let output: Output = Command::new(link).arg("features").output().unwrap();
    let features: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
}

//! An engine under test: a daemon of its own in its own network and mount namespace, with its own data root, run directory,
//! socket and cgroup parent, and a leak check at the end.
//!
//! The namespaces belong to a holder process, so that the daemon can be killed and started again inside the same ones.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::chroot;
use crate::leaks::Leaks;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A running daemon and the place it works in. Dropping it ends everything it started.
pub struct TestEngine {
    executable: PathBuf,
    directory: tempfile::TempDir,
    holder: Child,
    daemon: Option<Child>,
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where the daemon takes its root to be, if that is not the namespace's.
    root: Option<PathBuf>,
    idle: Leaks,
}

impl TestEngine {
    /// Starts a daemon of `executable` with Docker's defaults.
    pub fn start(executable: &str) -> Self {
        Self::start_with(executable, &[])
    }

    /// Starts a daemon with Docker's defaults and its run directory on a tmpfs, as `/run` is where it is installed.
    pub fn start_as_installed(executable: &str) -> Self {
        Self::start_prepared(executable, &[], "mkdir run && mount -t tmpfs -o mode=755 run run", None)
    }

    /// Starts a daemon with Docker's defaults in a chroot that is a [mount](chroot::mount).
    pub fn start_in_chroot(executable: &str) -> Self {
        Self::start_prepared(executable, &[], &chroot::mount(), Some("chroot/root"))
    }

    /// Starts a daemon with further arguments.
    pub fn start_with(executable: &str, arguments: &[&str]) -> Self {
        Self::start_prepared(executable, arguments, "true", None)
    }

    /// As [`start_with`](Self::start_with), after a shell command in the engine's directory and namespaces; the daemon's root may be below
    /// that directory.
    fn start_prepared(executable: &str, arguments: &[&str], command: &str, root: Option<&str>) -> Self {
        let name = format!("corten-test-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory =
            tempfile::Builder::new().prefix(&name).tempdir_in("/var/tmp").expect("making a directory for the test");
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--kill-child", "--fork", "sh", "-c"])
            .arg(format!("ip link set lo up && {command} && touch ready && cd / && exec sleep infinity"))
            .current_dir(directory.path())
            .spawn()
            .expect("unshare(1) starts");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let idle = Leaks::default();
        let root = root.map(|root| directory.path().join(root));
        let executable = executable.into();
        let environment = Vec::new();
        let mut engine = Self { executable, directory, holder, daemon: None, name, arguments, environment, root, idle };
        engine.wait_for("the namespaces", |engine| engine.path().join("ready").exists());
        engine.start_daemon();
        // The table of a daemon without containers stands as long as its bridge.
        let Leaks { elements, mounts, .. } = engine.leaks();
        engine.idle = Leaks { elements, mounts, ..Leaks::default() };
        engine
    }

    /// The directory of this engine: `data`, `run`, `corten.sock` and `log` are in it, a test's own files may be.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// `unix://` and the path of the daemon's socket.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("corten.sock")
    }

    /// Starts the daemon in the namespaces of this engine and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.path().join("log")).expect("opening the log");
        let mut command = match &self.root {
            None => self.inside(&self.executable),
            Some(root) => {
                let mut command = self.inside("/usr/sbin/chroot");
                command.arg(root).arg(&self.executable);
                command
            }
        };
        command
            .arg("daemon")
            .arg("--data-root")
            .arg(self.path().join("data"))
            .arg("--exec-root")
            .arg(self.path().join("run"));
        command.arg("--pidfile").arg(self.path().join("run/corten.pid")).args(["--host", &self.host()]);
        command.args(["--cgroup-parent", &format!("/{}", self.name)]).args(&self.arguments);
        // No other program is there for the daemon to run.
        command.env_clear().env("PATH", "/nonexistent").env("RUST_BACKTRACE", "1");
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second log handle")).stderr(log);
        self.daemon = Some(command.spawn().expect("nsenter(1) starts"));
        self.wait_for("the daemon", |engine| {
            let exited = engine.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            assert!(exited.is_none(), "the daemon ended ({exited:?}); its log:\n{}", engine.log());
            engine.get("/_ping").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    /// What the daemon finds in its environment when it is started next.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    /// Ends the daemon at once, as a crash would.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("killing the daemon");
        daemon.wait().expect("waiting for the daemon");
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let status = Command::new("kill").arg(daemon.id().to_string()).status().expect("kill(1) starts");
        assert!(status.success(), "signalling the daemon");
        let deadline = Instant::now() + Duration::from_secs(30);
        while daemon.try_wait().expect("asking for the daemon's status").is_none() {
            assert!(Instant::now() < deadline, "the daemon did not stop; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// A command that runs `program` inside the engine's network and mount namespaces.
    pub fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        // The holder is the child of unshare(1), which is what was spawned here.
        command
            .args(["--target", &self.namespace_pid().to_string(), "--net", "--mount", "--wdns=/", "--"])
            .arg(program);
        command
    }

    /// Runs the real `docker` client against this engine.
    pub fn docker(&self, arguments: &[&str]) -> Answer {
        self.client(docker_client(), arguments, &[])
    }

    /// Runs Corten's own client against this engine.
    pub fn corten(&self, arguments: &[&str]) -> Answer {
        self.client(self.executable.clone(), arguments, &[])
    }

    /// Runs a client with something on its standard input.
    pub fn client(&self, program: PathBuf, arguments: &[&str], input: &[u8]) -> Answer {
        let mut command = Command::new("timeout");
        command.arg("120").arg(&program).args(arguments).envs([("DOCKER_HOST", self.host())]);
        command.env("DOCKER_CONFIG", self.path().join("config")).env_remove("DOCKER_CONTEXT");
        Answer::of(&mut command, input)
    }

    /// A bare GET over the daemon's socket: the whole answer, or nothing when nobody listens.
    pub fn get(&self, target: &str) -> Option<String> {
        self.request(&format!("GET {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"))
    }

    /// A POST of a JSON body over the daemon's socket.
    pub fn post(&self, target: &str, body: &str) -> String {
        let length = body.len();
        self.request(&format!(
            "POST {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .expect("the daemon answers")
    }

    /// Sends raw bytes over the daemon's socket and reads until it closes: nothing when nobody listens.
    pub fn request(&self, request: &str) -> Option<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(self.socket()).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Nothing of this engine's containers or of unfinished work is on the machine.
    pub fn is_clean(&self) -> bool {
        self.leaks() == self.idle
    }

    /// What of this engine's containers is on the machine now, its pool left out: compare two of them.
    pub fn leaks_of_containers(&self) -> Leaks {
        Leaks { pool: Default::default(), ..self.leaks() }
    }

    /// What of this engine is on the machine now.
    pub fn leaks(&self) -> Leaks {
        Leaks::of(self.namespace_pid(), &self.name, self.path())
    }

    /// Stops the daemon and asserts that nothing of it is left: no mount, link, rule, cgroup or process.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop_daemon();
        let log = self.log();
        // A warm shim ends when it notices that the daemon has gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.is_clean() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.is_clean(), "left behind: {:#?}\nthe daemon's log:\n{log}", self.leaks());
        assert!(!log.contains("panicked at"), "the daemon panicked:\n{log}");
    }

    /// A process in the engine's namespaces, for tools that name them by pid.
    pub fn namespace_pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.holder.id());
        let text = std::fs::read_to_string(children).unwrap_or_default();
        text.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("the holder of the namespaces lives")
    }

    fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < deadline, "{what} did not come up; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // A daemon that is still here is one of a failed test: its containers end with their own pids.
            crate::leaks::kill_containers(&self.name);
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        crate::leaks::remove_parent_groups(&self.name);
    }
}

/// What a client printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; 128+n for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Runs `command` to its end with `input` on its standard input.
    pub fn of(command: &mut Command, input: &[u8]) -> Self {
        use std::io::Write;
        let described = format!("{command:?}");
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("running {described}: {error}"));
        let writer = child.stdin.take().map(|mut stdin| {
            let input = input.to_owned();
            // A client that ends early closes the pipe: that is its right, its answer tells.
            std::thread::spawn(move || stdin.write_all(&input).ok())
        });
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("waiting for {described}: {error}"));
        if let Some(writer) = writer {
            writer.join().expect("the writer of the standard input ends");
        }
        Self::from(output)
    }

    /// Asserts success and gives the trimmed standard output.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim_end()
    }

    /// Asserts the exit code and that standard error contains `text`.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(text), "expected {text:?} in:\n{}", self.stderr);
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// The real `docker` client: the machine's, or the one that `./x test` unpacked below `target/tools`.
pub fn docker_client() -> PathBuf {
    let unpacked = crate::workspace().join("target/tools/bin/docker");
    if unpacked.exists() { unpacked } else { "docker".into() }
}

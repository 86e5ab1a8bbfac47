//! A root file system from busybox, a spec like Docker's, and a daemon's hand on one shim.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_runtime::agent::Agent;
use corten_runtime::plan::Facts;
use corten_runtime::{Plan, sources};
use corten_shim::client::{Connection, Error, StartRequest};
use corten_shim::protocol::{AttachMode, Event, ExitStatus, LogConfig, Ready, Streams};
use corten_shim::spawn::{Executable, Spawned, WarmOptions, Zygote};
use corten_sys::process::{Child, Ended};
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const ALL: AttachMode = AttachMode { stdin: true, stdout: true, stderr: true };
pub const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What all cases share.
pub struct World {
    pub zygote: RefCell<Zygote>,
    /// Kept, as by the daemon.
    _executable: Executable,
    pub directory: tempfile::TempDir,
    pub rootfs: PathBuf,
}

impl World {
    pub fn new() -> io::Result<World> {
        corten_sys::namespace::unshare(corten_sys::process::flags::MOUNT)?;
        corten_sys::mount::set_root_propagation(corten_sys::mount::Propagation::Private)?;
        let directory = tempfile::tempdir()?;
        let rootfs = directory.path().join("rootfs");
        make_rootfs(&rootfs)?;
        let executable = Executable::open(Path::new("/proc/self/exe")).map_err(io::Error::other)?;
        let zygote = Zygote::start(&executable, Some(&plan(spec(&["true"])))).map_err(io::Error::other)?;
        Ok(World { zygote: RefCell::new(zygote), _executable: executable, directory, rootfs })
    }

    /// A fresh root file system that a case may spoil.
    pub fn own_rootfs(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        make_rootfs(&path).unwrap();
        path
    }
}

fn make_rootfs(path: &Path) -> io::Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let busybox = busybox.ok_or_else(|| io::Error::other("busybox-static is not installed"))?;
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(path.join(directory))?;
    }
    fs::copy(busybox, path.join("bin/busybox"))?;
    let applets = "sh true false cat echo sleep id ls kill tty stty env pwd mount grep head hostname ps touch dd yes stat readlink umask printf sync seq";
    for applet in applets.split(' ') {
        symlink("busybox", path.join("bin").join(applet))?;
    }
    fs::write(path.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")?;
    fs::write(path.join("etc/plain"), "not a program\n")?;
    Ok(())
}

/// Docker's default settings, cut down to what the tests look at.
pub fn spec(args: &[&str]) -> Value {
    let capabilities =
        json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_MKNOD"]);
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "box",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
            "env": ["PATH=/usr/local/bin:/bin", "TERM=xterm"],
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": false,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

pub fn plan(spec: Value) -> Plan {
    corten_runtime::plan(&serde_json::from_value(spec).unwrap(), &Facts::default()).unwrap()
}

fn counts_memory(cgroup: &OwnedFd) -> bool {
    let there = |name| rustix::fs::statat(cgroup, name, rustix::fs::AtFlags::empty()).is_ok();
    there("memory.events") || there("memory.oom_control")
}

pub fn pipes() -> Streams {
    Streams { tty: false, open_stdin: false, stdin_once: false, size: None }
}

/// What only a few starts have.
#[derive(Default)]
pub struct Extras<'a> {
    pub agent: Option<&'a Agent>,
    pub hold: Option<BorrowedFd<'a>>,
    pub usual_filter: bool,
}

/// One shim, assigned.
pub struct Shim {
    pub connection: Connection,
    pub child: Child,
    pub ready: Ready,
    pub run: PathBuf,
    pub log: PathBuf,
}

impl Shim {
    pub fn warm(world: &World) -> (Connection, Child, Ready) {
        Shim::warm_with(world, WarmOptions::default())
    }

    pub fn warm_with(world: &World, options: WarmOptions) -> (Connection, Child, Ready) {
        let Spawned { mut connection, child } = world.zygote.borrow_mut().spawn(options).unwrap();
        let (message, fds) = connection.recv(PATIENCE).unwrap();
        let Event::Ready(ready) = message.event else { panic!("expected Ready, got {:?}", message.event) };
        assert_eq!(fds.len(), 1, "the network namespace comes along");
        (connection, child, ready)
    }

    pub fn new(world: &World) -> Shim {
        Shim::assign(world, Shim::warm(world), LogConfig::None)
    }

    /// With a log.
    pub fn logging(world: &World, log: LogConfig) -> Shim {
        Shim::assign(world, Shim::warm(world), log)
    }

    /// With its mounts staged, as the daemon's pool keeps them.
    pub fn prepared(world: &World) -> Shim {
        let (mut connection, child, ready) = Shim::warm(world);
        let seq = connection.prepare(&[]).unwrap();
        connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
        Shim::assign(world, (connection, child, ready), LogConfig::None)
    }

    pub fn assign(world: &World, (connection, child, ready): (Connection, Child, Ready), config: LogConfig) -> Shim {
        let run = tempfile::Builder::new().prefix("run").tempdir_in(world.directory.path()).unwrap().keep();
        let log = run.join("log");
        fs::create_dir(&log).unwrap();
        let mut shim = Shim { connection, child, ready, run, log };
        let (run_fd, log_fd) = (fs::File::open(&shim.run).unwrap(), fs::File::open(&shim.log).unwrap());
        let seq = shim.connection.assign(ID, run_fd.as_fd(), log_fd.as_fd(), config).unwrap();
        shim.answer(seq).unwrap();
        shim
    }

    pub fn answer(&mut self, seq: u64) -> Result<Event, Error> {
        self.connection.recv_answer(seq, PATIENCE, |other, _| panic!("unexpected {other:?}")).map(|(event, _)| event)
    }

    pub fn start(
        &mut self,
        rootfs: &Path,
        plan: &Plan,
        streams: Streams,
        attach: &[(AttachMode, &UnixStream)],
    ) -> Result<i32, Error> {
        self.start_in(rootfs, plan, streams, attach, &[], false)
    }

    pub fn start_in(
        &mut self,
        rootfs: &Path,
        plan: &Plan,
        streams: Streams,
        attach: &[(AttachMode, &UnixStream)],
        cgroups: &[OwnedFd],
        join_cgroups: bool,
    ) -> Result<i32, Error> {
        self.start_with(rootfs, plan, streams, attach, (cgroups, join_cgroups), Extras::default())
    }

    pub fn start_with(
        &mut self,
        rootfs: &Path,
        plan: &Plan,
        streams: Streams,
        attach: &[(AttachMode, &UnixStream)],
        (cgroups, join_cgroups): (&[OwnedFd], bool),
        extras: Extras<'_>,
    ) -> Result<i32, Error> {
        let seq = self.begin(rootfs, plan, streams, attach, (cgroups, join_cgroups), extras)?;
        match self.answer(seq)? {
            Event::Started(started) => Ok(started.pid),
            other => panic!("expected Started, got {other:?}"),
        }
    }

    /// Asks for a start; returns the number of the request that will be answered.
    pub fn begin(
        &mut self,
        rootfs: &Path,
        plan: &Plan,
        streams: Streams,
        attach: &[(AttachMode, &UnixStream)],
        (cgroups, join_cgroups): (&[OwnedFd], bool),
        extras: Extras<'_>,
    ) -> Result<u64, Error> {
        let root = sources::open_root(rootfs).unwrap();
        let trees = sources::open_sources(plan).unwrap();
        let namespaces = sources::open_namespaces(plan).unwrap();
        fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
            fds.iter().map(AsFd::as_fd).collect()
        }
        let attach: Vec<_> = attach.iter().map(|(mode, socket)| (*mode, socket.as_fd())).collect();
        let request = StartRequest {
            plan,
            rootfs: root.as_fd(),
            sources: &borrow(&trees),
            namespaces: &borrow(&namespaces),
            cgroups: &borrow(cgroups),
            memory: cgroups.iter().position(counts_memory).map(|at| at as u8),
            join_cgroups,
            streams,
            attach: &attach,
            agent: extras.agent,
            hold: extras.hold,
            usual_filter: extras.usual_filter,
        };
        self.connection.start(&request)
    }

    pub fn exited(&mut self) -> ExitStatus {
        loop {
            match self.connection.recv(PATIENCE).unwrap().0.event {
                Event::Exited(status) => return status,
                Event::ExecExited(_) => {}
                other => panic!("expected Exited, got {other:?}"),
            }
        }
    }

    pub fn exec_exited(&mut self, id: &str) -> ExitStatus {
        match self.connection.recv(PATIENCE).unwrap().0.event {
            Event::ExecExited(exited) if exited.exec_id == id => exited.status,
            other => panic!("expected ExecExited, got {other:?}"),
        }
    }

    /// Releases the shim and sees it end.
    pub fn release(mut self) {
        let seq = self.connection.release().unwrap();
        self.answer(seq).unwrap();
        assert_eq!(self.child.wait().unwrap().code, 0);
    }

    /// A shim whose start failed ends by itself when the connection goes.
    pub fn drop_connection(self) -> Ended {
        let Shim { connection, mut child, .. } = self;
        drop(connection);
        child.wait().unwrap()
    }
}

/// Runs a command to its end; what it wrote (both streams, unframed), and its exit code.
pub fn run(world: &World, rootfs: &Path, spec: Value) -> (String, i32) {
    let (cold, code) = run_in(Shim::new(world), rootfs, spec.clone());
    let (staged, same) = run_in(Shim::prepared(world), rootfs, spec);
    assert_eq!(code, same, "{cold} / {staged}");
    (staged, code)
}

pub fn run_in(mut shim: Shim, rootfs: &Path, spec: Value) -> (String, i32) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    shim.start(rootfs, &plan(spec), pipes(), &[(ALL, &theirs)]).unwrap();
    drop(theirs);
    let output = unframe(&read_all(&ours));
    let status = shim.exited();
    shim.release();
    (output, status.code)
}

pub fn sh(world: &World, script: &str) -> (String, i32) {
    run(world, &world.rootfs, spec(&["sh", "-c", script]))
}

pub fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn read_until(mut stream: &UnixStream, wanted: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&bytes).contains(wanted) {
        let length = stream.read(&mut buffer).expect(wanted);
        assert!(length > 0, "ended before {wanted:?}: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn write_all(mut stream: &UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// The payloads of Docker's frames.
pub fn unframe(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        text.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a frame");
    String::from_utf8_lossy(&text).into_owned()
}

/// What a leak would show in: this process's children, mounts, open files.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    children: Vec<String>,
    mounts: usize,
    files: usize,
}

impl Traces {
    pub fn take() -> Traces {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        Traces {
            children: children.split_whitespace().map(str::to_owned).collect(),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            files: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    pub fn expect_same(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Traces::take() != *self && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(&Traces::take(), self, "something was left behind");
    }
}

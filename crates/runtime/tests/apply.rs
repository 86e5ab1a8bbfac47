//! Plans applied without a shim: each case is one process in new namespaces that becomes busybox. Needs root.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

#[path = "apply/fields.rs"]
mod fields;
#[path = "apply/old_kernel.rs"]
mod old_kernel;
#[path = "apply/process_fields.rs"]
mod process_fields;
#[path = "apply/spawn.rs"]
mod spawn;

use std::error::Error as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use corten_runtime::apply::base::Base;
use corten_runtime::apply::{self, Channel, Entrance, InitInputs, Note, Reporter, Stage, Stdio};
use corten_runtime::plan::Facts;
use corten_runtime::{Failure, Plan, ProcessPlan, sources};
use corten_sys::process::{self, Cloned, flags};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};
use spawn::{Spawned, spawn};

type Case = (&'static str, fn(&Path));

const CASES: &[Case] = &[
    ("settings_of_its_own_namespaces", settings_of_its_own_namespaces),
    ("masks_cannot_be_changed", masks_cannot_be_changed),
    ("a_readonly_root_has_no_new_directories", a_readonly_root_has_no_new_directories),
    ("capabilities_for_others_than_root", capabilities_for_others_than_root),
    ("mounts_with_options_and_propagation", mounts_with_options_and_propagation),
    ("devices_with_modes_and_owners", devices_with_modes_and_owners),
    ("procfs_is_not_covered", procfs_is_not_covered),
    ("a_working_directory_that_only_root_can_enter", a_working_directory_that_only_root_can_enter),
    ("a_leaked_directory_is_no_way_out", a_leaked_directory_is_no_way_out),
    ("long_commands_are_refused_by_name", long_commands_are_refused_by_name),
];

fn main() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    corten_sys::namespace::unshare(flags::MOUNT).unwrap();
    corten_sys::mount::set_root_propagation(corten_sys::mount::Propagation::Private).unwrap();
    let directory = tempfile::tempdir().unwrap();
    // Roots of user namespaces look into it, too.
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if !make_rootfs(directory.path()) {
        println!("skipped: busybox-static is not installed");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in CASES.iter().chain(fields::CASES).chain(process_fields::CASES).chain(old_kernel::CASES) {
        let outcome = catch_unwind(AssertUnwindSafe(|| case(directory.path())));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(outcome.is_err());
    }
    ExitCode::from(u8::from(failed > 0))
}

fn make_rootfs(path: &Path) -> bool {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()) else {
        return false;
    };
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir(path.join(directory)).unwrap();
    }
    fs::copy(busybox, path.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "chmod", "grep", "ls", "sed", "stat", "touch", "id", "head", "uname", "chrt", "ionice",
        "readlink", "mkdir",
    ] {
        symlink("busybox", path.join("bin").join(applet)).unwrap();
    }
    true
}

fn spec(script: &str, change: impl FnOnce(&mut Value)) -> Plan {
    corten_runtime::plan(&serde_json::from_value(value(script, change)).unwrap(), &Facts::default()).unwrap()
}

fn value(script: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "ociVersion": "1.2.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["ptmxmode=0666"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/scsi"], "readonlyPaths": ["/proc/sys"],
        },
    });
    change(&mut value);
    value
}

/// What the program wrote, or why there was none; the same with and without staged mounts.
fn run(rootfs: &Path, plan: &Plan) -> Result<String, Failure> {
    let cold = run_once(rootfs, plan, false);
    assert_eq!(cold, run_once(rootfs, plan, true), "staged mounts make a difference");
    cold
}

fn run_once(rootfs: &Path, plan: &Plan, staged: bool) -> Result<String, Failure> {
    start(rootfs, plan, staged).map(|(text, _)| text)
}

/// A container on its way, and its output.
struct Begun {
    spawned: Spawned,
    output: OwnedFd,
}

impl Begun {
    fn wait_for_output(&self) {
        assert_eq!(rustix::io::read(&self.output, &mut [0; 1]).unwrap(), 1, "the program has not come");
    }

    fn end(self) {
        process::signal_pidfd(self.spawned.pidfd.as_fd(), 9).unwrap();
        process::reap(self.spawned.pid).unwrap();
    }
}

/// What the program wrote, and the warnings.
fn start(rootfs: &Path, plan: &Plan, staged: bool) -> Result<(String, Vec<String>), Failure> {
    let Begun { spawned: Spawned { pid, reports, mut warnings, .. }, output } = begin(rootfs, plan, staged)?;
    let failure = loop {
        match reports.receive().unwrap() {
            Some((Note::Failed(why), _)) => break Some(why),
            Some((Note::Warning(text), _)) => warnings.push(text),
            Some(_) => {}
            None => break None,
        }
    };
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    process::reap(pid).unwrap();
    failure.map_or(Ok((text, warnings)), Err)
}

fn begin(rootfs: &Path, plan: &Plan, staged: bool) -> Result<Begun, Failure> {
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let root = sources::open_root(rootfs).unwrap();
    let trees = sources::open_sources(plan).map_err(|error| {
        Failure::new(corten_runtime::FailureKind::Invalid, format!("{error}: {:?}", error.source()))
    })?;
    let kinds = plan.joins().into_iter().map(|join| join.kind);
    let namespaces = kinds.zip(sources::open_namespaces(plan).unwrap()).collect();
    let entrance = Entrance { namespaces, cgroups: vec![] };
    let stdout_for_child = stdout.as_fd().try_clone_to_owned().unwrap();
    let spawned = spawn(plan, entrance, None, |base, entrance, reporter| {
        rustix::process::umask(rustix::fs::Mode::empty());
        let _ = corten_sys::signal::block_all();
        old_kernel::arrive();
        become_program(plan, base, entrance, root, trees, stdout_for_child, staged, reporter)
    })?;
    drop(stdout);
    Ok(Begun { spawned, output })
}

#[expect(clippy::too_many_arguments, reason = "the parts of a start")]
fn become_program(
    plan: &Plan,
    base: Base,
    entrance: Entrance,
    rootfs: OwnedFd,
    sources: Vec<OwnedFd>,
    stdout: OwnedFd,
    staged: bool,
    reporter: &mut Reporter,
) -> Failure {
    let stage = staged.then_some(()).and_then(|()| {
        apply::base::lay_out_kit(&[]).unwrap();
        Stage::build(plan, &base, false).ok()
    });
    let null = rustix::fs::open("/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
    let stdio = Stdio::Pipes { stdin: null, stderr: stdout.as_fd().try_clone_to_owned().unwrap(), stdout };
    let Entrance { namespaces, cgroups } = entrance;
    apply::init(
        plan,
        InitInputs {
            base,
            stage,
            rootfs,
            sources,
            namespaces,
            cgroups,
            stdio: Some(stdio),
            gate: None,
            hold: None,
            manner: apply::Manner::default(),
        },
        reporter,
    )
}

fn settings_of_its_own_namespaces(rootfs: &Path) {
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni /proc/sys/kernel/hostname; \
        (echo 9 > /proc/sys/kernel/shmmni) 2>&1 | grep -o 'Read-only.*'";
    let plan = spec(script, |value| {
        value["hostname"] = "named".into();
        value["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "77"});
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "0\n77\nnamed\nRead-only file system\n");
    let plan = spec("true", |value| value["linux"]["sysctl"] = json!({"net.ipv4.nosuch": "1"}));
    assert!(run(rootfs, &plan).unwrap_err().message.contains("net.ipv4.nosuch"));
}

fn masks_cannot_be_changed(rootfs: &Path) {
    let script =
        "stat -c %t:%T /proc/keys; chmod 600 /proc/keys 2>&1; echo x > /proc/keys && echo swallowed; ls /proc/scsi";
    let output = run(rootfs, &spec(script, |_| {})).unwrap();
    assert!(output.starts_with("1:3\n") && output.contains("Read-only file system\nswallowed\n"), "{output}");
}

fn a_readonly_root_has_no_new_directories(rootfs: &Path) {
    let plan = spec("touch /x 2>&1; echo > /dev/x && echo dev", |value| {
        value["root"] = json!({"path": "/", "readonly": true})
    });
    let output = run(rootfs, &plan).unwrap();
    assert!(output.contains("Read-only file system") && output.contains("dev\n"), "{output}");
    let plan = spec("true", |value| {
        value["root"] = json!({"path": "/", "readonly": true});
        value["process"]["cwd"] = "/missing".into();
    });
    assert!(run(rootfs, &plan).unwrap_err().message.contains(r#"chdir to cwd ("/missing")"#));
}

fn capabilities_for_others_than_root(rootfs: &Path) {
    let plan = spec("grep Cap /proc/self/status; id", |value| {
        value["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7, 8]});
        let set = json!(["CAP_NET_BIND_SERVICE"]);
        value["process"]["capabilities"] =
            json!({"bounding": set, "permitted": set, "effective": set, "inheritable": set, "ambient": set});
    });
    let output = run(rootfs, &plan).unwrap();
    for name in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        assert!(output.contains(&format!("Cap{name}:\t0000000000000400")), "{output}");
    }
    assert!(output.contains("uid=5 gid=6 groups=6,7,8") || output.contains("groups=7,8"), "{output}");
}

fn mounts_with_options_and_propagation(rootfs: &Path) {
    let plan = spec("grep -oE ' /(t|b) .*' /proc/self/mountinfo | sed 's/shared:[0-9]*/shared:/'", |value| {
        let mounts = value["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs",
            "options": ["size=128k", "mode=711", "noexec", "noatime", "ro"]}));
        mounts
            .push(json!({"destination": "/b", "source": rootfs.join("etc"), "options": ["bind", "nosuid", "shared"]}));
    });
    let output = run(rootfs, &plan).unwrap();
    let line = |at: &str| output.lines().find(|line| line.contains(at)).unwrap().to_owned();
    assert!(line(" /t ").contains("ro,noexec,noatime") && line(" /t ").contains("size=128k,mode=711"), "{output}");
    assert!(line(" /b ").contains("nosuid") && line(" /b ").contains("shared:"), "{output}");
}

fn devices_with_modes_and_owners(rootfs: &Path) {
    let plan = spec(
        "stat -c '%n %F %t:%T %a %u:%g' /dev/null /dev/more; ls -d /dev/ptmx /dev/stdin; cat /dev/fd/0",
        |value| {
            value["linux"]["devices"] = json!([{"path": "/dev/more", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}]);
        },
    );
    let output = run(rootfs, &plan).unwrap();
    let expected = "/dev/null character special file 1:3 666 0:0\n/dev/more character special file 1:5 640 3:4\n/dev/ptmx\n/dev/stdin\n";
    assert_eq!(output, expected);
}

fn procfs_is_not_covered(rootfs: &Path) {
    fs::create_dir(rootfs.join("sly")).unwrap();
    symlink("/proc", rootfs.join("sly/proc")).unwrap();
    let refused = |mount: Value| {
        let plan = spec("true", |value| value["mounts"].as_array_mut().unwrap().push(mount));
        run(rootfs, &plan).unwrap_err().message
    };
    let directory = rootfs.join("tmp");
    let bind = |at: &str| refused(json!({"destination": at, "source": directory, "options": ["bind"]}));
    let tmpfs = |at: &str| refused(json!({"destination": at, "type": "tmpfs", "source": "tmpfs"}));
    for at in ["/proc/sys", "/proc/self/attr", "/sly/proc/sys", "/sly/proc/1/task", "/tmp/../proc/tty"] {
        for text in [bind(at), tmpfs(at)] {
            assert!(text.contains("inside /proc"), "{at}: {text}");
        }
    }
    for at in ["/proc", "/proc/", "/sly/proc"] {
        for text in [bind(at), tmpfs(at)] {
            assert!(text.contains("not of type proc"), "{at}: {text}");
        }
    }
    let plan = spec("cat /proc/cpuinfo; ls /proc/self | grep -c attr; head -c 1 /proc/sys/kernel/ostype", |value| {
        let mounts = value["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/proc", "source": "/proc", "options": ["rbind", "ro"]}));
        mounts.push(json!({"destination": "/proc/cpuinfo", "source": "/proc/sys/kernel/ostype", "options": ["bind"]}));
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "Linux\n1\nL");
    fs::remove_dir_all(rootfs.join("sly")).unwrap();
}

fn a_working_directory_that_only_root_can_enter(rootfs: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(rootfs.join("closed")).unwrap();
    fs::set_permissions(rootfs.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let plan = spec("pwd; ls / | grep -c closed; ls 2>&1 | grep -o 'Permission denied'", |value| {
        value["process"]["user"] = json!({"uid": 5, "gid": 6});
        value["process"]["capabilities"] = json!({"bounding": [], "permitted": [], "effective": []});
        value["process"]["cwd"] = "/closed".into();
    });
    assert_eq!(run(rootfs, &plan).unwrap(), "/closed\n1\nPermission denied\n");
    fs::remove_dir(rootfs.join("closed")).unwrap();
}

fn long_commands_are_refused_by_name(rootfs: &Path) {
    // Control characters grow sixfold when a report quotes them.
    for letter in ["a", "\u{1}"] {
        let plan = spec("", |value| value["process"]["args"] = json!([letter.repeat(100_000)]));
        let failure = run(rootfs, &plan).unwrap_err();
        assert_eq!(failure.exit_code(), 127);
        assert!(
            failure.message.starts_with("exec: ") && failure.message.ends_with("not found in $PATH"),
            "{}",
            failure.message.len()
        );
    }
}

/// A descriptor of the host that got through all the closing, named as an exec's working directory (CVE-2024-21626).
fn a_leaked_directory_is_no_way_out(rootfs: &Path) {
    let host = File::open("/usr").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&host, 250).unwrap();
    let plan = ProcessPlan {
        args: vec!["ls".into(), "../..".into()],
        env: vec!["PATH=/bin".into()],
        cwd: format!("/proc/self/fd/{}", leaked.as_raw_fd()),
        ..ProcessPlan::default()
    };
    let channel = Channel::new().unwrap();
    match process::clone_process(flags::PID | flags::MOUNT, None).unwrap() {
        Cloned::Child => {
            let enter = || -> std::io::Result<Stdio> {
                let null = || rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
                let stdio = Stdio::Pipes { stdin: null()?, stdout: null()?, stderr: null()? };
                rustix::process::chroot(rootfs)?;
                rustix::process::chdir("/")?;
                let proc = corten_sys::mount::FileSystem::open("proc")?.mount(0)?;
                corten_sys::mount::attach(proc.as_fd(), corten_sys::path::find(rustix::fs::CWD, "/proc")?.as_fd())?;
                Ok(stdio)
            };
            let mut reporter = channel.reporter();
            let failure = match enter() {
                Ok(stdio) => apply::exec(&plan, Some(stdio), apply::Manner::default(), &mut reporter),
                Err(error) => Failure::host("cannot prepare", &error),
            };
            reporter.failed(failure);
            process::exit_now(1)
        }
        Cloned::Parent { pid, .. } => {
            let note = channel.reports().receive().unwrap();
            process::reap(pid).unwrap();
            let Some((Note::Failed(failure), _)) = note else { panic!("the program was executed: {note:?}") };
            assert!(failure.message.contains("outside of container"), "{failure:?}");
        }
    }
}

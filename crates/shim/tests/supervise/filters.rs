//! Seccomp filters that get in the way of the start itself, and those that notify an agent (played by Python: a peer of its own).

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use corten_runtime::agent::{Agent, Container};
use corten_runtime::plan::{Facts, SeccompProgram};
use corten_runtime::{Failure, Plan};
use corten_seccomp::{Machine, compile};
use corten_shim::client::Error;
use corten_shim::client::ExecProcess;
use corten_shim::protocol::Event;
use oci_spec::runtime::{ContainerState, Spec};
use serde_json::{Value, json};

use crate::Case;
use crate::support::{ALL, Extras, ID, Shim, World, pipes, read_all, spec, unframe};

pub const CASES: &[Case] = &[
    ("filters::failures_are_told_without_system_calls", failures_are_told_without_system_calls),
    ("filters::killed_before_the_program", killed_before_the_program),
    ("filters::an_agent_answers", an_agent_answers),
    ("filters::an_agent_answers_an_exec", an_agent_answers_an_exec),
    ("filters::no_agent_no_start", no_agent_no_start),
];

fn with_profile(args: &[&str], no_new_privileges: bool, profile: Value) -> Spec {
    let mut wanted = spec(args);
    wanted["process"]["noNewPrivileges"] = json!(no_new_privileges);
    wanted["linux"]["seccomp"] = profile;
    serde_json::from_value(wanted).unwrap()
}

fn seccomp(spec: &Spec) -> SeccompProgram {
    let profile = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
    let program = compile(profile, Machine::host().unwrap()).unwrap();
    SeccompProgram { filter: program.filter, flags: program.flags }
}

fn planned(spec: &Spec) -> Plan {
    corten_runtime::plan(spec, &Facts { seccomp: Some(seccomp(spec)), ..Facts::default() }).unwrap()
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> Failure {
    match result {
        Err(Error::Failed(failure)) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// Every way to tell is closed; runc needs `write`, and reports an exit code of the program's instead.
fn failures_are_told_without_system_calls(world: &World) {
    let deaf = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["write", "sendmsg", "sendto", "writev", "exit_group"], "action": "SCMP_ACT_ERRNO"},
    ]});
    for no_new_privileges in [false, true] {
        let spec_of = |command: &str| with_profile(&[command], no_new_privileges, deaf.clone());
        let mut shim = Shim::new(world);
        let failed = failure(shim.start(&world.rootfs, &planned(&spec_of("/etc/plain")), pipes(), &[]));
        assert_eq!(failed.exit_code(), 126, "{failed}");
        assert_eq!(shim.drop_connection().code, 0);

        let mut shim = Shim::new(world);
        let sleeper = crate::support::plan(spec(&["sleep", "100"]));
        shim.start(&world.rootfs, &sleeper, pipes(), &[]).unwrap();
        for (command, code) in [("/bin/nosuch", 127), ("/etc/plain", 126)] {
            let spec = spec_of(command);
            let process = corten_runtime::process_plan(spec.process().as_ref().unwrap(), Some(seccomp(&spec))).unwrap();
            let seq = shim.connection.exec("e", ExecProcess::Plan(&process), None, None, None).unwrap();
            let failed = failure(shim.answer(seq));
            assert_eq!(failed.exit_code(), code, "{failed}");
            assert!(failed.message.contains(command), "{failed}");
        }
        end(shim);
    }
}

fn end(mut shim: Shim) {
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.answer(seq).unwrap();
    shim.exited();
    shim.release();
}

/// A filter without `setgroups`, in force before the identity is taken on, kills the process on its way.
fn killed_before_the_program(world: &World) {
    let deadly = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setgroups"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    let mut shim = Shim::new(world);
    let plan = planned(&with_profile(&["true"], false, deadly));
    let failed = failure(shim.start(&world.rootfs, &plan, pipes(), &[]));
    assert!(failed.message.contains("ended before it could execute"), "{failed}");
    assert_eq!(shim.drop_connection().code, 0);
}

struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    path: PathBuf,
}

impl Peer {
    /// An agent that listens; none without Python.
    fn listen(world: &World, name: &str) -> Option<Peer> {
        let path = world.directory.path().join(name);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervise/agent.py");
        let mut command = Command::new("python3");
        let Ok(mut child) = command.arg(script).arg(&path).stdout(Stdio::piped()).spawn() else {
            println!("skipped: python3 is not installed");
            return None;
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Peer { child, lines, path };
        assert_eq!(peer.says(), json!("listening"));
        Some(peer)
    }

    fn says(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn profile(&self) -> Value {
        // `sendmsg` is what this runtime would like to report with, had it to.
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": self.path, "listenerMetadata": "for you",
            "syscalls": [{"names": ["mkdir", "mkdirat", "sendmsg", "sendto"], "action": "SCMP_ACT_NOTIFY"}]})
    }

    fn agent(&self, spec: &Spec, status: ContainerState) -> Agent {
        let container = Container { id: ID.into(), bundle: "/some/bundle".into(), status };
        Agent::connect(spec, container).unwrap().unwrap()
    }

    /// It was told of this process, and answered its call.
    fn expect(mut self, pid: i32, status: &str) {
        let told = self.says();
        assert_eq!(told["descriptors"], 1);
        let state = &told["state"];
        assert_eq!(
            (&state["fds"], &state["metadata"], &state["pid"]),
            (&json!(["seccompFd"]), &json!("for you"), &json!(pid))
        );
        let inner = json!({"ociVersion": "1.2.0", "id": ID, "status": status, "pid": pid, "bundle": "/some/bundle"});
        assert_eq!((&state["ociVersion"], &state["state"]), (&json!("1.2.0"), &inner));
        let answered = self.says();
        let mkdir = [json!(83), json!(258), json!(34)];
        assert!(mkdir.contains(&answered["call"]), "{answered}");
        assert!(self.child.wait().unwrap().success());
    }
}

const MKDIR: &[&str] = &["/bin/busybox", "mkdir", "/tmp/never"];

fn an_agent_answers(world: &World) {
    for no_new_privileges in [false, true] {
        let Some(peer) = Peer::listen(world, &format!("agent{no_new_privileges}")) else { return };
        let spec = with_profile(MKDIR, no_new_privileges, peer.profile());
        let agent = peer.agent(&spec, ContainerState::Creating);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut shim = Shim::new(world);
        let plan = planned(&spec);
        let pid = shim
            .start_with(
                &world.rootfs,
                &plan,
                pipes(),
                &[(ALL, &theirs)],
                (&[], false),
                Extras { agent: Some(&agent), ..Extras::default() },
            )
            .unwrap();
        drop((theirs, agent));
        peer.expect(pid, "creating");
        let output = unframe(&read_all(&ours));
        assert!(output.contains("No medium found"), "{output}");
        assert_eq!(shim.exited().code, 1);
        shim.release();
    }
}

fn an_agent_answers_an_exec(world: &World) {
    let Some(peer) = Peer::listen(world, "exec-agent") else { return };
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &crate::support::plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let spec = with_profile(MKDIR, false, peer.profile());
    let process = corten_runtime::process_plan(spec.process().as_ref().unwrap(), Some(seccomp(&spec))).unwrap();
    let agent = peer.agent(&spec, ContainerState::Running);
    let seq = shim.connection.exec("e", ExecProcess::Plan(&process), None, None, Some(&agent)).unwrap();
    let Event::ExecStarted(started) = shim.answer(seq).unwrap() else { panic!("expected ExecStarted") };
    drop(agent);
    peer.expect(started.pid, "running");
    assert_eq!(shim.exec_exited("e").code, 1);
    end(shim);
}

fn no_agent_no_start(world: &World) {
    let nowhere = world.directory.path().join("nobody");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": nowhere,
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    let spec = with_profile(&["true"], true, profile);
    let container = Container { id: ID.into(), bundle: "/".into(), status: ContainerState::Creating };
    assert!(Agent::connect(&spec, container).unwrap_err().to_string().ends_with("/nobody"));
    // A driver that forgets the agent: the process that waits for it is ended.
    let mut shim = Shim::new(world);
    let failed = failure(shim.start(&world.rootfs, &planned(&spec), pipes(), &[]));
    assert!(failed.message.ends_with("there is none"), "{failed}");
    assert_eq!(shim.drop_connection().code, 0);
}

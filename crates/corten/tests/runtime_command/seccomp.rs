//! Seccomp profiles on the real kernel: flags, and calls of other architectures than the machine's own.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use corten_testkit::elf;
use corten_testkit::kernel::{SECCOMP, refusing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::agent::agent;
use crate::support::{Bench, bench};

/// What a process ends with that a filter has killed: 128 and SIGSYS.
const KILLED: i32 = 128 + 31;
const ENOSYS: i32 = 38;
const ENOTSUP: i32 = 95;

/// getppid(2) in each of x86's ways, then exit_group(2) with the error number. The first process of a PID namespace has no
/// parent that it could see: the result of the call is 0.
const X86_64: &[u8] = b"\xb8\x6e\0\0\0\x0f\x05\xf7\xd8\x89\xc7\xb8\xe7\0\0\0\x0f\x05";
const X32: &[u8] = b"\xb8\x6e\0\0\x40\x0f\x05\xf7\xd8\x89\xc7\xb8\xe7\0\0\0\x0f\x05";
/// `int $0x80` from 64-bit code, which a filter must not take for a 64-bit call.
const I386_FROM_X86_64: &[u8] = b"\xb8\x40\0\0\0\xcd\x80\xf7\xd8\x89\xc7\xb8\xe7\0\0\0\x0f\x05";
const I386: &[u8] = b"\xb8\x40\0\0\0\xcd\x80\xf7\xd8\x89\xc3\xb8\xfc\0\0\0\xcd\x80";

/// A bench whose container is one such program, called `name`.
fn program(name: &str, image: &[u8], profile: &Value) -> Option<Bench> {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the programs are x86's");
        return None;
    }
    let bench = bench("", |config, _| {
        config["process"]["args"] = json!([format!("/bin/{name}")]);
        config["linux"]["seccomp"] = profile.clone();
    })?;
    let path = bench.path(&format!("bundle/rootfs/bin/{name}"));
    fs::write(&path, image).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    Some(bench)
}

/// The exit code of such a program; `None`, with the reason printed, where it can't be tried.
fn end(image: &[u8], profile: &Value) -> Option<i32> {
    let bench = program("call", image, profile)?;
    let code = bench.run(&[]).code;
    bench.is_clean();
    code
}

/// A profile that lists these architectures and answers the call with ENOTSUP.
fn refusing_it(architectures: &[&str]) -> Value {
    let rule = json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOTSUP});
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": [rule]})
}

/// Whether this kernel runs 32-bit calls; says that the case is skipped where it doesn't.
fn runs_i386() -> bool {
    let runs = end(&elf::i386(I386), &Value::Null) == Some(0);
    if !runs {
        println!("skipped: this kernel runs no 32-bit calls, or the test has no root");
    }
    runs
}

/// No list at all is the machine's own architecture.
#[test]
fn calls_of_architectures_that_are_not_listed_are_killed() {
    if !runs_i386() {
        return;
    }
    for listed in [&[][..], &["SCMP_ARCH_X86_64"]] {
        let profile = refusing_it(listed);
        assert_eq!(end(&elf::x86_64(X86_64), &profile), Some(ENOTSUP), "{listed:?}");
        // The filter sees the number before the kernel says whether it has such calls at all.
        assert_eq!(end(&elf::x86_64(X32), &profile), Some(KILLED), "x32 with {listed:?}");
        assert_eq!(end(&elf::x86_64(I386_FROM_X86_64), &profile), Some(KILLED), "int 0x80 with {listed:?}");
        assert_eq!(end(&elf::i386(I386), &profile), Some(KILLED), "i386 with {listed:?}");
    }
    assert_eq!(end(&elf::x86_64(X32), &refusing_it(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])), Some(KILLED));
    assert_eq!(end(&elf::i386(I386), &refusing_it(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"])), Some(KILLED));
}

#[test]
fn rules_hold_for_all_architectures_that_are_listed() {
    if !runs_i386() {
        return;
    }
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let images = [X86_64, X32, I386_FROM_X86_64].map(elf::x86_64).into_iter().chain([elf::i386(I386)]);
    let plain = [0, end(&elf::x86_64(X32), &Value::Null).unwrap(), 0, 0];
    assert!([0, ENOSYS].contains(&plain[1]), "{plain:?}");
    for (image, plain) in images.zip(plain) {
        assert_eq!(end(&image, &refusing_it(&all)), Some(ENOTSUP));
        let other = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": all});
        assert_eq!(end(&image, &other), Some(plain));
    }
}

/// What no rule is about gets the default action, with its own error number; a rule beats it, where its conditions hold.
#[test]
fn the_default_action_has_an_error_number() {
    // What a filter that is loaded last has to let through: the program, and its end.
    let allowed = |more: Value| {
        let rule = |names: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
        let rules = json!([rule(json!(["execve", "execveat", "exit_group"])), more]);
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": ENOTSUP, "syscalls": rules})
    };
    let run = |profile: Value| {
        let bench = program("call", &elf::x86_64(X86_64), &profile)?;
        bench.configure(|config| config["process"]["noNewPrivileges"] = json!(true));
        let answer = bench.run(&[]);
        bench.is_clean();
        answer.code
    };
    let rule = |action: &str, errno: i32| json!({"names": ["getppid"], "action": action, "errnoRet": errno});
    let Some(code) = run(allowed(rule("SCMP_ACT_ERRNO", 33))) else { return };
    assert_eq!(code, 33);
    assert_eq!(run(allowed(json!({"names": ["getuid"], "action": "SCMP_ACT_ALLOW"}))), Some(ENOTSUP));
    assert_eq!(run(allowed(json!({"names": ["getppid"], "action": "SCMP_ACT_ALLOW"}))), Some(0));
}

/// The kernel is asked for just these: where a seccomp(2) with them is refused, the start fails, and else nothing does.
#[test]
fn flags_reach_the_kernel() {
    for (flags, expected, another) in [
        (Value::Null, 4, 0),
        (json!([]), 0, 4),
        (json!(["SECCOMP_FILTER_FLAG_TSYNC"]), 1, 0),
        (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2, 0),
        (json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), 4, 0),
        (json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]), 7, 6),
    ] {
        let Some(bench) = bench("grep -E 'Seccomp:' /proc/self/status", |config, _| {
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
            if !flags.is_null() {
                config["linux"]["seccomp"]["flags"] = flags.clone();
            }
        }) else {
            return;
        };
        let run = || bench.run(&[]);
        refusing(SECCOMP, expected, run).fails(1, "cannot load the seccomp filter: no medium found");
        assert_eq!(refusing(SECCOMP, another, run).ok(), "Seccomp:\t2\n", "{flags}");
        bench.is_clean();
    }
}

/// SECCOMP_FILTER_FLAG_LOG: the kernel's log tells of what the filter refuses.
#[test]
fn what_a_logged_filter_refuses_is_in_the_kernels_log() {
    let log =
        fs::OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open("/dev/kmsg");
    let Ok(mut log) = log else {
        println!("skipped: the kernel's log cannot be read");
        return;
    };
    if fs::exists("/run/auditd.pid").unwrap() {
        println!("skipped: an audit daemon takes the kernel's records");
        return;
    }
    log.seek(SeekFrom::End(0)).unwrap();
    let run = |name: &str, flags: Value| {
        let mut profile = refusing_it(&[]);
        profile["flags"] = flags;
        let bench = program(name, &elf::x86_64(X86_64), &profile)?;
        assert_eq!(bench.run(&[]).code, Some(ENOTSUP));
        bench.is_clean();
        Some(())
    };
    let Some(()) = run("corten-quiet", json!([])) else { return };
    // The kernel drops records that come too fast, as they do when other cases are killed: another one is made then.
    let said =
        std::iter::repeat_with(|| run("corten-logged", json!(["SECCOMP_FILTER_FLAG_LOG"]))).take(100).find_map(|_| {
            let records = std::iter::from_fn(|| next_record(&mut log));
            records
                .inspect(|record| assert!(!record.contains("corten-quiet"), "{record}"))
                .find(|it| it.contains("corten-logged"))
        });
    let said = said.expect("the log says nothing");
    assert!(said.contains("type=1326") && said.contains("syscall=110"), "{said}");
}

/// A record of the kernel's log; none when there is no further one for a second.
fn next_record(log: &mut fs::File) -> Option<String> {
    let mut record = vec![0; 8192];
    let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
    while poll(&mut [PollFd::new(log, PollFlags::IN)], Some(&limit)).unwrap() > 0 {
        match log.read(&mut record) {
            // Older ones were overwritten.
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::BrokenPipe].contains(&error.kind()) => {}
            read => return Some(String::from_utf8_lossy(&record[..read.unwrap()]).into_owned()),
        }
    }
    None
}

/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, of Linux 5.19: a signal does not take the caller out of a call that the agent works on.
#[test]
fn a_signal_does_not_interrupt_what_the_agent_has_received() {
    for (flags, expected, another, waits) in
        [(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), 40, 8, true), (json!([]), 8, 40, false)]
    {
        let Some(bench) = bench("trap : USR1; cd /bin && echo went || echo stayed", |config, place| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place.join("agent"), "flags": flags,
                "syscalls": [{"names": ["chdir"], "action": "SCMP_ACT_NOTIFY"}],
            });
        }) else {
            return;
        };
        for refused in [expected, another] {
            let Some((mut child, mut said)) = agent(&bench.path("agent"), &["signal"]) else { return };
            let answer = refusing(SECCOMP, refused, || bench.run(&[]));
            if refused == expected {
                answer.fails(1, "cannot load the seccomp filter: no medium found");
            } else {
                assert_eq!(answer.ok(), "stayed\n");
                assert_eq!(said.nth(1).unwrap()["waits"], waits, "{flags}");
            }
            child.wait().unwrap();
            fs::remove_file(bench.path("agent")).unwrap();
        }
        bench.is_clean();
    }
}

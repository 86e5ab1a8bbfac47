//! Every action and operator in this kernel. A filter may end its process, so each case is this very test program executed anew,
//! with the case in its environment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use corten_seccomp::{Machine, compile};
use serde_json::{Value, json};

const PROFILE: &str = "CORTEN_TEST_PROFILE";
const OFFSET: &str = "CORTEN_TEST_OFFSET";
const SIGSYS: i32 = 31;

/// Not a test of its own: loads the profile, seeks in the null device, prints what came of it.
#[test]
#[ignore = "the other tests execute it"]
fn victim() {
    let Ok(profile) = std::env::var(PROFILE) else { return };
    let profile = serde_json::from_str(&profile).unwrap();
    let offset = std::env::var(OFFSET).unwrap().parse().unwrap();
    let program = compile(&profile, Machine::host().unwrap()).unwrap();
    let filtered = std::thread::spawn(move || {
        let mut file = File::open("/dev/null").unwrap();
        corten_sys::process::set_no_new_privs().unwrap();
        corten_sys::process::load_seccomp(&program.filter, program.flags).unwrap();
        let result = file.seek(SeekFrom::Start(offset));
        println!("<{}>", result.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0));
    });
    // Panics when the thread was killed: it has left no result.
    filtered.join().unwrap();
}

/// How the victim ended, and the error number that it saw (0 for none).
fn seek(rule: Value, offset: u64) -> (ExitStatus, Option<i32>) {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PROFILE, profile.to_string())
        .env(OFFSET, offset.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(number, _)| number.to_owned());
    (output.status, number.map(|number| number.parse().unwrap()))
}

fn lseek(action: &str) -> Value {
    json!({"names": ["lseek"], "action": action})
}

#[test]
fn actions_that_answer() {
    let errno = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    assert_eq!(seek(errno, 0).1, Some(95));
    assert_eq!(seek(lseek("SCMP_ACT_ERRNO"), 0).1, Some(1), "EPERM unless something else is said");
    assert_eq!(seek(lseek("SCMP_ACT_TRACE"), 0).1, Some(38), "without a tracer");
    for harmless in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
        let (status, number) = seek(lseek(harmless), 0);
        assert!(status.success() && number == Some(0), "{harmless}: {status} {number:?}");
    }
}

#[test]
fn actions_that_kill() {
    for deadly in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let (status, number) = seek(lseek(deadly), 0);
        assert_eq!((status.signal(), number), (Some(SIGSYS), None), "{deadly}: {status}");
    }
    for thread in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
        let (status, number) = seek(lseek(thread), 0);
        // The thread is gone; its process goes on, here to say that the test failed.
        assert_eq!((status.signal(), number), (None, None), "{thread}: {status}");
        assert!(!status.success(), "{thread}: {status}");
    }
}

/// The low halves alone would answer otherwise in each of these.
#[test]
fn operators_compare_64_bits() {
    const HIGH: u64 = 1 << 32;
    let cases = [
        ("SCMP_CMP_EQ", HIGH | 5, 0, [(HIGH | 5, true), (5, false)]),
        ("SCMP_CMP_NE", HIGH | 5, 0, [(5, true), (HIGH | 5, false)]),
        ("SCMP_CMP_GT", HIGH | 5, 0, [(2 * HIGH, true), (9, false)]),
        ("SCMP_CMP_GE", HIGH | 5, 0, [(HIGH | 5, true), (6, false)]),
        ("SCMP_CMP_LT", HIGH | 5, 0, [(9, true), (2 * HIGH, false)]),
        ("SCMP_CMP_LE", HIGH | 5, 0, [(6, true), (HIGH | 6, false)]),
        ("SCMP_CMP_MASKED_EQ", (3 * HIGH) | 1, HIGH, [((5 * HIGH) | 6, true), ((2 * HIGH) | 6, false)]),
    ];
    for (operator, value, two, checks) in cases {
        for (offset, holds) in checks {
            let condition = json!({"index": 1, "op": operator, "value": value, "valueTwo": two});
            let rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33, "args": [condition]});
            assert_eq!(seek(rule, offset).1, Some(if holds { 33 } else { 0 }), "{operator} {offset:#x}");
        }
    }
}

#[test]
fn several_conditions_all_hold() {
    let condition = |index: u32, value: u64| json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
    let rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33, "args": [condition(1, 7), condition(2, 0)]});
    assert_eq!(seek(rule.clone(), 7).1, Some(33));
    assert_eq!(seek(rule, 8).1, Some(0));
}

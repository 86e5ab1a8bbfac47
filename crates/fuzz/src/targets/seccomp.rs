//! Seccomp profiles: the compiled program, run by an interpreter of its own, says what the profile says.

use corten_seccomp::interpret::{Call, verdict};
use corten_seccomp::{Error, Machine, compile};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::{Form, Target, bpf};

pub(crate) const TARGET: Target = Target { name: "seccomp", form: Form::Bytes, samples: &[""], words: &[], run };

const ACTIONS: &[&str] = &["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP"];
const OPERATORS: &[&str] = &["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const ARCHITECTURES: &[&str] = &["X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64", "NATIVE", "S390X"];
const CALLS: &[&str] = &[
    "read",
    "write",
    "open",
    "close",
    "ioctl",
    "clone",
    "clone3",
    "socket",
    "mmap",
    "mmap2",
    "statx",
    "setxattrat",
    "breakpoint",
    "cacheflush",
    "set_tls",
    "execve",
    "waitid",
    "pidfd_open",
    "futex_time64",
    "bogus",
    "preadv2",
    "riscv_flush_icache",
];
const AUDITS: &[u32] = &[0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3, 7];
const MACHINES: &[Machine] = &[Machine::X86_64, Machine::Aarch64, Machine::Riscv64];

fn run(input: &[u8]) {
    let mut choices = Choices(input.iter());
    let profile = profile(&mut choices);
    for machine in MACHINES {
        let program = match compile(&profile, *machine) {
            Ok(program) => program,
            Err(Error::TooLong(length)) => return assert!(length > 4096),
            Err(_) => continue,
        };
        bpf::check(&program.filter);
        for _ in 0..32 {
            let call = call(&mut choices, &profile);
            let answer = bpf::run(&program.filter, &bpf::data(call.number, call.arch, call.args));
            assert_eq!(answer, verdict(&profile, *machine, &call), "{machine:?} {call:?}\n{}", json!(profile));
        }
    }
}

/// Choices drawn from the input; zeroes when it is used up.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Values that meet each other in one half or both.
    fn value(&mut self) -> u64 {
        let mut half = || match self.byte() {
            byte @ 0..200 => u64::from(byte % 4),
            byte @ 200..240 => 0xffff_fffc + u64::from(byte % 4),
            _ => u64::from(u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])),
        };
        half() | (half() << 32)
    }
}

fn profile(choices: &mut Choices<'_>) -> LinuxSeccomp {
    let architectures: Vec<String> =
        (0..choices.below(5)).map(|_| format!("SCMP_ARCH_{}", choices.pick(ARCHITECTURES))).collect();
    // A long list now and then, for jumps that are too far for one instruction.
    let rules = if choices.byte() < 16 { choices.below(120) } else { choices.below(10) };
    let default = match choices.pick(ACTIONS) {
        "NOTIFY" => "ERRNO",
        action => action,
    };
    let syscalls: Vec<Value> = (0..rules).map(|_| rule(choices)).collect();
    let errno = choices.below(3000);
    let profile = json!({
        "defaultAction": format!("SCMP_ACT_{default}"), "defaultErrnoRet": errno, "architectures": architectures,
        "listenerPath": "/agent", "syscalls": syscalls,
    });
    serde_json::from_value(profile).expect("a profile")
}

fn rule(choices: &mut Choices<'_>) -> Value {
    let names: Vec<&str> = (0..1 + choices.below(3)).map(|_| choices.pick(CALLS)).collect();
    let action = choices.pick(ACTIONS);
    let action = if action == "NOTIFY" && names.contains(&"write") { "TRAP" } else { action };
    let args: Vec<Value> = (0..choices.below(4)).map(|_| condition(choices)).collect();
    let errno = (choices.byte() < 128).then(|| choices.below(4096));
    json!({"names": names, "action": format!("SCMP_ACT_{action}"), "errnoRet": errno, "args": args})
}

fn condition(choices: &mut Choices<'_>) -> Value {
    let operator = format!("SCMP_CMP_{}", choices.pick(OPERATORS));
    json!({"index": choices.below(6), "op": operator, "value": choices.value(), "valueTwo": choices.value()})
}

/// A call that has something to do with the profile: arguments near its values, numbers of all ABIs.
fn call(choices: &mut Choices<'_>, profile: &LinuxSeccomp) -> Call {
    let number = match choices.byte() {
        0..160 => choices.below(480) as u32,
        160..220 => (1 << 30) | choices.below(560) as u32,
        220..240 => 983_040 + choices.below(8) as u32,
        _ => u32::from_le_bytes([choices.byte(), choices.byte(), choices.byte(), choices.byte()]),
    };
    let mut args = [0; 6];
    args.fill_with(|| choices.value());
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    if let Some(rule) = rules.get(choices.below(rules.len() + 1)) {
        for condition in rule.args().iter().flatten() {
            args[condition.index()] = condition.value().wrapping_add(choices.pick(&[0, 0, 0, 1, u64::MAX]));
        }
    }
    Call { arch: choices.pick(AUDITS), number, args }
}

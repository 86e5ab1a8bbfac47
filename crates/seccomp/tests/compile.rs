//! Compiled programs against the plain interpreter of the profile, and the default profile's verdicts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corten_seccomp::interpret::{Call, run, verdict};
use corten_seccomp::{Error, Machine, compile};
use corten_spec::{HostFacts, caps, seccomp};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 1 << 30;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn default_profile(add: &[&str]) -> LinuxSeccomp {
    let host = HostFacts {
        machine: "x86_64".into(),
        kernel: (6, 1),
        last_capability: 40,
        bounding: !0,
        ..HostFacts::default()
    };
    let add: Vec<String> = add.iter().map(|name| (*name).to_owned()).collect();
    seccomp::default_profile(caps::effective(&add, &[], false, &host).unwrap(), &host).unwrap()
}

fn ask(profile: &LinuxSeccomp, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let program = compile(profile, Machine::X86_64).unwrap();
    let call = Call { arch, number, args };
    let answer = run(&program.filter, &call).unwrap();
    assert_eq!(answer, verdict(profile, Machine::X86_64, &call), "{call:?}");
    answer
}

#[test]
fn the_default_profile() {
    let profile = default_profile(&[]);
    let check = |number, first: u64, expect| assert_eq!(ask(&profile, X86_64, number, [first, 0, 0, 0, 0, 0]), expect);
    check(0, 0, ALLOW); // read
    check(56, 0x11, ALLOW); // clone with SIGCHLD
    check(56, 0x1000_0011, EPERM); // clone with CLONE_NEWUSER
    check(56, 0xdead_0000_0000_0011, ALLOW); // the kernel ignores the high half
    check(435, 0, ENOSYS); // clone3
    check(165, 0, EPERM); // mount
    check(425, 0, EPERM); // io_uring_setup
    check(135, 0, ALLOW); // personality
    check(135, 0xffff_ffff, ALLOW);
    check(135, 0x0040_0000, EPERM); // ADDR_NO_RANDOMIZE
    check(5000, 0, ENOSYS);
    check(X32 | 514, 0, ALLOW); // ioctl on x32
    check(X32 | 16, 0, EPERM);
    check(X32 | 5000, 0, ENOSYS);
    check(u32::MAX, 0, ENOSYS);
    assert_eq!(ask(&profile, I386, 102, [1, 0, 0, 0, 0, 0]), ALLOW); // socketcall
    assert_eq!(ask(&profile, 0xc000_00b7, 0, [0; 6]), 0, "a foreign architecture is killed");
    assert_eq!(ask(&default_profile(&["SYS_ADMIN"]), X86_64, 165, [0; 6]), ALLOW);
}

/// CVE-2026-31431, and that the kernel reads the low half of the family only: 0x1_0000_0026 is AF_ALG, too.
#[test]
fn address_families() {
    let profile = default_profile(&[]);
    for family in 0..46u64 {
        let expect = if family == 38 || family == 40 { EPERM } else { ALLOW };
        for high in [0, 1 << 32, 0xffff_ffff << 32] {
            assert_eq!(ask(&profile, X86_64, 41, [high | family, 1, 0, 0, 0, 0]), expect, "family {family}");
            assert_eq!(ask(&profile, I386, 359, [high | family, 1, 0, 0, 0, 0]), expect, "family {family}");
        }
    }
}

#[test]
fn every_number_agrees_with_the_profile() {
    for add in [&[][..], &["ALL"], &["SYS_ADMIN", "SYS_PTRACE"]] {
        let profile = default_profile(add);
        let program = compile(&profile, Machine::X86_64).unwrap();
        assert!(program.filter.len() < 2000, "{} instructions", program.filter.len());
        for arch in [X86_64, I386] {
            for number in (0..560).chain(X32..X32 + 560) {
                for first in [0, 40, 0x0200_0000] {
                    let call = Call { arch, number, args: [first; 6] };
                    let expect = verdict(&profile, Machine::X86_64, &call);
                    assert_eq!(run(&program.filter, &call), Some(expect), "{call:?}");
                }
            }
        }
    }
}

#[test]
fn plain_verdicts_read_no_argument() {
    let program = compile(&default_profile(&[]), Machine::X86_64).unwrap();
    // A load from the arguments would fail in this run.
    for number in [0, 1, 9, 202, 257] {
        let mut steps = 0;
        let mut counter = 0;
        let mut accumulator = 0;
        loop {
            let word = program.filter[counter];
            let (code, k) = (word as u16, (word >> 32) as u32);
            counter += 1;
            steps += 1;
            match code {
                0x20 => accumulator = [number, X86_64][k as usize / 4],
                0x05 => counter += k as usize,
                0x06 => break,
                _ => {
                    let yes = if code == 0x15 { accumulator == k } else { accumulator >= k };
                    counter += (word >> if yes { 16 } else { 24 }) as u8 as usize;
                }
            }
        }
        assert!(steps < 16, "{steps} instructions for call {number}");
    }
}

#[test]
fn flags_and_notification() {
    let mut profile = LinuxSeccomp::default();
    let flags = |profile: &LinuxSeccomp| compile(profile, Machine::X86_64).unwrap().flags;
    assert_eq!(flags(&profile), 4);
    profile.set_flags(Some(vec![]));
    assert_eq!(flags(&profile), 0);
    profile.set_flags(Some(vec![LinuxSeccompFilterFlag::SeccompFilterFlagTsync]));
    assert_eq!(flags(&profile), 1);
    let notify = |name: &str| {
        LinuxSyscallBuilder::default()
            .names(vec![name.to_owned()])
            .action(LinuxSeccompAction::ScmpActNotify)
            .build()
            .unwrap()
    };
    profile.set_syscalls(Some(vec![notify("mkdir")]));
    assert_eq!(compile(&profile, Machine::X86_64), Err(Error::Listener));
    profile.set_listener_path(Some("/run/agent.sock".into()));
    let program = compile(&profile, Machine::X86_64).unwrap();
    assert!(program.notify && program.flags == 8);
    profile.set_syscalls(Some(vec![notify("write")]));
    assert_eq!(compile(&profile, Machine::X86_64), Err(Error::NotifyWrite));
    profile.set_default_action(LinuxSeccompAction::ScmpActNotify);
    assert_eq!(compile(&profile, Machine::X86_64), Err(Error::NotifyDefault));
}

#[test]
fn bad_numbers_are_refused() {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(70_000));
    assert_eq!(compile(&profile, Machine::X86_64), Err(Error::Errno(70_000)));
    profile.set_default_errno_ret(None);
    let arg = LinuxSeccompArgBuilder::default().index(6usize).op(LinuxSeccompOperator::ScmpCmpEq).value(1u64).build();
    let rule = LinuxSyscallBuilder::default()
        .names(vec!["read".to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args(vec![arg.unwrap()])
        .build();
    profile.set_syscalls(Some(vec![rule.unwrap()]));
    assert!(matches!(compile(&profile, Machine::X86_64), Err(Error::Argument { index: 6, .. })));
}

/// As runc's stub has it: only architectures that are listed, and only if the profile names a call of theirs.
#[test]
fn newer_calls_fail_softly_where_the_profile_tells_its_age() {
    let mut profile = profile(LinuxSeccompAction::ScmpActKillProcess, &["read", "write"]);
    let kill = 0x8000_0000;
    assert_eq!(ask(&profile, X86_64, 400, [0; 6]), kill, "no architecture is listed");
    profile.set_architectures(Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]));
    assert_eq!(ask(&profile, X86_64, 400, [0; 6]), ENOSYS);
    assert_eq!(ask(&profile, I386, 400, [0; 6]), ENOSYS);
    assert_eq!(ask(&profile, I386, 1, [0; 6]), kill, "older than write");
    profile.set_syscalls(Some(vec![rule(&["read"], LinuxSeccompAction::ScmpActAllow, vec![])]));
    assert_eq!(ask(&profile, X86_64, 400, [0; 6]), kill, "read is number 0");
    profile.set_default_action(LinuxSeccompAction::ScmpActTrace);
    profile.set_default_errno_ret(Some(0xffff));
    assert_eq!(ask(&profile, X86_64, 400, [0; 6]), 0x7ff0_ffff, "a tracer decides itself");
}

#[test]
fn every_action_has_its_value() {
    use LinuxSeccompAction::*;
    let values = [
        (ScmpActKill, 0),
        (ScmpActKillThread, 0),
        (ScmpActKillProcess, 0x8000_0000),
        (ScmpActTrap, 0x0003_0000),
        (ScmpActErrno, 0x0005_0007),
        (ScmpActTrace, 0x7ff0_0007),
        (ScmpActLog, 0x7ffc_0000),
        (ScmpActNotify, 0x7fc0_0000),
    ];
    for (action, value) in values {
        let mut rule = rule(&["mkdir"], action, vec![]);
        rule.set_errno_ret(Some(7));
        let mut profile = profile(ScmpActAllow, &[]);
        profile.set_syscalls(Some(vec![rule]));
        profile.set_listener_path(Some("/run/agent.sock".into()));
        assert_eq!(ask(&profile, X86_64, 83, [0; 6]), value, "{action:?}");
    }
}

#[test]
fn a_profile_beyond_the_kernels_limit_is_refused() {
    let conditions = |value: u64| {
        (0..6).map(|index| condition(index, LinuxSeccompOperator::ScmpCmpEq, value << 32 | value, 0)).collect()
    };
    let rules = |count| (1..=count).map(|value| rule(&["read"], LinuxSeccompAction::ScmpActErrno, conditions(value)));
    let mut profile = profile(LinuxSeccompAction::ScmpActAllow, &[]);
    profile.set_syscalls(Some(rules(150).collect()));
    assert_eq!(ask(&profile, X86_64, 0, [7 << 32 | 7; 6]), EPERM);
    assert_eq!(ask(&profile, X86_64, 0, [151 << 32 | 151; 6]), ALLOW);
    profile.set_syscalls(Some(rules(200).collect()));
    assert!(matches!(compile(&profile, Machine::X86_64), Err(Error::TooLong(4097..))));
}

fn condition(index: usize, op: LinuxSeccompOperator, value: u64, two: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(two).build().unwrap()
}

fn rule(names: &[&str], action: LinuxSeccompAction, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    LinuxSyscallBuilder::default().names(names).action(action).args(args).build().unwrap()
}

/// A profile that allows these calls.
fn profile(default: LinuxSeccompAction, names: &[&str]) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default);
    if !names.is_empty() {
        profile.set_syscalls(Some(vec![rule(names, LinuxSeccompAction::ScmpActAllow, vec![])]));
    }
    profile
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..4,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        (0u64..4).prop_map(|value| value << 32),
        (0u64..3, 0u64..3).prop_map(|(high, low)| high << 32 | low),
        any::<u64>(),
    ]
}

fn arguments() -> impl Strategy<Value = LinuxSeccompArg> {
    use LinuxSeccompOperator::*;
    let operators = [ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq];
    (0usize..3, prop::sample::select(operators.to_vec()), values(), values()).prop_map(|(index, op, value, two)| {
        LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(two).build().unwrap()
    })
}

fn rules() -> impl Strategy<Value = LinuxSyscall> {
    use LinuxSeccompAction::*;
    let names =
        ["read", "write", "open", "ioctl", "clone", "cacheflush", "socket", "statx", "setxattrat", "bogus", "mmap"];
    let actions = [ScmpActAllow, ScmpActErrno, ScmpActKillProcess, ScmpActLog, ScmpActTrap, ScmpActTrace];
    (
        prop::collection::vec(prop::sample::select(names.to_vec()), 1..4),
        prop::sample::select(actions.to_vec()),
        prop::option::of(0u32..4096),
        prop::collection::vec(arguments(), 0..4),
    )
        .prop_map(|(names, action, errno, args)| {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let mut rule = LinuxSyscallBuilder::default().names(names).action(action).build().unwrap();
            rule.set_errno_ret(errno);
            rule.set_args((!args.is_empty()).then_some(args));
            rule
        })
}

fn profiles() -> impl Strategy<Value = LinuxSeccomp> {
    use LinuxSeccompAction::*;
    let archs = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchAarch64, Arch::ScmpArchArm];
    (
        prop::sample::select(vec![ScmpActAllow, ScmpActErrno, ScmpActKillProcess, ScmpActTrace]),
        prop::collection::vec(prop::sample::select(archs.to_vec()), 0..4),
        prop::collection::vec(rules(), 0..12),
    )
        .prop_map(|(default, archs, rules)| {
            let mut profile = LinuxSeccomp::default();
            profile.set_default_action(default);
            profile.set_architectures(Some(archs));
            profile.set_syscalls(Some(rules));
            profile
        })
}

fn calls() -> impl Strategy<Value = Call> {
    let archs = vec![X86_64, I386, 0xc000_00b7, 0x4000_0028, 7];
    let numbers =
        prop_oneof![0u32..600, (0u32..600).prop_map(|number| number | X32), 983_030u32..983_050, any::<u32>()];
    (prop::sample::select(archs), numbers, prop::array::uniform6(values())).prop_map(|(arch, number, args)| Call {
        arch,
        number,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn programs_say_what_profiles_say(profile in profiles(), calls in prop::collection::vec(calls(), 40)) {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let program = compile(&profile, machine).unwrap();
            for call in &calls {
                prop_assert_eq!(run(&program.filter, call), Some(verdict(&profile, machine, call)), "{:?}", call);
            }
            for number in (0..500).step_by(3) {
                let call = Call { arch: if number % 2 == 0 { X86_64 } else { 0xc000_00b7 }, number, args: calls[0].args };
                prop_assert_eq!(run(&program.filter, &call), Some(verdict(&profile, machine, &call)), "{:?}", call);
            }
        }
    }
}

//! Two plain interpreters, for tests and fuzzing: one runs a BPF program, one reads the profile itself. Their verdicts agree.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use crate::Machine;
use crate::arch::{ARM_PRIVATE, Abi, X32_BIT};
use crate::assemble::{AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};
use crate::table;

/// A system call as a filter sees it (`struct seccomp_data`, without the instruction pointer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The number, with bit 30 set for x32.
    pub number: u32,
    /// The arguments.
    pub args: [u64; 6],
}

/// Runs a program on a call; `None` if the program is broken (the kernel would not have loaded it).
pub fn run(program: &[u64], call: &Call) -> Option<u32> {
    let mut accumulator = 0u32;
    let mut counter = 0usize;
    loop {
        let it = Instruction::from(*program.get(counter)?);
        counter += 1;
        let jump = |taken: bool| usize::from(if taken { it.jt } else { it.jf });
        match it.code {
            LOAD => accumulator = load(call, it.k)?,
            AND => accumulator &= it.k,
            JUMP => counter += it.k as usize,
            JUMP_EQ => counter += jump(accumulator == it.k),
            JUMP_GT => counter += jump(accumulator > it.k),
            JUMP_GE => counter += jump(accumulator >= it.k),
            RETURN => return Some(it.k),
            _ => return None,
        }
    }
}

fn load(call: &Call, offset: u32) -> Option<u32> {
    match offset {
        0 => Some(call.number),
        4 => Some(call.arch),
        16..64 if offset.is_multiple_of(4) => {
            let arg = call.args[(offset as usize - 16) / 8];
            Some(if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 })
        }
        _ => None,
    }
}

/// What the profile says about a call, worked out rule by rule: a `SECCOMP_RET_*` value.
pub fn verdict(profile: &LinuxSeccomp, machine: Machine, call: &Call) -> u32 {
    let listed: Vec<Abi> = profile.architectures().iter().flatten().filter_map(|arch| machine.abi(*arch)).collect();
    let mut abis: Vec<Abi> = std::iter::once(machine.native()).chain(listed.iter().copied()).collect();
    abis.retain(|abi| abi.audit() == call.arch);
    let x32 = call.arch == Abi::X32.audit() && call.number >= X32_BIT;
    let Some(abi) = abis.into_iter().find(|abi| (*abi == Abi::X32) == x32) else {
        return 0;
    };
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let matching = |names: &[String]| {
        names.iter().any(|name| table::lookup(name).is_some_and(|row| row[abi as usize] == call.number & !abi.base()))
    };
    let rules = profile.syscalls().iter().flatten();
    let relevant: Vec<_> = rules
        .clone()
        .filter(|rule| matching(rule.names()) && rule.action().as_u32(rule.errno_ret()) != default)
        .collect();
    let without = relevant.iter().find(|rule| rule.args().as_ref().is_none_or(Vec::is_empty));
    let with = || relevant.iter().find(|rule| args_match(rule.args().as_deref().unwrap_or_default(), call, abi));
    if let Some(rule) = without.or_else(with) {
        return rule.action().as_u32(rule.errno_ret());
    }
    let newest =
        rules.flat_map(|rule| rule.names()).filter_map(|name| table::lookup(name)).map(|row| row[abi as usize]);
    let newest = newest.filter(|number| *number != table::NONE && !(abi == Abi::Arm && *number >= ARM_PRIVATE)).max();
    let lenient = matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let tells_age = |newest: &u32| listed.contains(&abi) && !lenient && *newest | abi.base() > 0;
    match newest.filter(tells_age) {
        Some(newest) if relevant.is_empty() && call.number & !abi.base() > newest => 0x0005_0000 | 38,
        _ => default,
    }
}

fn args_match(args: &[LinuxSeccompArg], call: &Call, abi: Abi) -> bool {
    let twice = args.iter().enumerate().any(|(place, one)| args[..place].iter().any(|two| two.index() == one.index()));
    let mut holds = args.iter().map(|arg| arg_matches(arg, call, abi));
    if twice { holds.any(|it| it) } else { holds.all(|it| it) }
}

fn arg_matches(arg: &LinuxSeccompArg, call: &Call, abi: Abi) -> bool {
    let cut = |value: u64| if abi.narrow() { u64::from(value as u32) } else { value };
    let actual = cut(call.args[arg.index()]);
    let (value, two) = (cut(arg.value()), cut(arg.value_two().unwrap_or(0)));
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => actual == value,
        LinuxSeccompOperator::ScmpCmpNe => actual != value,
        LinuxSeccompOperator::ScmpCmpGt => actual > value,
        LinuxSeccompOperator::ScmpCmpGe => actual >= value,
        LinuxSeccompOperator::ScmpCmpLt => actual < value,
        LinuxSeccompOperator::ScmpCmpLe => actual <= value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => actual & value == two,
    }
}

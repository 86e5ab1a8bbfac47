//! What the profile decides, by architecture: ranges of numbers, each with a verdict.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::arch::{ARM_PRIVATE, Abi, Machine, X32_BIT};
use crate::{Error, table};

/// `SECCOMP_RET_KILL_THREAD`: what programs of an unlisted architecture get.
pub(crate) const KILL: u32 = 0;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const ENOSYS: u32 = 0x0005_0000 | 38;
const NOTIFY: u32 = 0x7fc0_0000;
const MAX_ERRNO: u32 = 4095;

/// The whole decision.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The machine's own architecture first.
    pub architectures: Vec<Architecture>,
}

/// Calls that arrive with one `AUDIT_ARCH_*` value.
#[derive(Debug)]
pub(crate) struct Architecture {
    pub audit: u32,
    /// Arguments are compared in their low 32 bits.
    pub narrow: bool,
    /// Where each range begins and what is decided in it, up to the next one; the first begins at 0.
    pub ranges: Vec<(u32, Verdict)>,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This `SECCOMP_RET_*` value.
    Plain(u32),
    /// The first branch whose conditions all hold, else the last value.
    Conditional(Vec<Branch>, u32),
}

/// Conditions and the value they lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub conditions: Vec<Condition>,
    pub action: u32,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub index: u32,
    pub operator: LinuxSeccompOperator,
    pub value: u64,
    pub value_two: u64,
}

/// A rule of the profile with its action worked out; a rule with one argument twice becomes several branches.
struct Rule {
    /// Numbers of the calls it names, in all ABIs.
    rows: Vec<&'static [u32; 6]>,
    branches: Vec<Branch>,
    action: u32,
    /// It says what the default says anyway, and so only tells which calls are known.
    redundant: bool,
}

impl Policy {
    pub(crate) fn new(profile: &LinuxSeccomp, machine: Machine) -> Result<Self, Error> {
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let mut rules = Vec::new();
        for syscall in profile.syscalls().iter().flatten() {
            rules.push(Rule::new(syscall, default)?);
        }
        let listed: Vec<Abi> = profile.architectures().iter().flatten().filter_map(|arch| machine.abi(*arch)).collect();
        let mut abis = vec![machine.native()];
        abis.extend(&listed);
        // x32 goes behind x86_64, into the same architecture; stable order otherwise, the native one first.
        let mut architectures: Vec<Architecture> = Vec::new();
        let mut seen = Vec::new();
        abis.sort_by_key(|abi| (abi.audit() != machine.native().audit(), *abi));
        for abi in abis {
            if seen.contains(&abi) {
                continue;
            }
            seen.push(abi);
            let beyond = if listed.contains(&abi) { beyond(profile, default) } else { default };
            let ranges = ranges(&rules, abi, default, beyond);
            match architectures.iter_mut().find(|known| known.audit == abi.audit()) {
                Some(known) => join(&mut known.ranges, ranges),
                None => architectures.push(Architecture { audit: abi.audit(), narrow: abi.narrow(), ranges }),
            }
        }
        Ok(Self { architectures })
    }

    /// Some verdict asks a listener.
    pub(crate) fn notifies(&self) -> bool {
        let verdicts = self.architectures.iter().flat_map(|architecture| &architecture.ranges);
        verdicts.into_iter().any(|(_, verdict)| match verdict {
            Verdict::Plain(action) => *action == NOTIFY,
            Verdict::Conditional(branches, _) => branches.iter().any(|branch| branch.action == NOTIFY),
        })
    }
}

impl Rule {
    fn new(syscall: &LinuxSyscall, default: u32) -> Result<Self, Error> {
        let action = action(syscall.action(), syscall.errno_ret())?;
        let name = || syscall.names().first().cloned().unwrap_or_default();
        let args: &[LinuxSeccompArg] = syscall.args().as_deref().unwrap_or_default();
        let mut conditions = Vec::with_capacity(args.len());
        for arg in args {
            let index = arg.index();
            if index > 5 {
                return Err(Error::Argument { name: name(), index });
            }
            conditions.push(Condition {
                index: index as u32,
                operator: arg.op(),
                value: arg.value(),
                value_two: arg.value_two().unwrap_or(0),
            });
        }
        let branches = if conditions.is_empty() {
            Vec::new()
        } else if names_an_argument_twice(&conditions) {
            conditions.into_iter().map(|condition| Branch { conditions: vec![condition], action }).collect()
        } else {
            vec![Branch { conditions, action }]
        };
        let rows = syscall.names().iter().filter_map(|name| table::lookup(name)).collect();
        Ok(Self { rows, branches, action, redundant: action == default })
    }
}

impl Rule {
    fn numbers(&self, abi: Abi) -> impl Iterator<Item = u32> {
        let numbers = self.rows.iter().map(move |row| row[abi as usize]);
        numbers.filter(|number| *number != table::NONE).map(move |number| number | abi.base())
    }
}

fn names_an_argument_twice(conditions: &[Condition]) -> bool {
    conditions.iter().enumerate().any(|(place, one)| conditions[..place].iter().any(|two| two.index == one.index))
}

/// The `SECCOMP_RET_*` value of an action.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let most = match action {
        LinuxSeccompAction::ScmpActErrno => MAX_ERRNO,
        // A message to the tracer, which may be any 16 bits.
        LinuxSeccompAction::ScmpActTrace => u16::MAX.into(),
        // The other actions carry no number; runc ignores one that is given.
        _ => return Ok(action.as_u32(None)),
    };
    match errno.filter(|errno| *errno > most) {
        Some(errno) => Err(Error::Errno(errno)),
        None => Ok(action.as_u32(errno)),
    }
}

/// What calls get that are newer than all the profile knows.
fn beyond(profile: &LinuxSeccomp, default: u32) -> u32 {
    match profile.default_action() {
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace => default,
        _ => ENOSYS,
    }
}

/// The ranges of one ABI, beginning at its base.
fn ranges(rules: &[Rule], abi: Abi, default: u32, beyond: u32) -> Vec<(u32, Verdict)> {
    let mut named: Vec<(u32, usize)> = Vec::with_capacity(512);
    for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.redundant) {
        named.extend(rule.numbers(abi).map(|number| (number, place)));
    }
    named.sort_unstable();
    let ordinary = |number: &u32| !(abi == Abi::Arm && *number >= ARM_PRIVATE);
    // A profile that names no call of this ABI (or but number 0, as runc counts) tells nothing of its age.
    let newest = rules.iter().flat_map(|rule| rule.numbers(abi)).filter(ordinary).max().filter(|newest| *newest > 0);

    let mut ranges = Ranges(vec![(abi.base(), Verdict::Plain(default))]);
    let mut end = newest.map(|newest| newest + 1);
    for group in named.chunk_by(|one, two| one.0 == two.0) {
        let number = group[0].0;
        if let Some(start) = end.filter(|end| *end < number) {
            ranges.begin(start, Verdict::Plain(beyond));
            end = None;
        }
        ranges.begin(number, verdict(group.iter().map(|(_, place)| &rules[*place]), default));
        let behind = if end.is_some() || newest.is_none() { default } else { beyond };
        ranges.begin(number + 1, Verdict::Plain(behind));
    }
    if let Some(start) = end {
        ranges.begin(start, Verdict::Plain(beyond));
    }
    if abi == Abi::X86_64 {
        // x32's numbers, unless that ABI is listed and puts its own ranges here.
        ranges.begin(X32_BIT, Verdict::Plain(KILL));
    }
    ranges.0
}

fn verdict<'a>(rules: impl Iterator<Item = &'a Rule>, default: u32) -> Verdict {
    let mut branches = Vec::new();
    for rule in rules {
        if rule.branches.is_empty() {
            return Verdict::Plain(rule.action);
        }
        branches.extend(rule.branches.iter().cloned());
    }
    Verdict::Conditional(branches, default)
}

/// Ranges while they grow: a range that begins where the last one does replaces it, and equal neighbours are one.
struct Ranges(Vec<(u32, Verdict)>);

impl Ranges {
    fn begin(&mut self, start: u32, verdict: Verdict) {
        if self.0.last().is_some_and(|last| last.0 == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.1 != verdict) {
            self.0.push((start, verdict));
        }
    }
}

/// Puts x32's ranges behind those of x86_64.
fn join(ranges: &mut Vec<(u32, Verdict)>, more: Vec<(u32, Verdict)>) {
    if let Some((start, _)) = more.first() {
        ranges.retain(|(place, _)| place < start);
    }
    ranges.extend(more);
}

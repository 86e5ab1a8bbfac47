//! The policy as classic BPF.
//!
//! A program only jumps forward, and a conditional jump at most 255 instructions far. So it is written from its end to its
//! beginning: whatever is jumped to exists already and its distance is known. A label counts from the end.

use oci_spec::runtime::LinuxSeccompOperator::*;

use crate::policy::{Branch, Condition, KILL, Policy, Verdict};

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl From<Instruction> for u64 {
    fn from(it: Instruction) -> Self {
        u64::from(it.code) | u64::from(it.jt) << 16 | u64::from(it.jf) << 24 | u64::from(it.k) << 32
    }
}

impl From<u64> for Instruction {
    fn from(word: u64) -> Self {
        Self { code: word as u16, jt: (word >> 16) as u8, jf: (word >> 24) as u8, k: (word >> 32) as u32 }
    }
}

/// `BPF_LD | BPF_W | BPF_ABS`.
pub(crate) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(crate) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(crate) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(crate) const JUMP_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(crate) const JUMP_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const JUMP_GE: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub(crate) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// How far a conditional jump reaches.
const REACH: usize = 255;

/// An instruction, counted from the end of the program.
type Label = usize;

/// The program for a policy.
pub(crate) fn assemble(policy: &Policy) -> Vec<Instruction> {
    let mut code = Code::default();
    let mut entries: Vec<(u32, Label)> = Vec::new();
    // The native architecture comes first in the policy and so last here, right behind the dispatch.
    for architecture in policy.architectures.iter().rev() {
        code.narrow = architecture.narrow;
        let root = code.tree(&architecture.ranges);
        code.continue_at(root);
        entries.push((architecture.audit, code.push(LOAD, NUMBER)));
    }
    code.push(RETURN, KILL);
    for (audit, entry) in entries {
        let miss = code.top();
        code.branch(JUMP_EQ, audit, entry, miss);
    }
    code.push(LOAD, ARCH);
    code.instructions.reverse();
    code.instructions
}

#[derive(Default)]
struct Code {
    /// Last instruction first.
    instructions: Vec<Instruction>,
    /// The latest copy of each `return`.
    returns: Vec<(u32, Label)>,
    /// Arguments have 32 bits.
    narrow: bool,
}

impl Code {
    /// The instruction written last, which is the first one to run.
    fn top(&self) -> Label {
        self.instructions.len() - 1
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.instructions.push(Instruction { code, jt: 0, jf: 0, k });
        self.top()
    }

    /// How many instructions lie between the next one to be written and a label.
    fn distance(&self, label: Label) -> usize {
        self.top() - label
    }

    /// A `return` near enough to be jumped to from the next few instructions.
    fn give(&mut self, value: u32) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == value)
            && self.distance(*label) < REACH - 16
        {
            return *label;
        }
        let label = self.push(RETURN, value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// A conditional jump; far targets are reached through an unconditional one.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let no = self.near(no, 1);
        let yes = self.near(yes, 0);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.instructions.push(Instruction { code, jt, jf, k });
        self.top()
    }

    /// The label itself, or a jump to it if it is too far; `more` instructions may still come between.
    fn near(&mut self, label: Label, more: usize) -> Label {
        match self.distance(label) {
            distance if distance + more <= REACH => label,
            distance => self.push(JUMP, distance as u32),
        }
    }

    /// Makes what is written next run on at `label`.
    fn continue_at(&mut self, label: Label) {
        if label != self.top() {
            let distance = self.distance(label);
            self.push(JUMP, distance as u32);
        }
    }

    /// A search tree over ranges; the accumulator holds the number.
    fn tree(&mut self, ranges: &[(u32, Verdict)]) -> Label {
        match ranges {
            [] => self.give(KILL),
            [(_, verdict)] => self.verdict(verdict),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let above = self.tree(high);
                let below = self.tree(low);
                self.branch(JUMP_GE, high[0].0, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        match verdict {
            Verdict::Plain(action) => self.give(*action),
            Verdict::Conditional(branches, otherwise) => {
                let mut next = self.give(*otherwise);
                for branch in branches.iter().rev() {
                    next = self.rule(branch, next);
                }
                next
            }
        }
    }

    /// One rule: all conditions hold, or on to `otherwise`.
    fn rule(&mut self, rule: &Branch, otherwise: Label) -> Label {
        let mut yes = self.give(rule.action);
        for condition in rule.conditions.iter().rev() {
            yes = self.condition(condition, yes, otherwise);
        }
        yes
    }

    fn condition(&mut self, condition: &Condition, yes: Label, no: Label) -> Label {
        let Condition { index, operator, value, value_two } = *condition;
        let at = ARGS + 8 * index;
        match operator {
            ScmpCmpEq => self.equal(at, u64::MAX, value, yes, no),
            ScmpCmpNe => self.equal(at, u64::MAX, value, no, yes),
            ScmpCmpMaskedEq => self.equal(at, value, value_two, yes, no),
            ScmpCmpGt => self.order(at, JUMP_GT, value, yes, no),
            ScmpCmpGe => self.order(at, JUMP_GE, value, yes, no),
            ScmpCmpLt => self.order(at, JUMP_GE, value, no, yes),
            ScmpCmpLe => self.order(at, JUMP_GT, value, no, yes),
        }
    }

    /// `argument & mask == value`, the halves one after the other.
    fn equal(&mut self, at: u32, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let low = self.equal_half(at, mask as u32, value as u32, yes, no);
        if self.narrow {
            return low;
        }
        self.equal_half(at + 4, (mask >> 32) as u32, (value >> 32) as u32, low, no)
    }

    fn equal_half(&mut self, at: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        if mask == 0 && value == 0 {
            return yes;
        }
        self.branch(JUMP_EQ, value, yes, no);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, at)
    }

    /// `argument > value` or `>=`, unsigned: the high halves decide unless they are equal.
    fn order(&mut self, at: u32, comparison: u16, value: u64, yes: Label, no: Label) -> Label {
        self.branch(comparison, value as u32, yes, no);
        let low = self.push(LOAD, at);
        if self.narrow {
            return low;
        }
        let high = (value >> 32) as u32;
        let not_above = self.branch(JUMP_EQ, high, low, no);
        self.branch(JUMP_GT, high, yes, not_above);
        self.push(LOAD, at + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Architecture;

    fn plain(starts: &[u32]) -> Policy {
        let ranges = starts.iter().map(|start| (*start, Verdict::Plain(*start))).collect();
        Policy { architectures: vec![Architecture { audit: 1, narrow: false, ranges }] }
    }

    #[test]
    fn a_small_program() {
        let code = assemble(&plain(&[0, 7]));
        let expect = [
            (LOAD, 0, 0, ARCH),
            (JUMP_EQ, 1, 0, 1),
            (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, NUMBER),
            (JUMP_GE, 1, 0, 7),
            (RETURN, 0, 0, 0),
            (RETURN, 0, 0, 7),
        ];
        assert_eq!(code, expect.map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }));
        assert_eq!(Instruction::from(u64::from(code[1])), code[1]);
    }

    #[test]
    fn long_jumps_arrive() {
        let starts: Vec<u32> = (0..1500).map(|place| place * 3).collect();
        let code: Vec<u64> = assemble(&plain(&starts)).into_iter().map(u64::from).collect();
        for number in [0, 1, 2, 3, 700, 2999, 3000, 4497, 4498, 999_999] {
            let data = crate::interpret::Call { arch: 1, number, args: [0; 6] };
            assert_eq!(crate::interpret::run(&code, &data), Some((number / 3 * 3).min(4497)));
        }
    }
}

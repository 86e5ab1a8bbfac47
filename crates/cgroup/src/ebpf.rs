//! Device rules as an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, for v2.
//!
//! The program gets `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`: the low half of the first word is
//! the kind (1 block, 2 character), the high half the accesses. It answers 1 to allow. See linux/bpf.h.

use crate::devices::{Exception, MKNOD, Policy, READ, WRITE};

const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

/// `dst = *(u32 *)(src + offset)`.
const LOAD: u8 = 0x61;
/// 64-bit `dst = imm`, `dst = src`, `dst &= imm`, `dst >>= imm`.
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT: u8 = 0x77;
/// Jumps on 64-bit comparison with an immediate.
const JUMP_NE: u8 = 0x55;
const JUMP_EQ: u8 = 0x15;
/// Jump on 32-bit comparison: device numbers above 2^31 mustn't be sign-extended.
const JUMP32_NE: u8 = 0x56;
const EXIT: u8 = 0x95;

const BLOCK: u32 = 1;
const CHAR: u32 = 2;

/// The program: one `struct bpf_insn` per word.
pub(crate) fn program(policy: &Policy) -> Vec<u64> {
    let mut code = vec![
        instruction(LOAD, KIND, 1, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT, ACCESS, 0, 0, 16),
        instruction(LOAD, MAJOR, 1, 4, 0),
        instruction(LOAD, MINOR, 1, 8, 0),
    ];
    for exception in &policy.exceptions {
        code.extend(block(exception, policy.allow));
    }
    code.extend(answer(policy.allow));
    code
}

/// Answers against the default if the exception applies, else runs on behind this block.
fn block(exception: &Exception, default: bool) -> Vec<u64> {
    // (code, register, immediate) of jumps out of the block, each after what it needs.
    let mut tests: Vec<Vec<u64>> = Vec::new();
    let kind = if exception.block { BLOCK } else { CHAR };
    tests.push(vec![instruction(JUMP_NE, KIND, 0, 0, kind)]);
    let all = MKNOD | READ | WRITE;
    if default {
        // A denial counts for a request that has any of its accesses.
        if exception.access != all {
            let access = u32::from(exception.access);
            tests.push(vec![
                instruction(COPY, SCRATCH, ACCESS, 0, 0),
                instruction(AND, SCRATCH, 0, 0, access),
                instruction(JUMP_EQ, SCRATCH, 0, 0, 0),
            ]);
        }
    } else if exception.access != all {
        // A permission must cover all that is requested.
        let rest = u32::from(all & !exception.access);
        tests.push(vec![
            instruction(COPY, SCRATCH, ACCESS, 0, 0),
            instruction(AND, SCRATCH, 0, 0, rest),
            instruction(JUMP_NE, SCRATCH, 0, 0, 0),
        ]);
    }
    tests.extend(exception.major.map(|major| vec![instruction(JUMP32_NE, MAJOR, 0, 0, major)]));
    tests.extend(exception.minor.map(|minor| vec![instruction(JUMP32_NE, MINOR, 0, 0, minor)]));
    let mut code: Vec<u64> = tests.into_iter().flatten().collect();
    code.extend(answer(!default));
    aim_at_the_end(&mut code);
    code
}

/// Fills in the offsets of the jumps out of a block.
fn aim_at_the_end(code: &mut [u64]) {
    let length = code.len();
    for (place, word) in code.iter_mut().enumerate() {
        if matches!(*word as u8, JUMP_NE | JUMP_EQ | JUMP32_NE) {
            *word |= ((length - place - 1) as u64) << 16;
        }
    }
}

fn answer(allow: bool) -> [u64; 2] {
    [instruction(MOVE, 0, 0, 0, u32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// `struct bpf_insn { u8 code; u8 dst:4, src:4; s16 off; s32 imm; }` on a little-endian machine.
fn instruction(code: u8, dst: u8, src: u8, offset: u16, immediate: u32) -> u64 {
    u64::from(code) | u64::from(dst | src << 4) << 8 | u64::from(offset) << 16 | u64::from(immediate) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::tests::rules;

    /// Runs a program on a request; only what [`program`] makes is understood.
    fn run(program: &[u64], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        let context = [kind | u32::from(access) << 16, major, minor];
        let mut registers = [0u64; 6];
        let mut counter = 0;
        loop {
            let word = program[counter];
            counter += 1;
            let (code, dst, src) = (word as u8, (word >> 8) as usize & 15, (word >> 12) as usize & 15);
            let (offset, immediate) = ((word >> 16) as u16, (word >> 32) as u32);
            let wide = i64::from(immediate as i32) as u64;
            let jump = |taken: bool| if taken { usize::from(offset) } else { 0 };
            match code {
                LOAD => registers[dst] = u64::from(context[usize::from(offset) / 4]),
                MOVE => registers[dst] = wide,
                COPY => registers[dst] = registers[src],
                AND => registers[dst] &= wide,
                SHIFT => registers[dst] >>= wide,
                JUMP_NE => counter += jump(registers[dst] != wide),
                JUMP_EQ => counter += jump(registers[dst] == wide),
                JUMP32_NE => counter += jump(registers[dst] as u32 != immediate),
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn check(text: &[&str], request: (u32, u8, u32, u32), expect: bool) {
        let program = program(&Policy::new(&rules(text)).unwrap());
        let (kind, access, major, minor) = request;
        assert_eq!(run(&program, kind, access, major, minor), expect, "{text:?} {request:?}");
    }

    #[test]
    fn an_allow_list() {
        let list = ["-a", "+c 1:3 rwm", "+c 5:* r", "+b *:* m", "+c 4294967295:1 rw"];
        check(&list, (CHAR, READ | WRITE, 1, 3), true);
        check(&list, (BLOCK, READ, 1, 3), false);
        check(&list, (CHAR, READ, 1, 4), false);
        check(&list, (CHAR, READ, 5, 77), true);
        check(&list, (CHAR, READ | WRITE, 5, 77), false);
        check(&list, (BLOCK, MKNOD, 9, 9), true);
        check(&list, (BLOCK, READ, 9, 9), false);
        check(&list, (CHAR, READ, u32::MAX, 1), true);
    }

    #[test]
    fn a_deny_list() {
        let list = ["+a", "-b 8:0 w", "-c 1:3 rwm"];
        check(&list, (BLOCK, READ, 8, 0), true);
        check(&list, (BLOCK, READ | WRITE, 8, 0), false);
        check(&list, (CHAR, READ, 1, 3), false);
        check(&list, (CHAR, READ, 1, 5), true);
        check(&["+a"], (CHAR, 7, 1, 5), true);
        check(&[], (CHAR, 7, 1, 5), false);
    }
}

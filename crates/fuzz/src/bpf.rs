//! Classic BPF as seccomp(2) takes it, from the kernel's documentation alone: nothing here is shared with the compiler.
//!
//! See Documentation/networking/filter.rst, and what `seccomp_check_filter` and `bpf_check_classic` refuse.

/// What a filter sees: number, architecture, instruction pointer, arguments, as 16 words.
pub(crate) type Data = [u32; 16];

/// The data of a call.
pub(crate) fn data(number: u32, arch: u32, args: [u64; 6]) -> Data {
    let mut words = [0; 16];
    (words[0], words[1]) = (number, arch);
    for (place, arg) in args.into_iter().enumerate() {
        (words[4 + 2 * place], words[5 + 2 * place]) = (arg as u32, (arg >> 32) as u32);
    }
    words
}

/// Panics where the kernel would refuse the program.
pub(crate) fn check(program: &[u64]) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    for (place, word) in program.iter().enumerate() {
        let (code, yes, no, k) = parts(*word);
        let left = program.len() - place - 1;
        match code {
            0x20 => assert!(k.is_multiple_of(4) && k < 64, "load from {k} at {place}"),
            0x54 | 0x06 => {}
            0x05 => assert!((k as usize) < left, "jump out of the program at {place}"),
            0x15 | 0x25 | 0x35 => assert!(yes.max(no) < left, "branch out of the program at {place}"),
            other => panic!("instruction {other:#x} at {place}"),
        }
    }
    assert_eq!(program.last().map(|word| parts(*word).0), Some(0x06), "it does not end by returning");
}

/// The answer of a checked program.
pub(crate) fn run(program: &[u64], data: &Data) -> u32 {
    let (mut accumulator, mut place) = (0, 0);
    loop {
        let (code, yes, no, k) = parts(program[place]);
        place += 1;
        let branch = |holds| if holds { yes } else { no };
        match code {
            0x20 => accumulator = data[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 => place += k as usize,
            0x15 => place += branch(accumulator == k),
            0x25 => place += branch(accumulator > k),
            0x35 => place += branch(accumulator >= k),
            _ => return k,
        }
    }
}

/// Code, distances if true and if false, operand.
fn parts(word: u64) -> (u16, usize, usize, u32) {
    let [c0, c1, yes, no, k @ ..] = word.to_le_bytes();
    (u16::from_le_bytes([c0, c1]), yes.into(), no.into(), u32::from_le_bytes(k))
}

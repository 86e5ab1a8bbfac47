//! Programs made of bytes, for calls that no compiler here makes: static executables of one segment whose code is all they have.
//! Layout: elf(5).

/// Where both kinds are loaded.
const BASE: u32 = 0x0040_0000;
const EXECUTABLE: u16 = 2;
const READ_AND_EXECUTE: u32 = 5;

/// A 64-bit x86 executable that begins with `code`.
pub fn x86_64(code: &[u8]) -> Vec<u8> {
    const HEADERS: u16 = 64 + 56;
    let mut file = identification(2, 62);
    let length = u64::from(HEADERS) + code.len() as u64;
    let address = u64::from(BASE);
    // Entry, the program headers' and the section headers' places, flags.
    [address + u64::from(HEADERS), 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64_u16, 56, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    [1, READ_AND_EXECUTE].iter().for_each(|word| file.extend(word.to_le_bytes()));
    [0, address, address, length, length, 4096].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(code);
    file
}

/// A 32-bit x86 executable that begins with `code`.
pub fn i386(code: &[u8]) -> Vec<u8> {
    const HEADERS: u16 = 52 + 32;
    let mut file = identification(1, 3);
    let length = u32::from(HEADERS) + u32::try_from(code.len()).expect("a small program");
    [BASE + u32::from(HEADERS), 52, 0, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    [52_u16, 32, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    [1, 0, BASE, BASE, length, length, READ_AND_EXECUTE, 4096].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(code);
    file
}

/// The first bytes of each header: class (1 is 32-bit, 2 is 64-bit), little-endian, System V; then the machine.
fn identification(class: u8, machine: u16) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0];
    file.resize(16, 0);
    [EXECUTABLE, machine].iter().for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file
}

//! Where the last n lines begin: reading a file backwards, block by block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// The offset of the n-th line from the end of the first `length` bytes, and how many lines lie behind it (fewer than `n`
/// when the file has fewer: the offset is 0 then). A last line without a line feed counts.
pub(crate) fn start_of_last_lines(file: &File, length: u64, n: u64) -> io::Result<(u64, u64)> {
    if n == 0 || length == 0 {
        return Ok((length, 0));
    }
    let mut found = 0;
    let mut end = length;
    let mut block = vec![0; BLOCK.min(length) as usize];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let bytes = &mut block[..(end - begin) as usize];
        file.read_exact_at(bytes, begin)?;
        for (index, byte) in bytes.iter().enumerate().rev() {
            let after = begin + index as u64 + 1;
            // The line feed at the very end closes the last line and begins none.
            if *byte == b'\n' && after != length {
                found += 1;
                if found == n {
                    return Ok((after, n));
                }
            }
        }
        end = begin;
    }
    Ok((0, found + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(content: &[u8], n: u64, expect: (u64, u64)) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        assert_eq!(start_of_last_lines(&file, content.len() as u64, n).unwrap(), expect);
    }

    #[test]
    fn lines_from_the_end() {
        check(b"", 3, (0, 0));
        check(b"a\nb\nc\n", 0, (6, 0));
        check(b"a\nb\nc\n", 1, (4, 1));
        check(b"a\nb\nc\n", 2, (2, 2));
        check(b"a\nb\nc\n", 3, (0, 3));
        check(b"a\nb\nc\n", 9, (0, 3));
        check(b"a\nb", 1, (2, 1));
        check(b"a\nb", 2, (0, 2));
    }

    #[test]
    fn across_blocks() {
        let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
        let content = line.repeat(5000);
        check(&content, 4321, ((5000 - 4321) * 100, 4321));
        check(&content, 5000, (0, 5000));
        check(&content, 6000, (0, 5000));
    }
}

//! Files of control groups, always relative to a directory descriptor.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};

/// Opens a directory for use as a starting point only.
pub(crate) fn open_dir(at: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    Ok(fs::openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Writes a value with one write, as these files demand. The file must exist: nothing is created (v2 tests use plain files).
pub(crate) fn write(at: BorrowedFd<'_>, name: &str, value: &str) -> io::Result<()> {
    let file = open_for_writing(at, name)?;
    write_to(&file, value)
}

/// Opens a file that takes several values, one write each.
pub(crate) fn open_for_writing(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(fs::openat(at, name, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// One value to an open file.
pub(crate) fn write_to(file: &OwnedFd, value: &str) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::write(file, value.as_bytes()))?;
    Ok(())
}

/// Reads a whole file.
pub(crate) fn read(at: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let file = fs::openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads a file that holds one number; `max` is the largest one.
pub(crate) fn read_number(at: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
    let text = read(at, name)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        text => text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} in {name}"))),
    }
}

/// The lines of a file of `key value` pairs.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once([' ', '='])?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The value of one key.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Names of the groups directly below one.
pub(crate) fn children(at: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let dir = fs::openat(at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in fs::Dir::new(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == fs::FileType::Directory && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// The one word that files have between a beginning and an end: `2MB` of `hugetlb.2MB.current`.
pub(crate) fn parts_between(at: BorrowedFd<'_>, begin: &str, end: &str) -> io::Result<Vec<String>> {
    let dir = fs::openat(at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut parts = Vec::new();
    for entry in fs::Dir::new(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let part = name.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        parts.extend(part.filter(|part| !part.contains('.')).map(str::to_owned));
    }
    Ok(parts)
}

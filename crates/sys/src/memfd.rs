//! Sealed memfds: data that its receiver can trust not to change.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use crate::process::invalid;

/// A memfd holding `data`, sealed against every change.
pub fn sealed(name: &str, data: &[u8]) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let fd = memfd_create(&*name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(data)?;
    file.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Reads a sealed memfd whole. Anything that is not sealed against writing, or is larger than `limit`, is refused.
pub fn read(fd: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let seals = fcntl_get_seals(fd.as_fd())?;
    let size = fstat(&fd)?.st_size as u64;
    if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW) || size > limit {
        return Err(invalid());
    }
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    let mut data = Vec::with_capacity(size as usize);
    file.read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_back_and_cannot_change() {
        let fd = sealed("test", b"plan").unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        assert_eq!(read(fd, 100).unwrap(), b"plan");
    }

    #[test]
    fn larger_than_the_limit_is_refused() {
        assert!(read(sealed("test", b"plan").unwrap(), 3).is_err());
    }
}

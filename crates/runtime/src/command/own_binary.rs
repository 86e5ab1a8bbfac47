//! Keeps the runtime's executable out of a container's reach (CVE-2019-5736).
//!
//! A container's init is a copy of this process until it executes its program, and an image can name `/proc/self/exe` as
//! that program: it would then find the host's executable behind `/proc/<pid>/exe`. So the process executes itself once,
//! through a detached read-only view of the file: opening that link for writing fails with EROFS, whoever tries.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use corten_sys::{mount, process};
use rustix::fs::StatVfsMountFlags;

use super::error::{Error, Result};

const LINK: &str = "/proc/self/exe";

/// Makes sure that the executable cannot be written to through this process. Executes it anew where it could.
pub(super) fn protect() -> Result<()> {
    // Nothing inside a container may trace what will become its init, or follow its links.
    process::set_dumpable(false).map_err(Error::doing("prctl"))?;
    let there = rustix::fs::statvfs(LINK).map_err(Error::doing(LINK))?;
    if there.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    execute_view().map_err(Error::doing("cannot protect the executable"))
}

fn execute_view() -> io::Result<()> {
    let view = mount::read_only_view(Path::new(LINK))?;
    let path = CString::new(process::fd_path(view.as_fd()).as_os_str().as_bytes())?;
    let arguments = std::env::args_os().map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>()?;
    let line = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    let environment = std::env::vars_os().map(line).collect::<Result<Vec<_>, _>>()?;
    let Err(error) = process::execve(&path, &arguments, &environment);
    Err(error)
}

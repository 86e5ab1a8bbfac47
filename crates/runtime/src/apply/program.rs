//! Finding and executing the program, with the errors that Docker's users know.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use corten_sys::process;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, openat};
use rustix::io::Errno;

use crate::failure::describe;
use crate::plan::ProcessPlan;
use crate::{Failure, FailureKind};

/// The exit code of what could not be executed.
const NOT_EXECUTED: i32 = 255;

/// Finds the command as the caller's identity sees it.
pub(super) fn find(plan: &ProcessPlan) -> Result<PathBuf, Failure> {
    let Some(name) = plan.args.first().filter(|name| !name.is_empty()) else {
        return Err(Failure::new(FailureKind::NotFound, "exec: no command"));
    };
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::NOENT) => {
                Err(failure(FailureKind::NotFound, &format!("exec: {name:?}: stat {name}"), Errno::NOENT))
            }
            Err(Errno::NOTDIR) => {
                Err(failure(FailureKind::NotExecutable, &format!("exec: {name:?}: stat {name}"), Errno::NOTDIR))
            }
            Err(error) => Err(failure(FailureKind::NotExecutable, &format!("exec: {name:?}"), error)),
        };
    }
    let path = plan.env.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    // Entries that are not absolute would search the working directory, which a container's image chooses.
    let mut candidates =
        path.split(':').filter(|entry| entry.starts_with('/')).map(|entry| Path::new(entry).join(name));
    candidates.find(|candidate| check(candidate).is_ok()).ok_or_else(|| {
        Failure::new(FailureKind::NotFound, format!("exec: {name:?}: executable file not found in $PATH"))
    })
}

fn check(path: &Path) -> Result<(), Errno> {
    let handle = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&handle)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A seccomp filter that does not know faccessat2 may be in force; execve itself has the last word.
        Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        result => result,
    }
}

fn failure(kind: FailureKind, what: &str, error: Errno) -> Failure {
    Failure::new(kind, format!("{what}: {}", describe(&io::Error::from(error))))
}

/// What execve takes, made while memory may still be allocated and errors reported with their cause.
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    pub(super) fn new(path: &Path, plan: &ProcessPlan, environment: Vec<String>) -> Result<Program, Failure> {
        let text = |text: &str| CString::new(text).map_err(|_| nul());
        Ok(Program {
            path: CString::new(path.as_os_str().as_bytes()).map_err(|_| nul())?,
            arguments: plan.args.iter().map(|line| text(line)).collect::<Result<_, _>>()?,
            environment: environment.iter().map(|line| text(line)).collect::<Result<_, _>>()?,
        })
    }

    /// Executes it. As with runc it counts as started by then: what only the kernel can tell (another machine's program, a script
    /// whose interpreter is missing) stands on its standard error, in runc's words, and its exit code is 255.
    pub(super) fn execute(&self) -> ! {
        let Err(error) = process::execve(&self.path, &self.arguments, &self.environment);
        let text = format!("exec {}: {}\n", self.path.to_string_lossy(), describe(&error));
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        process::exit_now(NOT_EXECUTED)
    }
}

fn nul() -> Failure {
    Failure::new(FailureKind::Invalid, "a NUL byte in an argument")
}

//! OCI hooks: programs that are told the container's state on standard input, in order, each within its time.
//!
//! Source: runtime-spec 1.3, config.md "POSIX-platform Hooks". A hook without a time-out may take for ever.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use corten_sys::{memfd, process, signal};
use oci_spec::runtime::{Hook, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::describe;

/// As much of a hook's output goes into its error.
const MAX_OUTPUT: usize = 16 * 1024;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("error running {stage} hook #{index}: {path}: {reason}")]
pub struct Error {
    /// Its list.
    stage: String,
    /// Its place in the list.
    index: usize,
    /// Its program.
    path: PathBuf,
    /// What happened.
    reason: String,
}

/// Runs hooks one after the other; the first that fails is the last. They start in `directory`.
pub fn run(stage: &str, hooks: &[Hook], state: &State, directory: Option<&Path>) -> Result<(), Error> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, directory).map_err(|reason| Error {
            stage: stage.to_owned(),
            index,
            path: hook.path().clone(),
            reason,
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &State, directory: Option<&Path>) -> Result<(), String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {}", describe(&error));
    // A file instead of a pipe: a hook that reads nothing, or late, keeps nobody waiting.
    let text = serde_json::to_vec(state).map_err(|error| error.to_string())?;
    let input = memfd::sealed("state", &text).map_err(failed("cannot write the state"))?;
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("pipe")(error.into()))?;
    // This end alone: a hook that writes more than there is room for has to wait, not to fail.
    rustix::io::ioctl_fionbio(&output, true).map_err(|error| failed("pipe")(error.into()))?;
    let copy = theirs.try_clone().map_err(failed("pipe"))?;
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).env_clear().stdin(Stdio::from(input)).stdout(Stdio::from(theirs)).stderr(Stdio::from(copy));
    command.envs(hook.env().iter().flatten().filter_map(|line| line.split_once('=')));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    // Whoever runs hooks has signals blocked, to read or to pass them on.
    let mut child = signal::unblock_in(&mut command).spawn().map_err(failed("cannot execute it"))?;
    // The command holds the other ends of the pipe; its end is to be seen.
    drop(command);
    let (status, output) = supervise(&mut child, output, hook.timeout())?;
    if status.success() { Ok(()) } else { Err(format!("{status}, output: {}", output.trim_end())) }
}

/// Waits for the hook's end and gathers what it says. Whatever it leaves behind with the pipe open is not waited for.
fn supervise(child: &mut Child, output: OwnedFd, timeout: Option<i64>) -> Result<(ExitStatus, String), String> {
    let failed = |error: std::io::Error| format!("cannot wait for it: {}", describe(&error));
    let pid = i32::try_from(child.id()).map_err(|_| "odd process id".to_owned())?;
    let pidfd = process::open_pidfd(pid).map_err(failed)?;
    let limit = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut output = Output { pipe: Some(output.into()), text: Vec::new() };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not end within {} s", limit.unwrap_or_default().as_secs()));
        }
        if ended(&mut output, &pidfd, left)? {
            break;
        }
    }
    output.drain();
    let status = child.wait().map_err(failed)?;
    Ok((status, String::from_utf8_lossy(&output.text).into_owned()))
}

/// Waits for the next event; true once the process has ended.
fn ended(output: &mut Output, pidfd: &OwnedFd, left: Option<Duration>) -> Result<bool, String> {
    let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    fds.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    match poll(&mut fds, left.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(false),
        Err(error) => return Err(format!("cannot wait for it: {}", describe(&error.into()))),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    if ready.get(1) == Some(&true) {
        output.drain();
    }
    Ok(ready[0])
}

/// What a hook prints.
struct Output {
    pipe: Option<std::fs::File>,
    text: Vec<u8>,
}

impl Output {
    /// Reads what is there; the pipe goes when its end is reached.
    fn drain(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4096];
        // Bounded, so that a hook that never stops talking still meets its time-out.
        for _ in 0..64 {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return;
                }
                Ok(length) => {
                    let room = MAX_OUTPUT.saturating_sub(self.text.len()).min(length);
                    self.text.extend_from_slice(&buffer[..room]);
                }
                Err(_) => return,
            }
        }
    }
}

//! The role's entry: from a fresh process to a warm shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::apply::base;
use corten_sys::process::flags;
use corten_sys::socket::Seqpacket;
use corten_sys::{namespace, process, signal};
use rustix::fs::{Mode, OFlags};

use crate::stub::Stub;
use crate::supervisor::Supervisor;

/// Runs a shim whose standard input is the daemon's socket. `args` are what follows the role's name: `--late-init`
/// makes the init stub at start instead of now.
pub fn main(args: &[String]) -> ! {
    let late_init = args.iter().any(|argument| argument == "--late-init");
    let code = match warm_up(late_init).and_then(Supervisor::run) {
        Ok(()) => 0,
        // There is nobody to tell: the daemon sees the socket close.
        Err(_) => 1,
    };
    process::exit_now(code)
}

/// What a warm shim holds.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) daemon: Seqpacket,
    pub(crate) children: OwnedFd,
    pub(crate) netns: OwnedFd,
    pub(crate) stub: Option<Stub>,
}

fn warm_up(late_init: bool) -> io::Result<Warm> {
    process::set_name(c"corten-shim")?;
    // Copies of this process stand inside containers until they exec: nothing there may trace them or follow
    // their /proc links (CVE-2016-9962, CVE-2019-5736).
    process::set_dumpable(false)?;
    let daemon = take_standard_input()?;
    let _ = rustix::process::setsid();
    signal::block_all()?;
    process::become_subreaper()?;
    rustix::process::umask(Mode::empty());
    namespace::unshare(flags::NETWORK | flags::IPC | flags::UTS)?;
    namespace::bring_loopback_up()?;
    let netns = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    base::enter_minimal_root()?;
    let children = signal::child_events()?;
    let stub = if late_init { None } else { Some(Stub::new(flags::PID, None)?) };
    Ok(Warm { daemon, children, netns, stub })
}

/// Moves the socket away from descriptor 0, which becomes the null device like 1 and 2.
fn take_standard_input() -> io::Result<Seqpacket> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    process::set_standard_fd(rustix::stdio::stdout(), 0)?;
    let socket = Seqpacket::from(socket);
    socket.set_nonblocking(true)?;
    process::close_all_but(&[socket.as_fd()]);
    Ok(socket)
}

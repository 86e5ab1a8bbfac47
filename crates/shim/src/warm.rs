//! The role's entry: from a fresh process to a warm shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::apply::base;
use corten_sys::mount::{self, Propagation};
use corten_sys::process::flags;
use corten_sys::socket::Seqpacket;
use corten_sys::{namespace, process, signal};
use rustix::fs::{Mode, OFlags};

use crate::stub::Stub;
use crate::supervisor::Supervisor;

/// Runs a shim whose standard input is the daemon's socket. `args` are what follows the role's name: `--late-init`
/// makes the init stub at start instead of now; `--external` makes a shim for another runtime's container.
pub fn main(args: &[String]) -> ! {
    let is_set = |flag: &str| args.iter().any(|argument| argument == flag);
    let warm = if is_set("--external") { stay_on_host() } else { warm_up(is_set("--late-init")) };
    let code = match warm.and_then(Supervisor::run) {
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
    /// Where the null device is.
    pub(crate) null: &'static str,
}

fn warm_up(late_init: bool) -> io::Result<Warm> {
    let daemon = become_supervisor()?;
    namespace::unshare(flags::NETWORK | flags::IPC | flags::UTS)?;
    namespace::bring_loopback_up()?;
    let netns = network_namespace()?;
    base::enter_minimal_root()?;
    let children = signal::child_events()?;
    let stub = if late_init { None } else { Some(Stub::new(flags::PID, None)?) };
    Ok(Warm { daemon, children, netns, stub, null: "/null" })
}

/// For another runtime, which expects the host around it: only its container's mounts are not the host's to see, and end with
/// the shim. What the host mounts later is seen here too. The container's network namespace is held, not entered.
fn stay_on_host() -> io::Result<Warm> {
    let daemon = become_supervisor()?;
    namespace::unshare(flags::MOUNT)?;
    mount::set_root_propagation(Propagation::Slave)?;
    let host = network_namespace()?;
    namespace::unshare(flags::NETWORK)?;
    namespace::bring_loopback_up()?;
    let netns = network_namespace()?;
    namespace::join(host.as_fd(), flags::NETWORK)?;
    let children = signal::child_events()?;
    Ok(Warm { daemon, children, netns, stub: None, null: "/dev/null" })
}

/// What every shim is: the reaper of a container's processes, in a session of its own, deaf to signals.
fn become_supervisor() -> io::Result<Seqpacket> {
    process::set_name(c"corten-shim")?;
    // Copies of this process stand inside containers until they exec: nothing there may trace them or follow
    // their /proc links (CVE-2016-9962, CVE-2019-5736).
    process::set_dumpable(false)?;
    let daemon = take_standard_input()?;
    let _ = rustix::process::setsid();
    signal::block_all()?;
    process::become_subreaper()?;
    rustix::process::umask(Mode::empty());
    Ok(daemon)
}

fn network_namespace() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
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

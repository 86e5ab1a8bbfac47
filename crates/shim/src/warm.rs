//! The role's entry: from a fresh process to a warm shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::Plan;
use corten_sys::mount::{self, Propagation};
use corten_sys::process::flags;
use corten_sys::slate::Slate;
use corten_sys::socket::Seqpacket;
use corten_sys::{namespace, precedence, process, signal};
use rustix::fs::Mode;

use crate::stub::Stub;
use crate::supervisor::Supervisor;
use crate::zygote::{self, Inheritance};

/// Runs the [zygote](crate::spawn::Zygote) of warm shims and each of its copies, or with `--external` a shim for another runtime's
/// container. The daemon's socket is the standard input; a zygote's standard output is the [`Slate`] for its copies. `args` are what
/// follows the role's name.
pub fn main(args: &[String]) -> ! {
    let code = match run(args.iter().any(|argument| argument == "--external")) {
        Ok(()) => 0,
        // There is nobody to tell: the daemon sees the socket close.
        Err(_) => 1,
    };
    process::exit_now(code)
}

fn run(external: bool) -> io::Result<()> {
    if external {
        return Supervisor::run(stay_on_host(leave_daemon()?)?);
    }
    let births = Slate::open(rustix::stdio::stdout())?;
    match zygote::serve(leave_daemon()?, births)? {
        Some(inheritance) => Supervisor::run(warm_up(inheritance)?),
        None => Ok(()),
    }
}

/// What a warm shim holds.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) daemon: Seqpacket,
    pub(crate) children: OwnedFd,
    pub(crate) netns: OwnedFd,
    pub(crate) stub: Option<Stub>,
    /// What stubs prepare themselves for.
    pub(crate) usual: Option<&'static Plan>,
    /// Where the null device is.
    pub(crate) null: &'static str,
}

fn warm_up(Inheritance { daemon, late_init, usual }: Inheritance) -> io::Result<Warm> {
    become_supervisor(&daemon)?;
    namespace::unshare(flags::NETWORK | flags::IPC | flags::UTS)?;
    namespace::bring_loopback_up()?;
    let netns = namespace::network()?;
    let children = signal::child_events()?;
    let stub = if late_init { None } else { Some(Stub::new(flags::PID, None, usual)?) };
    Ok(Warm { daemon, children, netns, stub, usual, null: "/null" })
}

/// For another runtime, which expects the host around it: only its container's mounts are not the host's to see, and end with
/// the shim. What the host mounts later is seen here too. The container's network namespace is held, not entered.
fn stay_on_host(daemon: Seqpacket) -> io::Result<Warm> {
    become_supervisor(&daemon)?;
    namespace::unshare(flags::MOUNT)?;
    mount::set_root_propagation(Propagation::Slave)?;
    let host = namespace::network()?;
    namespace::unshare(flags::NETWORK)?;
    namespace::bring_loopback_up()?;
    let netns = namespace::network()?;
    namespace::join(host.as_fd(), flags::NETWORK)?;
    let children = signal::child_events()?;
    Ok(Warm { daemon, children, netns, stub: None, usual: None, null: "/dev/null" })
}

/// What every shim is: the reaper of a container's processes, in a session of its own.
fn become_supervisor(daemon: &Seqpacket) -> io::Result<()> {
    daemon.set_nonblocking(true)?;
    let _ = rustix::process::setsid();
    process::become_subreaper()
}

/// What is done once for all of a zygote's shims: nothing of the daemon is left but the socket, and no signal is heard.
fn leave_daemon() -> io::Result<Seqpacket> {
    process::set_name(c"corten-shim")?;
    // The daemon's is short. Nobody waits for a warm shim.
    precedence::give_way();
    // Copies of this process stand inside containers until they exec: nothing there may trace them or follow
    // their /proc links (CVE-2016-9962, CVE-2019-5736).
    process::set_dumpable(false)?;
    let daemon = take_standard_input()?;
    signal::block_all()?;
    rustix::process::umask(Mode::empty());
    Ok(daemon)
}

/// Moves the socket away from descriptor 0, which becomes the null device like 1 and 2.
fn take_standard_input() -> io::Result<Seqpacket> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    for standard in 0..2 {
        process::set_standard_fd(rustix::stdio::stderr(), standard)?;
    }
    let socket = Seqpacket::from(socket);
    process::close_all_but(&[socket.as_fd()]);
    Ok(socket)
}

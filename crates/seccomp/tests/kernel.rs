//! The default profile in this kernel: loaded into a thread, which then tries things. As root, so that only the filter refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corten_seccomp::{Machine, Program, compile};
use corten_spec::{HostFacts, caps, seccomp};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

fn program(add: &[&str]) -> Program {
    let host = HostFacts {
        machine: std::env::consts::ARCH.to_owned(),
        kernel: (6, 1),
        last_capability: 40,
        bounding: !0,
        ..HostFacts::default()
    };
    let add: Vec<String> = add.iter().map(|name| (*name).to_owned()).collect();
    let caps = caps::effective(&add, &[], false, &host).unwrap();
    compile(&seccomp::default_profile(caps, &host).unwrap(), Machine::host().unwrap()).unwrap()
}

/// Runs `test` on a thread under the default profile with these capabilities added.
fn under(add: &[&str], test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let program = program(add);
    std::thread::scope(|scope| {
        let filtered = scope.spawn(move || {
            assert!(corten_sys::process::load_seccomp(&program.filter, program.flags).unwrap().is_none());
            test();
        });
        filtered.join().unwrap();
    });
}

#[test]
fn ordinary_work_goes_on() {
    under(&[], || {
        // Needs clone3 to fail with ENOSYS, so that the C library falls back to clone.
        std::thread::spawn(|| std::fs::read("/proc/self/status").unwrap()).join().unwrap();
        assert!(std::process::Command::new("true").status().unwrap().success());
        socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    });
}

#[test]
fn dangerous_calls_fail() {
    under(&[], || {
        for family in [38, 40] {
            let family = AddressFamily::from_raw(family);
            assert_eq!(socket(family, SocketType::STREAM, None).unwrap_err(), Errno::PERM);
        }
        assert_eq!(rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()), Err(Errno::PERM));
        let flags = rustix::mount::FsOpenFlags::empty();
        assert_eq!(rustix::mount::fsopen("tmpfs", flags).unwrap_err(), Errno::PERM);
        assert_eq!(rustix::system::sethostname(b"x"), Err(Errno::PERM));
    });
    under(&["SYS_ADMIN"], || {
        assert_eq!(rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()), Err(Errno::NOENT));
    });
}

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::mknodat;

use super::*;

fn root() -> (tempfile::TempDir, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let fd = openat(rustix::fs::CWD, &root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    (directory, fd)
}

#[test]
fn links_stay_inside() {
    let (directory, root) = root();
    fs::write(directory.path().join("secret"), "x").unwrap();
    symlink("../secret", directory.path().join("root/up")).unwrap();
    symlink(directory.path().join("secret"), directory.path().join("root/absolute")).unwrap();
    assert!(find(&root, "up").is_err());
    assert!(find(&root, "/absolute").is_err());
    assert!(find(&root, "../../secret").is_err());
}

#[test]
fn directories_are_made_through_links_inside_the_root() {
    let (directory, root) = root();
    let inside = directory.path().join("root");
    symlink("/run", inside.join("var-run")).unwrap();
    make_directories(&root, "/var-run/a/b", 0o755).unwrap();
    assert!(inside.join("run/a/b").is_dir());
    symlink("../../../../out", inside.join("run/away")).unwrap();
    make_directories(&root, "/run/away/c", 0o755).unwrap();
    assert!(inside.join("out/c").is_dir());
    assert!(!directory.path().join("out").exists());
}

#[test]
fn loops_and_files_in_the_way_are_errors() {
    let (directory, root) = root();
    let inside = directory.path().join("root");
    symlink("loop", inside.join("loop")).unwrap();
    assert!(make_directories(&root, "loop/x", 0o755).is_err());
    fs::write(inside.join("file"), "").unwrap();
    assert!(make_directories(&root, "file/x", 0o755).is_err());
}

#[test]
fn files_are_made_with_their_directories() {
    let (directory, root) = root();
    make_file(&root, "/etc/deep/hosts", 0o644).unwrap();
    assert!(directory.path().join("root/etc/deep/hosts").is_file());
    symlink("/target", directory.path().join("root/link")).unwrap();
    make_file(&root, "/link", 0o644).unwrap();
    assert!(directory.path().join("root/target").is_file());
}

/// A device stands for a pipe here: whether it was opened is told.
#[test]
fn only_regular_files_are_opened() {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    let (directory, root) = root();
    let inside = directory.path().join("root");
    fs::write(inside.join("file"), "text").unwrap();
    mknodat(rustix::fs::CWD, inside.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("pipe", inside.join("link")).unwrap();
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &inside, WatchFlags::OPEN).unwrap();
    for name in ["pipe", "link", "/"] {
        assert!(open_regular(&root, name).unwrap().is_none(), "{name}");
    }
    assert_eq!(open_regular(&root, "none").unwrap_err().kind(), io::ErrorKind::NotFound);
    let file = open_regular(&root, "file").unwrap().unwrap();
    assert_eq!(io::read_to_string(fs::File::from(file)).unwrap(), "text");
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 1024];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let opened = std::iter::from_fn(|| events.next().ok().map(|event| event.file_name().map(|name| name.to_owned())));
    assert_eq!(opened.collect::<Vec<_>>(), [Some(c"file".to_owned())]);
}

#[test]
fn proc_files_need_a_real_proc_root() {
    let (directory, root) = root();
    fs::write(directory.path().join("uptime"), "0 0").unwrap();
    assert!(open_proc_file(root.as_fd(), "uptime", OFlags::RDONLY).is_err(), "another file system");
    let own = openat(rustix::fs::CWD, "/proc/self", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert!(open_proc_file(own.as_fd(), "comm", OFlags::RDONLY).is_err(), "not its root");
    let proc = openat(rustix::fs::CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert!(open_proc_file(proc.as_fd(), "sys/kernel/ostype", OFlags::RDONLY).is_ok());
    assert!(open_proc_file(proc.as_fd(), "self/comm", OFlags::RDONLY).is_err(), "self is a link");
    assert!(open_proc_file(proc.as_fd(), "../etc/passwd", OFlags::RDONLY).is_err());
}

/// Whoever can mount in a container can put something else over a file of procfs (CVE-2025-52881).
#[test]
fn proc_files_that_are_covered_are_refused() {
    use crate::mount::{self, FileSystem, Propagation};
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let cover = || {
        crate::namespace::unshare(crate::process::flags::MOUNT).unwrap();
        mount::set_root_propagation(Propagation::Private).unwrap();
        let proc = FileSystem::open("proc").unwrap().mount(0).unwrap();
        let place = openat(rustix::fs::CWD, "/tmp", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        mount::attach(proc.as_fd(), place.as_fd()).unwrap();
        let open = |name| open_proc_file(proc.as_fd(), name, OFlags::RDONLY);
        assert!(open("uptime").is_ok() && open("loadavg").is_ok());
        let other = mount::clone_of(find(&proc, "version").unwrap().as_fd(), false).unwrap();
        mount::attach(other.as_fd(), find(&proc, "uptime").unwrap().as_fd()).unwrap();
        assert_eq!(open("uptime").unwrap_err().raw_os_error(), Some(Errno::XDEV.raw_os_error()));
        assert!(open("loadavg").is_ok());
    };
    std::thread::scope(|scope| scope.spawn(cover).join()).unwrap();
}

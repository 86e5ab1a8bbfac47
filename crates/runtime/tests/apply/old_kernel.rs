//! The same on a kernel before 5.12, without mount_setattr(2): a seccomp filter answers for it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use corten_runtime::sources;
use corten_sys::mount::FileSystem;
use corten_sys::process::{self, Cloned};
use corten_testkit::kernel::{MOUNT_SETATTR, forget};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};

use super::{Case, fields, run, spec};

pub(super) const CASES: &[Case] = &[
    ("an_old_kernel_does_it_all_by_path", all_by_path),
    ("an_old_kernel_changes_no_tree", a_tree_is_refused),
    ("an_old_kernel_maps_no_owners", other_owners_are_refused),
];

static OLD: AtomicBool = AtomicBool::new(false);

/// Called by each container's process: on an old kernel if the case says so.
pub(super) fn arrive() {
    if OLD.load(Ordering::Relaxed) {
        forget(MOUNT_SETATTR);
    }
}

fn on_an_old_kernel<T>(work: impl FnOnce() -> T) -> T {
    OLD.store(true, Ordering::Relaxed);
    let result = work();
    OLD.store(false, Ordering::Relaxed);
    result
}

fn all_by_path(rootfs: &Path) {
    let needs_it = ["recursive_options", "idmapped_mounts"];
    for (name, case) in super::CASES.iter().chain(fields::CASES).filter(|(name, _)| !needs_it.contains(name)) {
        println!("  {name}");
        on_an_old_kernel(|| case(rootfs));
    }
    let options = |at: &str, source: &Path, options: Value| {
        let script = format!("grep -oE ' /{at} [a-z,]*' /proc/self/mountinfo");
        let plan = spec(&script, |value| {
            let mount = json!({"destination": format!("/{at}"), "source": source, "options": options});
            value["mounts"].as_array_mut().unwrap().push(mount);
        });
        on_an_old_kernel(|| run(rootfs, &plan)).unwrap()
    };
    let file = rootfs.join("etc/file");
    fs::write(&file, "").unwrap();
    let both = [("tmp", rootfs.join("etc")), ("etc/file", file.clone())];
    for (at, source) in both {
        let told = options(at, &source, json!(["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]));
        assert_eq!(told, format!(" /{at} ro,nosuid,nodev,noexec,noatime\n"));
        assert_eq!(
            options(at, &source, json!(["bind", "rro", "nosymfollow"])),
            format!(" /{at} ro,relatime,nosymfollow\n")
        );
        assert_eq!(
            options(at, &source, json!(["bind", "ro", "noatime", "rrw", "strictatime"])),
            format!(" /{at} rw\n")
        );
    }
    fs::remove_file(file).unwrap();
}

fn a_tree_is_refused(rootfs: &Path) {
    let source = tempfile::tempdir().unwrap();
    let below = source.path().join("below");
    fs::create_dir(&below).unwrap();
    let tmpfs = FileSystem::open("tmpfs").unwrap().mount(0).unwrap();
    corten_sys::mount::attach(tmpfs.as_fd(), File::open(&below).unwrap().as_fd()).unwrap();
    let options = |options: Value| {
        let plan = spec("grep -oE ' /r(/below)? [a-z,]*' /proc/self/mountinfo", |value| {
            let mount = json!({"destination": "/r", "source": source.path(), "options": options});
            value["mounts"].as_array_mut().unwrap().push(mount);
        });
        on_an_old_kernel(|| run(rootfs, &plan)).map_err(|failure| failure.message)
    };
    assert_eq!(options(json!(["rbind", "ro"])).as_deref(), Ok(" /r ro,relatime\n /r/below rw,relatime\n"));
    let expected = "error mounting \"/r\": cannot set its options: to change all mounts of a tree Linux 5.12 (mount_setattr) is needed";
    assert_eq!(options(json!(["rbind", "rro"])), Err(expected.to_owned()));
    assert_eq!(options(json!(["bind", "rro"])).as_deref(), Ok(" /r ro,relatime\n"));
    corten_sys::mount::detach(&std::ffi::CString::new(below.to_str().unwrap()).unwrap()).unwrap();
    fs::remove_dir(rootfs.join("r")).unwrap();
}

fn other_owners_are_refused(rootfs: &Path) {
    let plan = spec("true", |value| {
        let map = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
        let mount = json!({"destination": "/r", "source": rootfs.join("etc"), "options": ["bind"], "uidMappings": map, "gidMappings": map});
        value["mounts"].as_array_mut().unwrap().push(mount);
    });
    let (output, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let Cloned::Parent { pid, .. } = process::clone_process(0, None).unwrap() else {
        forget(MOUNT_SETATTR);
        let error = sources::open_sources(&plan).map(drop).unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        rustix::io::write(&writer, text.as_bytes()).unwrap();
        process::exit_now(0)
    };
    drop(writer);
    let text = std::io::read_to_string(File::from(output)).unwrap();
    process::reap(pid).unwrap();
    assert!(text.contains("cannot map the owners") && text.contains("Linux 5.12 (mount_setattr) is needed"), "{text}");
}

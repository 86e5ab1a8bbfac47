//! Images and containers that try to get out, or to get in the way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use corten_shim::client::Error;
use serde_json::json;

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[
    ("attacks::mount_points_behind_links_stay_inside", mount_points_behind_links_stay_inside),
    ("attacks::kernel_views_behind_links_are_refused", kernel_views_behind_links_are_refused),
    ("attacks::links_swapped_while_starting", links_swapped_while_starting),
    ("attacks::masks_do_not_use_the_images_null", masks_do_not_use_the_images_null),
    ("attacks::console_link_is_refused", console_link_is_refused),
    ("attacks::working_directory_outside", working_directory_outside),
    ("attacks::own_binary_is_read_only", own_binary_is_read_only),
];

fn outcome(world: &World, rootfs: &Path, spec: serde_json::Value) -> Result<(), Error> {
    let mut shim = Shim::new(world);
    let result = shim.start(rootfs, &plan(spec), no_log(), &[]).map(drop);
    if result.is_ok() {
        shim.exited();
    }
    shim.drop_connection();
    result
}

fn mount_points_behind_links_stay_inside(world: &World) {
    let rootfs = world.own_rootfs("links");
    let outside = world.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, rootfs.join("absolute")).unwrap();
    symlink("../../../../../../../../tmp", rootfs.join("up")).unwrap();
    let mut wanted = spec(&["sh", "-c", "grep -c ' /tmp/made ' /proc/self/mountinfo"]);
    let mounts = wanted["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/absolute/made", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/up/made", "type": "tmpfs", "source": "tmpfs"}));
    let (output, _) = run(world, &rootfs, wanted);
    assert_eq!(output, "1\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(rootfs.join(outside.strip_prefix("/").unwrap()).join("made").is_dir(), "made inside the root");
}

fn kernel_views_behind_links_are_refused(world: &World) {
    for name in ["proc", "sys", "dev"] {
        let rootfs = world.own_rootfs(&format!("view-{name}"));
        fs::remove_dir(rootfs.join(name)).unwrap();
        symlink("/tmp", rootfs.join(name)).unwrap();
        let error = outcome(world, &rootfs, spec(&["true"])).unwrap_err();
        assert!(error.to_string().contains("must be mounted on ordinary directory"), "{error}");
    }
}

fn links_swapped_while_starting(world: &World) {
    let rootfs = world.own_rootfs("race");
    let outside = world.directory.path().join("race-outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(rootfs.join("a/b")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, link) = (rootfs.join("a"), rootfs.join("evil"));
            symlink(&outside, &link).unwrap();
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, &real, rustix::fs::CWD, &link, exchange);
            }
        });
        for _ in 0..30 {
            let mut wanted = spec(&["true"]);
            wanted["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/a/b/c", "type": "tmpfs", "source": "tmpfs"}));
            wanted["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/a/b"));
            // Either outcome is fine, as long as nothing outside changes.
            let _ = outcome(world, &rootfs, wanted);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn masks_do_not_use_the_images_null(world: &World) {
    // A /dev of the image's own making, with a link for its null device.
    let rootfs = world.own_rootfs("null");
    symlink("/proc/sys/kernel/core_pattern", rootfs.join("dev/null")).unwrap();
    let mut wanted = spec(&["sh", "-c", "cat /proc/keys | head -c 9; stat -c %t:%T /proc/keys; echo end"]);
    wanted["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let error = outcome(world, &rootfs, wanted.clone()).unwrap_err();
    assert!(error.to_string().contains("is not the device"), "{error}");
    fs::remove_file(rootfs.join("dev/null")).unwrap();
    let (output, _) = run(world, &rootfs, wanted);
    assert_eq!(output, "1:3\nend\n");
}

fn console_link_is_refused(world: &World) {
    let rootfs = world.own_rootfs("console");
    symlink("/proc/sys/kernel/core_pattern", rootfs.join("dev/console")).unwrap();
    let mut wanted = spec(&["true"]);
    wanted["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    wanted["process"]["terminal"] = true.into();
    let mut shim = Shim::new(world);
    let streams = corten_shim::protocol::Streams { tty: true, ..no_log() };
    let error = shim.start(&rootfs, &plan(wanted), streams, &[]).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    shim.drop_connection();
}

fn working_directory_outside(world: &World) {
    for fd in 3..20 {
        let mut wanted = spec(&["cat", "etc/hostname"]);
        wanted["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        match outcome(world, &world.rootfs, wanted) {
            Err(_) => {}
            Ok(()) => panic!("descriptor {fd} gave a working directory"),
        }
    }
}

fn own_binary_is_read_only(world: &World) {
    // While it runs the kernel refuses writers; when it has ended the mount that it was opened through does.
    let script = "for p in /proc/[0-9]*; do (echo x >> $p/exe) 2>&1; done; exit 0";
    let (output, _) = run(world, &world.rootfs, spec(&["sh", "-c", script]));
    assert!(output.contains("Text file busy") || output.contains("Read-only"), "{output}");
    let (connection, mut child, ready) = Shim::warm(world);
    for pid in [ready.pid, ready.init_pid.unwrap()] {
        let exe = fs::File::open(format!("/proc/{pid}/exe")).unwrap();
        let flags = rustix::fs::fstatvfs(&exe).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{pid}: {flags:?}");
    }
    drop(connection);
    child.wait().unwrap();
}

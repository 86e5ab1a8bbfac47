//! Both ways against the kernel: what was changed in a mounted overlay, written as a layer and extracted again, shows the same
//! tree; and layers show what GNU tar makes of the same archives, one over the other. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Stack, Tar};
use corten_archive::{ApplyOptions, Entry, Kind, Timestamp, create, diff};
use rustix::fs::{Mode, OFlags, XattrFlags, lsetxattr};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An overlay that is attached to nothing: it goes with its descriptor.
fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> OwnedFd {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let set = |key: &str, path: &Path| fsconfig_set_string(context.as_fd(), key, path.to_str().unwrap()).unwrap();
    let joined = lower.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(":");
    set("lowerdir", Path::new(&joined));
    if let Some((upper, work)) = upper {
        set("upperdir", upper);
        set("workdir", work);
    }
    for option in ["index", "metacopy", "redirect_dir"] {
        fsconfig_set_string(context.as_fd(), option, "off").unwrap();
    }
    fsconfig_create(context.as_fd()).unwrap();
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

/// A directory of a detached mount, as a path.
fn path_of(mount: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", mount.as_raw_fd()).into()
}

/// The whole tree below a directory as an archive: equal trees give equal bytes.
fn tree(directory: &Path) -> Vec<u8> {
    let fd = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    create(fd.as_fd(), Vec::new()).unwrap()
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = corten_archive::Reader::new(archive, Default::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    names
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (tree(one), tree(other));
    assert!(one == other, "{:?}\n{:?}", names(&one), names(&other));
}

fn base() -> Stack {
    let mut stack = Stack::new();
    let mtime = Timestamp { seconds: 1_500_000_000, nanoseconds: 123_456_789 };
    let owned = |entry: Entry| Entry { uid: 33, gid: 44, mtime, ..entry };
    let tar = Tar::new()
        .add(owned(Entry::new(Kind::Directory, "dir", 0o2750)), b"")
        .add(owned(Entry::new(Kind::File, "dir/file", 0o4755)), b"data")
        .add(owned(Entry::new(Kind::File, "dir/other", 0o644)), b"other")
        .add(owned(Entry::new(Kind::Directory, "tree/deep/er", 0o700)), b"")
        .file("tree/deep/er/leaf", "leaf")
        .file("gone", "x")
        .file("becomes-dir", "x")
        .directory("becomes-file")
        .file("becomes-file/inside", "x")
        .symlink("link", "dir")
        .link("hard", "dir/file")
        .end();
    stack.apply(&tar).unwrap();
    stack
}

/// Changes the base in a mounted overlay, takes the difference, extracts it on the same base: the same tree.
fn check(change: impl Fn(&Path)) -> Vec<String> {
    let mut stack = base();
    let lower = stack.layer(0);
    let place = tempfile::tempdir().unwrap();
    let (upper, work) = (place.path().join("upper"), place.path().join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let mount = overlay(std::slice::from_ref(&lower), Some((&upper, &work)));
    change(&path_of(&mount));
    let lower_fd: OwnedFd = fs::File::open(&lower).unwrap().into();
    let layer = diff(fs::File::open(&upper).unwrap().as_fd(), &[lower_fd], Vec::new()).unwrap();
    stack.apply(&layer).unwrap();
    let again = overlay(&[stack.top(), lower], None);
    assert_same(&path_of(&mount), &path_of(&again));
    names(&layer)
}

#[test]
fn deletions() {
    let layer = check(|root| fs::remove_file(root.join("gone")).unwrap());
    assert_eq!(layer, [".wh.gone"]);
    check(|root| fs::remove_dir_all(root.join("tree")).unwrap());
    let layer = check(|root| fs::remove_file(root.join("tree/deep/er/leaf")).unwrap());
    assert_eq!(layer, ["tree/", "tree/deep/", "tree/deep/er/", "tree/deep/er/.wh.leaf"]);
}

#[test]
fn directories_made_anew_are_opaque() {
    let layer = check(|root| {
        fs::remove_dir_all(root.join("tree")).unwrap();
        fs::create_dir_all(root.join("tree/deep")).unwrap();
        fs::write(root.join("tree/deep/new"), "new").unwrap();
    });
    assert!(layer.contains(&"tree/.wh..wh..opq".to_owned()), "{layer:?}");
}

#[test]
fn one_kind_becomes_another() {
    check(|root| {
        fs::remove_file(root.join("becomes-dir")).unwrap();
        fs::create_dir(root.join("becomes-dir")).unwrap();
        fs::write(root.join("becomes-dir/inside"), "y").unwrap();
        fs::remove_dir_all(root.join("becomes-file")).unwrap();
        fs::write(root.join("becomes-file"), "y").unwrap();
        fs::remove_file(root.join("link")).unwrap();
        fs::create_dir(root.join("link")).unwrap();
    });
}

#[test]
fn changes_of_attributes_alone() {
    check(|root| {
        fs::set_permissions(root.join("dir/file"), fs::Permissions::from_mode(0o600)).unwrap();
        chown(root.join("dir"), Some(5), Some(6)).unwrap();
        lsetxattr(root.join("tree"), "user.note", b"hi", XattrFlags::empty()).unwrap();
        // What setfacl writes for `u:7:r`: version 2 and five entries.
        let mut acl = vec![2, 0, 0, 0];
        for (tag, bits, id) in
            [(1u16, 6u16, u32::MAX), (2, 4, 7), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)]
        {
            acl.extend(tag.to_le_bytes());
            acl.extend(bits.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        match lsetxattr(root.join("dir/other"), "system.posix_acl_access", &acl, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(errno) => panic!("{errno}"),
        }
    });
}

#[test]
fn links_and_odd_files() {
    check(|root| {
        fs::hard_link(root.join("dir/file"), root.join("dir/again")).unwrap();
        fs::write(root.join("new"), "n").unwrap();
        fs::hard_link(root.join("new"), root.join("newer")).unwrap();
        symlink("nowhere/at all", root.join("dangling")).unwrap();
        fs::rename(root.join("dir/other"), root.join("moved")).unwrap();
        let sparse = fs::File::create(root.join("sparse")).unwrap();
        sparse.set_len(8 << 20).unwrap();
        let raw: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
        fs::write(root.join(raw), "raw").unwrap();
        fs::write(root.join("n".repeat(255)), "long").unwrap();
    });
}

/// Layers without deletions, by GNU tar into one directory and by `apply` into an overlay: the same tree.
#[test]
fn layers_look_as_gnu_tar_extracts_them() {
    let mtime = Timestamp { seconds: 1_600_000_000, nanoseconds: 987_654_321 };
    let owned = |entry: Entry| Entry { uid: 1000, gid: 70_000, mtime, ..entry };
    let long = format!("{0}/{0}/{0}", "l".repeat(120));
    let layers = [
        Tar::new()
            .add(owned(Entry::new(Kind::Directory, "d", 0o1777)), b"")
            .add(owned(Entry::new(Kind::File, "d/suid", 0o6755)), b"#!")
            .add(owned(Entry { link: "suid".into(), ..Entry::new(Kind::Symlink, "d/s", 0o777) }), b"")
            .add(owned(Entry { device: (7, 300), ..Entry::new(Kind::BlockDevice, "d/loop", 0o660) }), b"")
            .add(owned(Entry::new(Kind::Fifo, "d/pipe", 0o622)), b"")
            .link("d/hard", "d/suid")
            .file(&long, "long")
            .end(),
        Tar::new()
            .add(owned(Entry::new(Kind::Directory, "d", 0o700)), b"")
            .add(owned(Entry::new(Kind::File, "d/suid", 0o644)), b"replaced")
            .add(owned(Entry::new(Kind::File, b"d/caf\xe9".to_vec(), 0o600)), b"raw")
            .end(),
    ];
    let flat = tempfile::tempdir().unwrap();
    fs::set_permissions(flat.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut stack = Stack::new();
    for layer in &layers {
        stack.apply_with(layer, &ApplyOptions::default()).unwrap();
        let arguments = ["-x", "-p", "--numeric-owner", "--xattrs", "-C", flat.path().to_str().unwrap()];
        let Ok(mut child) = Command::new("tar").args(arguments).stdin(Stdio::piped()).spawn() else {
            eprintln!("skipped: there is no tar program");
            return;
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), layer).unwrap();
        assert!(child.wait().unwrap().success());
    }
    // The parents of the long name have no entry and so the time of their making; they are not compared.
    fs::remove_dir_all(flat.path().join("l".repeat(120))).unwrap();
    fs::remove_dir_all(stack.layer(0).join("l".repeat(120))).unwrap();
    // A replaced name leaves the other names of the file as they were, in both.
    let merged = overlay(&[stack.layer(1), stack.layer(0)], None);
    assert_same(flat.path(), &path_of(&merged));
}

//! What an extracted layer looks like. Run as root: owners, devices and the overlay's marks need it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Stack, Tar};
use corten_archive::{ApplyOptions, Entry, Kind, Limits, Timestamp, inherit};
use corten_base::{DiffId, Digest};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

fn is_whiteout(path: &Path) -> bool {
    let status = fs::symlink_metadata(path).unwrap();
    status.file_type().is_char_device() && status.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    lgetxattr(path, "trusted.overlay.opaque", &mut value[..]) == Ok(1) && value[0] == b'y'
}

fn content(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn kinds_owners_modes_times() {
    let mut stack = Stack::new();
    let mtime = Timestamp { seconds: 1_600_000_000, nanoseconds: 123_456_789 };
    let owned = |entry: Entry| Entry { uid: 1000, gid: 70_000, mtime, ..entry };
    let tar = Tar::new()
        .add(owned(Entry::new(Kind::Directory, "d", 0o2750)), b"")
        .add(owned(Entry::new(Kind::File, "d/suid", 0o4711)), b"#!")
        .add(owned(Entry::new(Kind::Fifo, "d/pipe", 0o622)), b"")
        .add(owned(Entry { device: (1, 3), ..Entry::new(Kind::CharDevice, "d/null", 0o666) }), b"")
        .add(owned(Entry { device: (7, 300), ..Entry::new(Kind::BlockDevice, "d/loop", 0o660) }), b"")
        .add(owned(Entry { link: "suid".into(), ..Entry::new(Kind::Symlink, "d/link", 0o777) }), b"")
        .add(Entry::new(Kind::File, "d/root", 0o644), b"")
        .link("hard", "d/suid")
        .end();
    let applied = stack.apply(&tar).unwrap();
    assert_eq!(applied.size, 2);
    assert_eq!(applied.entries, 8);
    assert_eq!(applied.bytes, tar.len() as u64);
    assert_eq!(applied.diff_id, Some(DiffId(Digest::sha256(&tar))));
    let top = stack.top();
    for (name, bits) in [("d", 0o2750), ("d/suid", 0o4711), ("d/pipe", 0o622), ("d/null", 0o666), ("d/loop", 0o660)] {
        let status = fs::symlink_metadata(top.join(name)).unwrap();
        assert_eq!(status.mode() & 0o7777, bits, "{name}");
        assert_eq!((status.uid(), status.gid()), (1000, 70_000), "{name}");
        assert_eq!((status.mtime(), status.mtime_nsec()), (1_600_000_000, 123_456_789), "{name}");
    }
    let link = fs::symlink_metadata(top.join("d/link")).unwrap();
    assert_eq!((link.uid(), link.mtime_nsec()), (1000, 123_456_789));
    assert_eq!(fs::metadata(top.join("d/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(fs::metadata(top.join("d/loop")).unwrap().rdev(), rustix::fs::makedev(7, 300));
    assert_eq!(fs::metadata(top.join("hard")).unwrap().nlink(), 2);
    // The set-gid directory hands its group on unless it is set back.
    assert_eq!(fs::metadata(top.join("d/root")).unwrap().gid(), 0);
}

#[test]
fn capabilities_survive_owner_and_mode() {
    let mut stack = Stack::new();
    let value = [1u8, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let xattrs = vec![
        (b"security.capability".to_vec(), value.clone()),
        (b"user.note".to_vec(), b"hi".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
    ];
    let entry = Entry { uid: 5, xattrs: xattrs.clone(), ..Entry::new(Kind::File, "ping", 0o755) };
    let directory = Entry { xattrs, ..Entry::new(Kind::Directory, "d", 0o755) };
    stack.apply(&Tar::new().add(entry, b"x").add(directory, b"").end()).unwrap();
    let file = stack.top().join("ping");
    let mut buffer = [0; 64];
    assert_eq!(lgetxattr(&file, "security.capability", &mut buffer[..]), Ok(value.len()));
    assert_eq!(buffer[..value.len()], value);
    assert!(!is_opaque(&stack.top().join("d")));
    assert!(lgetxattr(stack.top().join("d"), "trusted.overlay.redirect", &mut buffer[..]).is_err());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut stack = Stack::new();
    let tar = Tar::new()
        .file("a", "one")
        .file("a", "two")
        .file("tree/x/y", "deep")
        .file("tree", "now a file")
        .file("f", "now a directory")
        .file("f2", "x")
        .symlink("f2", "a")
        .directory("f")
        .file("f/inside", "yes")
        .symlink("s", "f")
        .directory("s")
        .file("s/own", "not in f")
        .add(Entry::new(Kind::Directory, "f", 0o700), b"")
        .end();
    let applied = stack.apply(&tar).unwrap();
    let top = stack.top();
    assert_eq!(content(top.join("a")), "two");
    assert_eq!(content(top.join("tree")), "now a file");
    assert_eq!(content(top.join("f/inside")), "yes");
    assert_eq!(mode(top.join("f")), 0o700);
    assert!(!top.join("f/own").exists());
    assert_eq!(content(top.join("s/own")), "not in f");
    assert!(applied.implied.is_empty());
}

#[test]
fn links_among_parents_are_followed_within_the_layer() {
    let mut stack = Stack::new();
    let tar = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("up", "../../../usr/lib")
        .symlink("dangling", "made/here")
        .file("lib/one", "1")
        .file("abs/two", "2")
        .file("up/three", "3")
        .file("dangling/four", "4")
        .symlink("usr/back", "../lib/sub/../..")
        .directory("usr/lib/sub")
        .file("usr/back/five", "5")
        .end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    for (name, data) in
        [("usr/lib/one", "1"), ("usr/lib/two", "2"), ("usr/lib/three", "3"), ("made/here/four", "4"), ("usr/five", "5")]
    {
        assert_eq!(content(top.join(name)), data, "{name}");
    }
}

#[test]
fn whiteouts() {
    let mut stack = Stack::new();
    stack.apply(&Tar::new().file("gone", "x").file("dir/old", "x").file("both/old", "x").end()).unwrap();
    let tar = Tar::new()
        .file(".wh.gone", "")
        .file("dir/.wh..wh..opq", "")
        .file("dir/new", "n")
        .file("both/new", "n")
        .file(".wh.both", "")
        .file(".wh.again", "")
        .file("again/x", "n")
        .file(".wh.later", "")
        .directory("later")
        .file("stays", "s")
        .file(".wh.stays", "")
        .file(".wh..wh.plnk/123", "aufs")
        .file(".wh..wh.aufs", "")
        .end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    assert!(is_whiteout(&top.join("gone")));
    assert!(is_opaque(&top.join("dir")));
    assert_eq!(content(top.join("dir/new")), "n");
    assert!(is_opaque(&top.join("both")) && top.join("both/new").exists());
    assert!(is_opaque(&top.join("again")) && top.join("again/x").exists());
    assert!(is_opaque(&top.join("later")));
    assert_eq!(content(top.join("stays")), "s");
    let mut names: Vec<_> = fs::read_dir(&top).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again", "both", "dir", "gone", "later", "stays"]);
}

#[test]
fn an_opaque_root_hides_all_below() {
    let mut stack = Stack::new();
    stack.apply(&Tar::new().file("old", "x").file("dir/old", "x").end()).unwrap();
    stack.apply(&Tar::new().file("dir/new", "x").file(".wh..wh..opq", "").end()).unwrap();
    assert!(is_whiteout(&stack.top().join("old")));
    assert!(is_opaque(&stack.top().join("dir")));
}

/// A base layer with a directory that has an owner, a mode, an attribute and a time of its own.
fn stack_with_base() -> Stack {
    let mut stack = Stack::new();
    let mtime = Timestamp { seconds: 1_500_000_000, nanoseconds: 5 };
    let directory = Entry {
        uid: 33,
        gid: 44,
        mtime,
        xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
        ..Entry::new(Kind::Directory, "srv", 0o1770)
    };
    let file = Entry { uid: 7, mtime, ..Entry::new(Kind::File, "srv/file", 0o4750) };
    stack.apply(&Tar::new().add(directory, b"").add(file, b"data").symlink("lib", "srv").end()).unwrap();
    stack.apply(&Tar::new().file("unrelated", "").end()).unwrap();
    stack
}

fn assert_like_base(directory: &Path) {
    let status = fs::metadata(directory).unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (33, 44, 0o1770));
    assert_eq!((status.mtime(), status.mtime_nsec()), (1_500_000_000, 5));
    let mut value = [0; 4];
    assert_eq!(lgetxattr(directory, "user.a", &mut value[..]), Ok(1));
}

#[test]
fn implied_directories_look_like_the_ones_below() {
    let mut stack = stack_with_base();
    let applied = stack.apply(&Tar::new().file("srv/new", "x").file("other/new", "x").end()).unwrap();
    assert_like_base(&stack.top().join("srv"));
    assert_eq!(mode(stack.top().join("other")), 0o755);
    assert_eq!(applied.implied, [b"other".to_vec(), b"srv".to_vec()]);
}

#[test]
fn implied_directories_can_be_settled_later() {
    let base = stack_with_base();
    let mut alone = Stack::new();
    let applied = alone.apply(&Tar::new().file("srv/new", "x").end()).unwrap();
    assert_eq!(mode(alone.top().join("srv")), 0o755);
    let lower: Vec<OwnedFd> = [1, 0].map(|n| fs::File::open(base.layer(n)).unwrap().into()).into();
    inherit(fs::File::open(alone.top()).unwrap().as_fd(), &lower, &applied.implied).unwrap();
    assert_like_base(&alone.top().join("srv"));
}

#[test]
fn a_lower_link_is_covered_by_a_directory() {
    let mut stack = stack_with_base();
    stack.apply(&Tar::new().file("lib/new", "x").end()).unwrap();
    assert!(fs::symlink_metadata(stack.top().join("lib")).unwrap().is_dir());
    assert!(!stack.top().join("srv").exists());
}

#[test]
fn hard_links_into_lower_layers_bring_the_file_up() {
    let mut stack = stack_with_base();
    let applied = stack.apply(&Tar::new().link("copy", "srv/file").link("again", "srv/file").end()).unwrap();
    let status = fs::metadata(stack.top().join("copy")).unwrap();
    assert_eq!((status.nlink(), status.uid(), status.mode() & 0o7777), (3, 7, 0o4750));
    assert_eq!(status.mtime(), 1_500_000_000);
    assert_eq!(content(stack.top().join("srv/file")), "data");
    assert_eq!(applied.size, 4);
    assert_like_base(&stack.top().join("srv"));
    // What a nearer layer deleted is not there any more.
    stack.apply(&Tar::new().file(".wh.srv", "").end()).unwrap();
    let error = stack.apply(&Tar::new().link("copy2", "srv/file").end()).unwrap_err();
    assert_eq!(error.to_string(), "link /copy2");
}

#[test]
fn without_its_lower_layers_a_layer_may_be_incomplete() {
    let pending = ApplyOptions { lower_pending: true, ..ApplyOptions::default() };
    let check = |tar: Tar, expect: bool| {
        assert_eq!(Stack::new().apply_with(&tar.end(), &pending).unwrap().needs_lower, expect);
    };
    check(Tar::new().file("a/b", "").link("c", "a/b").file(".wh.x", "").file("a/.wh..wh..opq", ""), false);
    check(Tar::new().link("c", "a/b").file("d", ""), true);
    check(Tar::new().file(".wh..wh..opq", ""), true);
    let error = Stack::new().apply(&Tar::new().link("c", "a/b").end()).unwrap_err();
    assert_eq!(error.to_string(), "link /c");
}

#[test]
fn the_root_entry_changes_nothing() {
    let mut stack = Stack::new();
    let root = Entry { uid: 9, ..Entry::new(Kind::Directory, "./", 0o700) };
    stack.apply(&Tar::new().add(root, b"").file("./a", "x").end()).unwrap();
    let status = fs::metadata(stack.top()).unwrap();
    assert_eq!((status.uid(), status.mode() & 0o777), (0, 0o755));
}

#[test]
fn odd_names() {
    use std::os::unix::ffi::OsStrExt;
    let mut stack = Stack::new();
    let long = "n".repeat(255);
    let path = format!("{long}/{long}/{long}");
    let tar = Tar::new()
        .file(&path, "long")
        .add(Entry::new(Kind::File, b"caf\xe9/\xff\xfe".to_vec(), 0o644), b"raw")
        .file("case", "1")
        .file("CASE", "2")
        .file("/absolute", "below")
        .file("new\nline", "3")
        .end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    assert_eq!(content(top.join(path)), "long");
    assert_eq!(content(top.join(std::ffi::OsStr::from_bytes(b"caf\xe9/\xff\xfe"))), "raw");
    assert_eq!(content(top.join("case")) + &content(top.join("CASE")), "12");
    assert_eq!(content(top.join("absolute")), "below");
}

#[test]
fn a_diff_is_what_was_applied() {
    let mut stack = stack_with_base();
    let tar = Tar::new()
        .file(".wh.unrelated", "")
        .directory("d/")
        .file("d/.wh..wh..opq", "")
        .file("d/file", "1")
        .link("d/link", "d/file")
        .file(".wh.never-was", "")
        .end();
    stack.apply(&tar).unwrap();
    let lower: Vec<OwnedFd> = [1, 0].map(|n| fs::File::open(stack.layer(n)).unwrap().into()).into();
    let upper = fs::File::open(stack.top()).unwrap();
    let written = corten_archive::diff(upper.as_fd(), &lower, Vec::new()).unwrap();
    let again = corten_archive::diff(upper.as_fd(), &lower, Vec::new()).unwrap();
    assert!(written == again, "equal trees give equal archives");
    let mut reader = corten_archive::Reader::new(&written[..], Default::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(names, ["d/", "d/.wh..wh..opq", "d/file", "d/link", ".wh.unrelated"]);
}

#[test]
fn a_tree_survives_create_and_apply() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/file"), vec![3; 100_000]).unwrap();
    fs::set_permissions(root.join("d/file"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::hard_link(root.join("d/file"), root.join("z")).unwrap();
    symlink("../d", root.join("d/self")).unwrap();
    chown(root.join("d"), Some(12), Some(13)).unwrap();
    lsetxattr(root.join("d"), "user.k", b"v", XattrFlags::empty()).unwrap();
    let tar = corten_archive::create(fs::File::open(root).unwrap().as_fd(), Vec::new()).unwrap();
    let mut stack = Stack::new();
    stack.apply(&tar).unwrap();
    let copy = corten_archive::create(fs::File::open(stack.top()).unwrap().as_fd(), Vec::new()).unwrap();
    assert!(tar == copy);
    assert_eq!(fs::metadata(stack.top().join("z")).unwrap().nlink(), 2);
}

/// A POSIX ACL as the kernel keeps it: version 2, then tag, permissions and id of each entry.
fn acl_of(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entry = |&(tag, rights, id): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
}

fn acl(user: u32) -> Vec<u8> {
    acl_of(&[(0x01, 6, u32::MAX), (0x02, 5, user), (0x04, 4, u32::MAX), (0x10, 5, u32::MAX), (0x20, 0, u32::MAX)])
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn access_lists_and_user_attributes() {
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let xattr = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let file = Entry {
        xattrs: vec![xattr(access, &acl(1000)), xattr("user.\u{e9}", b"\0\xff\n=")],
        ..Entry::new(Kind::File, "d/file", 0o650)
    };
    let directory = Entry {
        xattrs: vec![xattr(access, &acl(1001)), xattr(default, &acl(1002)), xattr("user.empty", b"")],
        ..Entry::new(Kind::Directory, "d", 0o650)
    };
    let plain = Entry::new(Kind::File, "d/plain", 0o650);
    let pipe = Entry { xattrs: vec![xattr(access, &acl(1003))], ..Entry::new(Kind::Fifo, "pipe", 0o640) };
    // Its mode isn't the one that its list makes of it, and is what counts in the end.
    let odd = Entry { xattrs: vec![xattr(access, &acl(1004))], ..Entry::new(Kind::File, "odd", 0o4777) };
    // It says what the mode says.
    let minimal = acl_of(&[(0x01, 6, u32::MAX), (0x04, 4, u32::MAX), (0x20, 0, u32::MAX)]);
    let minimal = Entry { xattrs: vec![xattr(access, &minimal)], ..Entry::new(Kind::File, "minimal", 0o640) };
    let mut stack = Stack::new();
    let tar = Tar::new().add(directory, b"").add(file, b"x").add(plain, b"y").directory("d/below");
    let tar = tar.add(pipe, b"").add(odd, b"").add(minimal, b"").end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    assert_eq!(attribute(&top.join("d/file"), access), Some(acl(1000)));
    assert_eq!(attribute(&top.join("d/file"), "user.\u{e9}").unwrap(), b"\0\xff\n=");
    assert_eq!(attribute(&top.join("d"), access), Some(acl(1001)));
    assert_eq!(attribute(&top.join("d"), default), Some(acl(1002)));
    assert_eq!(attribute(&top.join("d"), "user.empty"), Some(Vec::new()));
    // What the directory hands on to new files is not what the archive says of these.
    assert_eq!([attribute(&top.join("d/plain"), access), attribute(&top.join("d/below"), access)], [None, None]);
    assert_eq!(attribute(&top.join("d/below"), default), None);
    assert_eq!((mode(top.join("d/plain")), mode(top.join("d/below"))), (0o650, 0o755));
    assert_eq!(corten_archive::verify(&tar[..], fs::File::open(&top).unwrap().as_fd(), Limits::default()).unwrap(), []);
    let check = |path: &str, name: &str, other: Option<&[u8]>, what: Option<&str>| {
        let (path, own) = (top.join(path), attribute(&top.join(path), name));
        let set = |value: Option<&[u8]>| match value {
            Some(value) => lsetxattr(&path, name, value, XattrFlags::empty()).unwrap(),
            None => rustix::fs::removexattr(&path, name).unwrap(),
        };
        set(other);
        let found = corten_archive::verify(&tar[..], fs::File::open(&top).unwrap().as_fd(), Limits::default()).unwrap();
        assert_eq!(found.first().map(|found| found.what), what, "{path:?} {name}: {found:?}");
        set(own.as_deref());
    };
    let differs = Some("its access list differs");
    check("d/file", access, Some(&acl(7)), differs);
    check("d/file", access, None, differs);
    check("d", access, Some(&acl(7)), differs);
    check("d", default, Some(&acl(7)), differs);
    check("d", default, None, differs);
    check("d/plain", access, Some(&acl(7)), differs);
    check("d", "user.empty", Some(b"full"), Some("its attributes differ"));
    check("pipe", access, Some(&acl(7)), differs);
    // And back.
    let again = corten_archive::create(fs::File::open(&top).unwrap().as_fd(), Vec::new()).unwrap();
    stack.apply(&again).unwrap();
    assert_eq!(attribute(&stack.top().join("d/file"), access), Some(acl(1000)));
    assert_eq!(attribute(&stack.top().join("d"), default), Some(acl(1002)));
}

#[test]
fn a_device_that_is_a_whiteout_hides_what_is_below() {
    let mut stack = Stack::new();
    stack.apply(&Tar::new().file("hidden", "below").file("d/also", "below").file("kept", "below").end()).unwrap();
    let whiteout = |name: &str| Entry { device: (0, 0), ..Entry::new(Kind::CharDevice, name, 0o000) };
    // As Docker applies it; what comes later in the same layer stands in its place.
    let tar = Tar::new().add(whiteout("hidden"), b"").add(whiteout("d"), b"").file("d/new", "above").end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    assert!(fs::symlink_metadata(top.join("hidden")).unwrap().file_type().is_char_device());
    assert_eq!(fs::symlink_metadata(top.join("hidden")).unwrap().rdev(), 0);
    assert_eq!(content(top.join("d/new")), "above");
    assert!(is_opaque(&top.join("d")), "what was below it stays hidden");
    // A hard link can't bring it back.
    assert!(stack.apply(&Tar::new().link("again", "hidden").end()).is_err());
}

#[test]
fn verification_finds_what_was_changed() {
    let mut stack = stack_with_base();
    let device = Entry { device: (1, 3), ..Entry::new(Kind::CharDevice, "null", 0o666) };
    // cap_net_bind_service, in the second version of its form.
    let capability = [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat();
    let xattrs = vec![(b"security.capability".to_vec(), capability.clone()), (b"user.note".to_vec(), b"one".to_vec())];
    let capable = Entry { xattrs, ..Entry::new(Kind::File, "capable", 0o755) };
    let tar = Tar::new()
        .add(capable, b"")
        .file("tree/x/y", "deep")
        .file("tree", "now a file")
        .file("f", "one")
        .file("f", "two")
        .directory("d")
        .symlink("lib", "d")
        .file("lib/through", "3")
        .link("d/hard", "f")
        .link("up", "srv/file")
        .add(device, b"")
        .file(".wh.unrelated", "")
        .file("d/.wh..wh..opq", "")
        .file("implied/by/this", "4")
        .end();
    stack.apply(&tar).unwrap();
    let top = stack.top();
    let verify = || {
        let root = fs::File::open(&top).unwrap();
        corten_archive::verify(&tar[..], root.as_fd(), Limits::default()).unwrap()
    };
    assert_eq!(verify(), []);
    let check = |path: &str, what: &str, spoil: &dyn Fn(&Path), mend: &dyn Fn(&Path)| {
        spoil(&top.join(path));
        let found = verify();
        let texts: Vec<_> = found.iter().map(|found| (str::from_utf8(&found.path).unwrap(), found.what)).collect();
        assert!(texts.contains(&(path, what)), "{path}: {texts:?}");
        mend(&top.join(path));
        assert_eq!(verify(), [], "{path}");
    };
    let write = |text: &'static str| move |path: &Path| fs::write(path, text).unwrap();
    check("d/through", "its content differs", &write("4"), &write("3"));
    check("d/through", "its size differs", &write("33"), &write("3"));
    let chmod = |mode| move |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    check("implied/by/this", "its mode differs", &chmod(0o600), &chmod(0o644));
    check("f", "its owner differs", &|path| chown(path, Some(1), None).unwrap(), &|path| {
        chown(path, Some(0), None).unwrap();
    });
    let xattr = |name: &'static str, value: &'static [u8]| {
        move |path: &Path| rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap()
    };
    let strip = |path: &Path| rustix::fs::removexattr(path, "security.capability").unwrap();
    let give =
        |path: &Path| rustix::fs::setxattr(path, "security.capability", &capability, XattrFlags::empty()).unwrap();
    check("capable", "its capabilities differ", &strip, &give);
    check("f", "its capabilities differ", &give, &strip);
    check("capable", "its attributes differ", &xattr("user.note", b"two"), &xattr("user.note", b"one"));
    check("capable", "its attributes differ", &xattr("user.note", b"longer than it was"), &xattr("user.note", b"one"));
    check("stranger", "it is not in the archive", &write(""), &|path| fs::remove_file(path).unwrap());
    let again = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty(), 0)
            .unwrap()
    };
    check("unrelated", "its whiteout is missing", &|path| fs::remove_file(path).unwrap(), &again);
    check("tree", "it is missing", &|path| fs::remove_file(path).unwrap(), &write("now a file"));
    check(
        "lib",
        "its target differs",
        &|path| {
            fs::remove_file(path).unwrap();
            symlink("./d", path).unwrap();
        },
        &|path| {
            fs::remove_file(path).unwrap();
            symlink("d", path).unwrap();
        },
    );
}

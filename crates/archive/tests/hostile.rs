//! Archives that mean harm: each ends in a clear error or does no harm, and nothing beside the layer changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Stack, Tar};
use corten_archive::{ApplyOptions, Entry, Error, Kind, Limits, Reader, decompress};
use corten_base::ErrorKind;
use proptest::prelude::*;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Applies on top of a small base; answers the error.
fn refused(tar: &[u8]) -> Error {
    let mut stack = Stack::new();
    stack.apply(&Tar::new().file("etc/passwd", "root").end()).unwrap();
    let error = stack.apply(tar).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    error
}

/// Applies; answers the stack, of which nothing outside was touched.
fn harmless(tar: &[u8]) -> Stack {
    let mut stack = Stack::new();
    stack.apply(tar).unwrap();
    stack
}

#[test]
fn traversal() {
    for name in ["../outside", "a/../../outside", "/../outside", "..", "./.."] {
        let error = refused(&Tar::new().file(name, "pwned").end());
        assert_eq!(error.to_string(), format!("invalid path in archive: \"{name}\" is outside of its root"));
    }
}

#[test]
fn symlinks_lead_nowhere_else() {
    let stack = harmless(
        &Tar::new()
            .symlink("up", "../..")
            .file("up/outside", "inside")
            .symlink("abs", "/")
            .file("abs/abs-file", "inside")
            .symlink("chain", "up/up/up")
            .file("chain/chained", "inside")
            .symlink("magic", "/proc/self/root")
            .file("magic/through-proc", "inside")
            .end(),
    );
    let top = stack.top();
    for name in ["outside", "abs-file", "chained", "proc/self/root/through-proc"] {
        assert!(fs::symlink_metadata(top.join(name)).unwrap().is_file(), "{name}");
    }
}

#[test]
fn a_file_over_a_symlink_replaces_it() {
    let mut stack = Stack::new();
    let target = stack.layer(0).with_file_name("outside").to_str().unwrap().to_owned();
    let tar = Tar::new().symlink("x", &target).file("x", "inside").symlink("y", "../outside").file("y", "inside").end();
    stack.apply(&tar).unwrap();
    assert!(fs::symlink_metadata(stack.top().join("x")).unwrap().is_file());
    assert!(fs::symlink_metadata(stack.top().join("y")).unwrap().is_file());
}

#[test]
fn hard_links_stay_inside() {
    let error = refused(&Tar::new().link("x", "../outside").end());
    assert!(error.to_string().contains("is outside of its root"), "{error}");
    assert_eq!(refused(&Tar::new().link("x", "/etc/shadow").end()).to_string(), "link /x");
    // Through a link it is the layer's own tree that is searched, and a link is linked to, not followed.
    assert_eq!(refused(&Tar::new().symlink("up", "../..").link("x", "up/outside").end()).to_string(), "link /x");
    let tar = Tar::new().symlink("s", "../outside").link("x", "s").file("x", "own").end();
    assert!(fs::symlink_metadata(harmless(&tar).top().join("x")).unwrap().is_file());
    for target in ["d", "/d/", ".", "/", ""] {
        refused(&Tar::new().directory("d").link("x", target).end());
        refused(&Tar::new().directory("d").link("d/x", target).end());
    }
    for target in ["x", "/x", "./d/../x"] {
        assert_eq!(refused(&Tar::new().link("x", target).end()).to_string(), "link /x", "{target}");
        assert_eq!(refused(&Tar::new().link("x", target).file("x", "later").end()).to_string(), "link /x", "{target}");
    }
    assert_eq!(refused(&Tar::new().link("x", "y").file("y", "later").end()).to_string(), "link /x");
    assert_eq!(refused(&Tar::new().link("x", "y").link("y", "x").end()).to_string(), "link /x");
    // Of a file that a later one of the same name replaces the link keeps what it was.
    let stack = harmless(&Tar::new().file("x", "one").link("y", "x").file("x", "two").end());
    assert_eq!(["x", "y"].map(|name| fs::read_to_string(stack.top().join(name)).unwrap()), ["two", "one"]);
    harmless(&Tar::new().file("x", "1").link("./x", "/x").end());
    refused(&Tar::new().file("d/x", "1").link("d", "d/x").end());
    refused(&Tar::new().file(".wh.etc", "").link("x", "etc").end());
}

#[test]
fn parents_that_are_no_directories() {
    refused(&Tar::new().file("f", "").file("f/x", "").end());
    refused(&Tar::new().symlink("loop", "loop").file("loop/x", "").end());
    refused(&Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "").end());
    refused(&Tar::new().symlink("f", "etc").file("etc", "").file("f/x", "").end());
    refused(
        &Tar::new()
            .add(Entry { device: (1, 3), ..Entry::new(Kind::CharDevice, "n", 0o666) }, b"")
            .file("n/x", "")
            .end(),
    );
}

#[test]
fn whiteout_tricks() {
    let reason = "a whiteout of a directory itself";
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh..", "a/.wh...", "a/b/../.wh...", "etc/.wh..."] {
        let tar = Tar::new().file(name, "").end();
        assert!(refused(&tar).to_string().ends_with(reason), "{name}");
    }
    for name in ["../.wh.outside", "x/../../.wh.outside", "../.wh..wh..opq", "a/../../.wh..."] {
        let error = refused(&Tar::new().file(name, "").end());
        assert_eq!(error.to_string(), format!("invalid path in archive: \"{name}\" is outside of its root"));
    }
    // aufs' own files hide nothing, whatever follows.
    for name in [".wh..wh.", ".wh..wh..", ".wh..wh...", "etc/.wh..wh.passwd", ".wh..wh.plnk/x", ".wh..wh..opq/x"] {
        let mut stack = Stack::new();
        stack.apply(&Tar::new().file("etc/passwd", "root").end()).unwrap();
        stack.apply(&Tar::new().file(name, "").end()).unwrap();
        assert_eq!(fs::read_dir(stack.top()).unwrap().count(), 0, "{name}");
    }
    // Through a link: the whiteout lands in the layer.
    let stack =
        harmless(&Tar::new().symlink("up", "../..").file("up/.wh.outside", "").file("up/.wh..wh..opq", "").end());
    assert!(fs::symlink_metadata(stack.top().join("outside")).is_ok());
    // A whiteout does not reach what the same layer brought.
    let stack = harmless(&Tar::new().file("d/x", "1").file("d/.wh.x", "").file(".wh.d", "").end());
    assert_eq!(fs::read_to_string(stack.top().join("d/x")).unwrap(), "1");
    refused(&Tar::new().add(Entry { link: "y".into(), ..Entry::new(Kind::Symlink, "./", 0o777) }, b"").end());
}

#[test]
fn names_that_differ_in_case_are_two() {
    let tar = Tar::new().file("etc/Passwd", "1").file("etc/passwd", "2").directory("ETC").file("ETC/passwd", "3").end();
    let stack = harmless(&tar);
    let read = |name: &str| fs::read_to_string(stack.top().join(name)).unwrap();
    assert_eq!([read("etc/Passwd"), read("etc/passwd"), read("ETC/passwd")], ["1", "2", "3"]);
    // A whiteout is one in these letters only.
    assert!(harmless(&Tar::new().file(".WH.etc", "x").end()).top().join(".WH.etc").exists());
}

#[test]
fn a_bomb_of_holes_takes_no_place() {
    // 8 TiB of holes in a few kilobytes; and more than a file system can hold.
    let sparse = |size: u64| {
        let mut tar = forged(156..157, b"S");
        tar[257..265].copy_from_slice(b"ustar  \0");
        tar[345..512].fill(0);
        tar[386..410].copy_from_slice(b"00000000000\x0000000000004\0");
        let mut real = [0; 12];
        real[0] = 0x80;
        real[4..].copy_from_slice(&size.to_be_bytes());
        tar[483..495].copy_from_slice(&real);
        seal(&mut tar[..512]);
        tar
    };
    let stack = harmless(&sparse(8 << 40));
    let status = fs::metadata(stack.top().join("a")).unwrap();
    assert!(status.len() == 8 << 40 && std::os::unix::fs::MetadataExt::blocks(&status) < 100);
    refused(&sparse(i64::MAX as u64));
    refused(&sparse(u64::MAX));
}

#[test]
fn names_that_are_too_long() {
    refused(&Tar::new().file(&"n".repeat(256), "").end());
    refused(&Tar::new().file(&"d/".repeat(2100), "").end());
    refused(&Tar::new().symlink("s", &"t".repeat(5000)).end());
    // As deep as paths go, then replaced by a file.
    let deep = "d/".repeat(2000);
    let stack = harmless(&Tar::new().directory(&deep).file("d", "flat").end());
    assert_eq!(fs::read_to_string(stack.top().join("d")).unwrap(), "flat");
}

#[test]
fn cut_short() {
    let tar = Tar::new().file("a", &"x".repeat(2000)).directory("d").file(&"l".repeat(300), "y").end();
    let boundaries: Vec<usize> = {
        let mut stack = Stack::new();
        (0..tar.len()).step_by(256).filter(|&length| stack.apply(&tar[..length]).is_ok()).collect()
    };
    // Between two entries a cut can't be told from the end; everywhere else it is an error.
    assert!(boundaries.iter().all(|length| length.is_multiple_of(512)), "{boundaries:?}");
    assert_eq!(boundaries[..3], [0, 2560, 3072]);
    assert!(!boundaries.contains(&3584), "an extension header wants its entry");
    assert_eq!(refused(&tar[..1000]).to_string(), "unexpected EOF: the archive ends within a file");
}

#[test]
fn limits() {
    let mut stack = Stack::new();
    let tar = (0..20).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), "x")).end();
    let few = ApplyOptions { limits: Limits { max_entries: 10, ..Limits::default() }, ..ApplyOptions::default() };
    assert_eq!(stack.apply_with(&tar, &few).unwrap_err().to_string(), "the archive has more than 10 entries");
    let small = ApplyOptions { limits: Limits { max_bytes: 5000, ..Limits::default() }, ..ApplyOptions::default() };
    assert_eq!(stack.apply_with(&tar, &small).unwrap_err().to_string(), "the archive has more than 5000 bytes");
}

#[test]
fn directories_that_are_only_implied_count() {
    let deep = |number: usize| format!("{number}/{}f", "d/".repeat(300));
    let tar = (0..5).fold(Tar::new(), |tar, number| tar.file(&deep(number), "")).end();
    let with = |limits| Stack::new().apply_with(&tar, &ApplyOptions { limits, ..ApplyOptions::default() });
    let error = with(Limits { max_files: 1000, ..Limits::default() }).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("the archive has more than 1000 files", ErrorKind::Invalid)
    );
    let error = with(Limits { max_kept_bytes: 1 << 17, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 131072 bytes of directories' names");
    assert_eq!(with(Limits::default()).unwrap().implied.len(), 5 * 301);
}

#[test]
fn directories_with_entries_are_bounded_in_memory() {
    let tar = (0..1000).fold(Tar::new(), |tar, number| tar.directory(&number.to_string())).end();
    let few =
        |max_kept_bytes| ApplyOptions { limits: Limits { max_kept_bytes, ..Limits::default() }, ..Default::default() };
    assert!(matches!(Stack::new().apply_with(&tar, &few(50_000)), Err(Error::Limit { .. })));
    Stack::new().apply_with(&tar, &few(150_000)).unwrap();
    // The same ones again and again are the same ones.
    let again = (0..1000).fold(Tar::new(), |tar, _| tar.directory("a").file("a/b", "").file("a", "")).end();
    Stack::new().apply_with(&again, &few(10_000)).unwrap();
}

/// Links that lead up and down a deep tree, through each other: without a bound 40 links cost 10^7 look-ups for each entry.
#[test]
fn links_through_deep_trees_end() {
    let deep = "d/".repeat(500);
    let up_and_down = format!("{}{deep}", "../".repeat(500));
    let mut tar = Tar::new().file(&format!("{deep}f"), "");
    for number in 0..30 {
        let target = match number {
            0 => up_and_down.trim_end_matches('/').to_owned(),
            _ => format!("l{}/{}", number - 1, up_and_down.trim_end_matches('/')),
        };
        tar = tar.symlink(&format!("{deep}l{number}"), &target);
    }
    let tar = (0..100).fold(tar, |tar, number| tar.file(&format!("{deep}l29/{number}"), "")).end();
    let error = Stack::new().apply(&tar).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().ends_with("steps through directories"), "{error}");
}

#[test]
fn a_file_with_too_many_attributes() {
    let with = |count: usize| {
        let xattrs = (0..count).map(|number| (format!("user.{number}").into_bytes(), Vec::new())).collect();
        Tar::new().add(Entry { xattrs, ..Entry::new(Kind::File, "f", 0o644) }, b"").end()
    };
    let read = |tar: &[u8]| Reader::new(tar, Limits::default()).next_entry();
    assert_eq!(read(&with(1000)).unwrap().unwrap().xattrs.len(), 1000);
    let error = read(&with(1001)).unwrap_err();
    assert!(error.to_string().ends_with("it has more than 1000 attributes"), "{error}");
}

#[test]
fn a_gzip_bomb_is_bounded() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut io::repeat(0).take(64 << 20), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let root = tempfile::tempdir().unwrap();
    let options =
        ApplyOptions { limits: Limits { max_bytes: 1 << 20, ..Limits::default() }, ..ApplyOptions::default() };
    let fd = fs::File::open(root.path()).unwrap();
    let error = corten_archive::apply(decompress(&bomb[..]).unwrap(), fd.as_fd(), &[], &options).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 1048576 bytes");
}

/// A header with one field overwritten and its checksum made right again.
fn forged(field: std::ops::Range<usize>, bytes: &[u8]) -> Vec<u8> {
    let mut tar = Tar::new().file("a", "data").end();
    tar[field][..bytes.len()].copy_from_slice(bytes);
    seal(&mut tar);
    tar
}

fn seal(tar: &mut [u8]) {
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&b| u32::from(b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn forged_numbers() {
    refused(&forged(124..136, b"99999999999\0"));
    refused(&forged(108..116, &[0xff; 8]));
    refused(&forged(108..116, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    refused(&forged(156..157, b"?"));
    refused(&forged(156..157, b"M"));
    // A GNU sparse header where there is no GNU header, and one with a map beyond its size.
    refused(&forged(156..157, b"S"));
    // Times far away are cut to what the file system has.
    harmless(&forged(136..148, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    harmless(&forged(136..148, &[0xff; 12]));
    // A size on something without data means nothing.
    let mut tar = Tar::new().directory("d").file("f", "x").end();
    tar[124..136].copy_from_slice(b"77777777777\0");
    seal(&mut tar);
    assert!(harmless(&tar).top().join("f").exists());
}

/// A size in twelve bytes that are no text.
fn binary(size: i128) -> [u8; 12] {
    let mut field = [0; 12];
    field.copy_from_slice(&size.to_be_bytes()[4..]);
    field[0] |= 0x80;
    field
}

/// A tar behind an extension header with this record.
fn behind(record: &str, tar: &[u8]) -> Vec<u8> {
    // The length counts its own two digits, the space and the line's end.
    let record = format!("{} {record}\n", record.len() + 4);
    let mut extension = Tar::new().file("x", &record).end();
    extension.truncate(1024);
    extension[156] = b'x';
    seal(&mut extension[..512]);
    [&extension, tar].concat()
}

#[test]
fn forged_sizes() {
    let header = |reason: &str| format!("invalid tar header at byte 0: {reason}");
    let cut = "unexpected EOF: the archive ends within a file".to_owned();
    let check = |field: &[u8], expect: &str| {
        let tar = forged(124..136, field);
        assert_eq!(refused(&tar).to_string(), expect, "{field:?}");
        // A name that is as long as that.
        let mut extension = tar.clone();
        extension[156] = b'L';
        seal(&mut extension[..512]);
        let long = if expect == cut { header("an extension is longer than 1 MiB") } else { expect.to_owned() };
        assert_eq!(refused(&extension).to_string(), long, "{field:?}");
    };
    check(&binary(-1), &header("the size is negative"));
    check(&binary(-512), &header("the size is negative"));
    check(&binary(i128::from(i64::MIN)), &header("the size is negative"));
    check(&binary(i128::from(i64::MAX) + 1), &header("a number is out of range"));
    check(&binary(i128::from(u64::MAX)), &header("a number is out of range"));
    check(&binary(i128::from(u64::MAX) + 2), &header("a number is out of range"));
    check(b"-1\0\0\0\0\0\0\0\0\0\0", &header("a number is not octal"));
    check(b"-00000000001", &header("a number is not octal"));
    check(b"0x10\0\0\0\0\0\0\0\0", &header("a number is not octal"));
    check(b"7 7\0\0\0\0\0\0\0\0\0", &header("a number is not octal"));
    check(&binary(i128::from(i64::MAX)), &cut);
    check(b"777777777777", &cut);
    check(b"00010000000\0", &cut);
    // A record's size takes the place of the header's.
    let two = Tar::new().file("a", &"x".repeat(700)).file("b", "").end();
    let record = |size: &str, expect: &str| {
        assert_eq!(refused(&behind(&format!("size={size}"), &two)).to_string(), expect, "{size}");
    };
    record("9223372036854775807", &cut);
    record("1000000000", &cut);
    record("9223372036854775808", &header("a number is out of range"));
    record("18446744073709551617", &header("a number is not decimal"));
    record("-1", &header("a number is not decimal"));
    record("0x10", &header("a number is not decimal"));
    // Of a smaller one the rest is no header.
    assert!(refused(&behind("size=100", &two)).to_string().starts_with("invalid tar header at byte 2048: "));
    // On what has no data it means nothing.
    assert!(
        harmless(&behind("size=99999999", &Tar::new().directory("d").file("f", "x").end())).top().join("f").exists()
    );
    // A larger one that is there takes the next entry for data, and nothing beyond that.
    let stack = harmless(&behind("size=1536", &two));
    assert_eq!(fs::metadata(stack.top().join("a")).unwrap().len(), 1536);
    assert!(!stack.top().join("b").exists());
}

#[test]
fn endless_extensions() {
    let mut header = forged(156..157, b"L");
    header.truncate(512);
    header[124..136].copy_from_slice(b"77777777777\0");
    seal(&mut header);
    let error = Reader::new(header.chain(io::repeat(b'n')), Limits::default()).next_entry().unwrap_err();
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
    // The same small extension again and again.
    header[124..136].copy_from_slice(b"00000001000\0");
    seal(&mut header);
    header.extend([0; 512]);
    let again = header.repeat(20_000);
    let limits = Limits { max_entries: 10_000, ..Limits::default() };
    assert!(matches!(Reader::new(&again[..], limits).next_entry(), Err(Error::Limit { what: "entries", .. })));
}

#[test]
fn broken_compression_is_an_error_of_the_archive() {
    let packed = zstd::encode_all(&Tar::new().file("a", "b").end()[..], 1).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut io::repeat(7).take(100_000), &mut gzip).unwrap();
    let gzip = gzip.finish().unwrap();
    let bzip2 = include_bytes!("data/hello.tar.bz2");
    let xz = include_bytes!("data/hello.tar.xz");
    for broken in [
        &packed[..packed.len() - 4],
        &gzip[..gzip.len() - 9],
        &gzip[..12],
        &bzip2[..bzip2.len() - 6],
        b"BZh91AY&SY",
        &xz[..xz.len() - 14],
        b"\xfd7zXZ\0\0\0",
    ] {
        let mut out = Vec::new();
        assert!(decompress(broken).unwrap().read_to_end(&mut out).is_err());
    }
}

#[test]
fn a_full_disk_is_said() {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };
    // A small file system that is in nobody's mount table and goes when its descriptor does.
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(context.as_fd(), "size", "64k").unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    let disk = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let tar = Tar::new().file("d/big", &"x".repeat(100_000)).end();
    let error = corten_archive::apply(&tar[..], disk.as_fd(), &[], &ApplyOptions::default()).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(error.to_string(), "write /d/big");
}

fn read_all(tar: &[u8]) {
    let mut reader = Reader::new(tar, Limits::default());
    while let Ok(Some(_)) = reader.next_entry() {
        if io::copy(&mut (&mut reader).take(1 << 20), &mut io::sink()).is_err() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        read_all(&bytes);
        if let Ok(mut stream) = decompress(&bytes[..]) {
            io::copy(&mut (&mut stream).take(1 << 20), &mut io::sink()).ok();
        }
    }

    #[test]
    fn mutated_tars_never_panic_and_stay_inside(
        changes in prop::collection::vec((0usize..12_000, any::<u8>()), 1..12),
        sealed: bool,
    ) {
        let mut tar = Tar::new()
            .directory("d")
            .file("d/f", &"x".repeat(700))
            .symlink("s", "../../..")
            .link("h", "d/f")
            .file(".wh.old", "")
            .file(&format!("s/{}", "l".repeat(200)), "y")
            .add(Entry { device: (1, 3), ..Entry::new(Kind::CharDevice, "n", 0o666) }, b"")
            .end();
        let length = tar.len();
        for (at, byte) in changes {
            tar[at % length] = byte;
        }
        if sealed {
            // The checksums are right again, so that the changes reach what lies behind them.
            for start in (0..length).step_by(512) {
                if &tar[start + 257..start + 262] == b"ustar" {
                    seal(&mut tar[start..start + 512]);
                }
            }
        }
        read_all(&tar);
        let mut stack = Stack::new();
        stack.apply(&tar).ok();
    }
}

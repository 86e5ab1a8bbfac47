//! Archives as other programs write them: GNU tar's formats, where GNU tar is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use corten_archive::{ApplyOptions, apply, decompress};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

fn tar(arguments: &[&str], directory: &Path) -> Option<Vec<u8>> {
    let output = Command::new("tar").args(arguments).arg("-C").arg(directory).arg("-c").arg(".").output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no tar program");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

fn sample() -> tempfile::TempDir {
    let sample = tempfile::tempdir().unwrap();
    let root = sample.path();
    let deep = root.join(["long directory name"; 15].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(200)), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), root.join("link")).unwrap();
    fs::hard_link(deep.join("n".repeat(200)), root.join("hard")).unwrap();
    let holes = fs::File::create(root.join("holes")).unwrap();
    for piece in 0..40u64 {
        holes.write_all_at(&[piece as u8 + 1; 4096], piece * 1_048_576).unwrap();
    }
    holes.set_len(41 << 20).unwrap();
    let empty = fs::File::create(root.join("all hole")).unwrap();
    empty.set_len(32 << 20).unwrap();
    sample
}

fn assert_same(original: &Path, copy: &Path) {
    let compare = Command::new("diff").arg("-r").arg("--no-dereference").arg(original).arg(copy).output().unwrap();
    assert!(compare.status.success(), "{}", String::from_utf8_lossy(&compare.stdout));
}

#[test]
fn gnu_tar_in_all_its_formats() {
    let sample = sample();
    let formats: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=pax"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for arguments in formats {
        let is_sparse = arguments.contains(&"--sparse");
        if !is_sparse {
            fs::remove_file(sample.path().join("all hole")).ok();
        } else if !sample.path().join("all hole").exists() {
            fs::File::create(sample.path().join("all hole")).unwrap().set_len(32 << 20).unwrap();
        }
        let Some(archive) = tar(arguments, sample.path()) else { return };
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path();
        apply(&archive[..], fs::File::open(copy).unwrap().as_fd(), &[], &ApplyOptions::default()).unwrap();
        assert_same(sample.path(), copy);
        assert_eq!(fs::metadata(copy.join("hard")).unwrap().nlink(), 2, "{arguments:?}");
        if is_sparse {
            assert!(archive.len() < 1 << 20, "{arguments:?}");
            assert!(fs::metadata(copy.join("holes")).unwrap().blocks() < 4096, "{arguments:?}");
            assert_eq!(fs::metadata(copy.join("all hole")).unwrap().size(), 32 << 20);
        }
    }
}

#[test]
fn holes_read_as_zeros() {
    let sample = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(sample.path().join("f")).unwrap();
    file.seek(SeekFrom::Start(2 << 20)).unwrap();
    file.write_all(b"end").unwrap();
    let Some(archive) = tar(&["--sparse"], sample.path()) else { return };
    let mut reader = corten_archive::Reader::new(&archive[..], Default::default());
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, entry.size);
        if entry.path.ends_with(b"f") {
            assert!(entry.is_sparse);
            assert!(data.ends_with(b"\0end") && data[..2 << 20].iter().all(|&b| b == 0));
        }
    }
}

#[test]
fn gnu_tar_reads_what_is_written_here() {
    let sample = sample();
    fs::remove_file(sample.path().join("all hole")).unwrap();
    let archive = corten_archive::create(fs::File::open(sample.path()).unwrap().as_fd(), Vec::new()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let child = Command::new("tar").arg("-x").arg("-C").arg(copy.path()).stdin(std::process::Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no tar program");
        return;
    };
    child.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(child.wait().unwrap().success());
    assert_same(sample.path(), copy.path());
}

#[test]
fn compressions() {
    let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
    let (start, rest) = data.split_at(700_001);
    let check = |packed: Vec<u8>| {
        let mut unpacked = Vec::new();
        decompress(&packed[..]).unwrap().read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == data);
    };
    check(data.clone());
    check(gzip(&data));
    check(zstd(&data));
    check([gzip(start), gzip(rest)].concat());
    check([zstd(start), zstd(rest)].concat());
    // As the bzip2 and xz programs wrote them; twice, because several streams in a row are one file.
    let hello = std::iter::repeat_n("hello from another program\n", 1000).collect::<String>();
    for packed in [&include_bytes!("data/hello.txt.bz2")[..], include_bytes!("data/hello.txt.xz")] {
        let mut unpacked = String::new();
        decompress(&packed.repeat(2)[..]).unwrap().read_to_string(&mut unpacked).unwrap();
        assert!(unpacked == hello.repeat(2));
    }
    for short in [&b""[..], b"\x1f", b"PK", b"\x1f\x8b"] {
        let mut unpacked = Vec::new();
        decompress(short).unwrap().read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, short);
    }
}

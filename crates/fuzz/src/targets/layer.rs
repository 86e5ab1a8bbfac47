//! A layer's tar: read, extracted and compared, whatever its entries say and whichever of its bytes are damaged.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use corten_archive::{ApplyOptions, Entry, Kind, Limits, Reader, Timestamp, Writer, apply, clean, verify};
use serde_json::Value;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "layer",
    form: Form::Json,
    samples: &[include_str!("layer.json")],
    words: &[
        "..",
        "a",
        "a/b",
        "/etc",
        "./a",
        "../outside",
        ".wh.a",
        ".wh..wh..opq",
        "a/.wh.b",
        ".wh..wh.plnk/1",
        ".wh...",
        "link",
        "link/x",
        "/",
        "A",
        "proc/self/root",
        "file",
        "directory",
        "symlink",
        "link",
        "char",
        "block",
        "fifo",
    ],
    run,
};

/// No made-up archive needs more.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_entries: 200, max_files: 400, max_kept_bytes: 1 << 20 };

fn run(input: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(input) else { return };
    let Some(tar) = archive(&document) else { return };
    let read = entries(&tar);
    let place = Place::new();
    let options =
        ApplyOptions { limits: LIMITS, lower_pending: document["pending"] == true, ..ApplyOptions::default() };
    let root = File::open(place.layer()).expect("it was just made");
    let applied = apply(&tar[..], root.as_fd(), &[], &options);
    place.check();
    match applied {
        Ok(applied) => {
            assert_eq!(read, Some(applied.entries), "extracted other entries than were read");
            // What was extracted can be compared; hard links may have been left for later.
            drop(verify(&tar[..], root.as_fd(), LIMITS));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    place.check();
}

/// How many entries there are; none if the archive is refused.
fn entries(tar: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(tar, LIMITS);
    let mut count = 0;
    while let Some(entry) = reader.next_entry().ok()? {
        count += 1;
        if let Ok(path) = clean(&entry.path) {
            assert!(path.split(|&byte| byte == b'/').all(|name| name != b".."), "{}", path.escape_ascii());
        }
        // A hole may be far larger than the archive.
        let read = io::copy(&mut (&mut reader).take(1 << 16), &mut io::sink()).ok()?;
        assert!(read <= entry.size);
    }
    Some(count)
}

/// The archive that a document describes, with bytes changed.
fn archive(document: &Value) -> Option<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for item in document["entries"].as_array()?.iter().take(50) {
        let (entry, data) = entry(item);
        writer.append_bytes(&entry, &data[..data.len().min(4096)]).ok()?;
    }
    let mut tar = writer.finish().ok()?;
    for change in document["changes"].as_array().into_iter().flatten() {
        let number = |at: usize| change[at].as_u64().unwrap_or(0) as usize;
        let at = number(0) % tar.len();
        tar[at] = number(1) as u8;
        if change[2] == true {
            seal(&mut tar, at);
        }
    }
    Some(tar)
}

fn entry(item: &Value) -> (Entry, Vec<u8>) {
    let text = |name: &str| item[name].as_str().unwrap_or_default().as_bytes().to_vec();
    let number = |name: &str| item[name].as_i64().unwrap_or(0);
    let kind = match item["kind"].as_str() {
        Some("directory") => Kind::Directory,
        Some("symlink") => Kind::Symlink,
        Some("link") => Kind::HardLink,
        Some("char") => Kind::CharDevice,
        Some("block") => Kind::BlockDevice,
        Some("fifo") => Kind::Fifo,
        _ => Kind::File,
    };
    let entry = Entry {
        link: text("link"),
        uid: number("uid") as u32,
        gid: number("gid") as u32,
        mtime: Timestamp { seconds: number("mtime"), nanoseconds: (number("ns") as u32) % 1_000_000_000 },
        device: (number("major") as u32, number("minor") as u32),
        xattrs: item["xattr"].as_str().map(|name| vec![(name.into(), b"value".to_vec())]).unwrap_or_default(),
        ..Entry::new(kind, text("path"), number("mode") as u32 & 0o7777)
    };
    let data = if kind == Kind::File { text("data") } else { Vec::new() };
    (entry, data)
}

/// Makes the checksum right of the block that a byte is in, so that the change gets further.
fn seal(tar: &mut [u8], at: usize) {
    let start = at / 512 * 512;
    let Some(block) = tar.get_mut(start..start + 512).filter(|block| &block[257..262] == b"ustar") else { return };
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A folder for the layer, and beside it what must not change.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> Place {
        let unique = format!("corten-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let place = Place(std::env::temp_dir().join(unique));
        drop(fs::remove_dir_all(&place.0));
        fs::create_dir_all(place.layer()).expect("the temporary folder can be written");
        fs::write(place.0.join("outside"), "untouched").expect("the temporary folder can be written");
        place
    }

    fn layer(&self) -> std::path::PathBuf {
        self.0.join("layer")
    }

    fn check(&self) {
        let names = fs::read_dir(&self.0).expect("the folder is there").count();
        assert_eq!(names, 2, "something came out of the layer");
        assert_eq!(fs::read(self.0.join("outside")).ok().as_deref(), Some(&b"untouched"[..]));
        assert!(fs::symlink_metadata(Path::new(&self.layer())).is_ok_and(|found| found.is_dir()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

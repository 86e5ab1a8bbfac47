//! A layer stack in a temporary directory.

use corten_archive::{Applied, ApplyOptions, Entry, Error, Kind, Writer, apply};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub struct Stack {
    directory: tempfile::TempDir,
    layers: usize,
}

impl Stack {
    pub fn new() -> Stack {
        assert!(rustix::process::geteuid().is_root(), "these tests make devices and owners: run them as root");
        let directory = tempfile::Builder::new().prefix("corten-archive").tempdir().unwrap();
        fs::write(directory.path().join("outside"), "untouched").unwrap();
        Stack { directory, layers: 0 }
    }

    pub fn layer(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("layer{number}"))
    }

    /// The topmost layer's directory.
    pub fn top(&self) -> PathBuf {
        self.layer(self.layers - 1)
    }

    pub fn apply(&mut self, tar: &[u8]) -> Result<Applied, Error> {
        self.apply_with(tar, &ApplyOptions::default())
    }

    pub fn apply_with(&mut self, tar: &[u8], options: &ApplyOptions) -> Result<Applied, Error> {
        let lower: Vec<OwnedFd> =
            (0..self.layers).rev().map(|n| fs::File::open(self.layer(n)).unwrap().into()).collect();
        let root = self.layer(self.layers);
        fs::create_dir(&root).unwrap();
        self.layers += 1;
        let applied = apply(tar, fs::File::open(&root).unwrap().as_fd(), &lower, options);
        self.assert_contained();
        applied
    }

    /// Nothing beside the layers has changed.
    pub fn assert_contained(&self) {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("layer"))
            .collect();
        names.sort();
        assert_eq!(names, ["outside"]);
        let outside = self.directory.path().join("outside");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
        assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1);
    }
}

/// A tar in the making.
pub struct Tar(Writer<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(Writer::new(Vec::new()))
    }

    pub fn add(mut self, entry: Entry, data: &[u8]) -> Tar {
        self.0.append_bytes(&entry, data).unwrap();
        self
    }

    pub fn file(self, path: &str, data: &str) -> Tar {
        self.add(Entry::new(Kind::File, path, 0o644), data.as_bytes())
    }

    pub fn directory(self, path: &str) -> Tar {
        self.add(Entry::new(Kind::Directory, path, 0o755), b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.add(Entry { link: target.into(), ..Entry::new(Kind::Symlink, path, 0o777) }, b"")
    }

    pub fn link(self, path: &str, target: &str) -> Tar {
        self.add(Entry { link: target.into(), ..Entry::new(Kind::HardLink, path, 0o644) }, b"")
    }

    pub fn end(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

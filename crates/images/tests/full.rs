//! A full disk: clear errors, nothing half-created, and work goes on when there is room. Needs root to mount a small tmpfs,
//! in a mount namespace of the test's own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;

use common::{nobody, open_at};
use corten_base::Reference;
use corten_sys::mount::{Propagation, set_root_propagation};
use corten_sys::{namespace, process};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};

#[test]
fn a_full_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let test = move || {
        namespace::unshare(process::flags::MOUNT).unwrap();
        set_root_propagation(Propagation::Private).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &place, "tmpfs", flags, Some(c"size=12m")).unwrap();
        let store = open_at(&place);
        let image = |name: &str, size: usize| {
            let image = TestImage::new(name, [tar(&[("a", b"1")]), tar(&[("file", &vec![1; size])])]);
            docker_archive_bytes(&[image], Packing::Plain)
        };
        store.load(&image("small:1", 1000)).unwrap();
        let holdings = || {
            store.snapshots.wait_removed();
            let count = |name: &str| fs::read_dir(place.join(name)).unwrap().count();
            (store.content.blobs().unwrap().len(), count("snapshots"), count("content/ingest"))
        };
        let before = holdings();
        // The blob alone is too large, then blob and layer together.
        for size in [20 << 20, 8 << 20] {
            let error = store.load(&image("large:1", size)).unwrap_err();
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            assert!(text.to_lowercase().contains("no space left"), "{text}");
            assert_eq!(holdings(), before);
            assert!(store.images.resolve("large:1", None).is_err());
        }
        let mut filler = OpenOptions::new().create(true).append(true).open(place.join("filler")).unwrap();
        while filler.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
        drop(filler);
        let long = |number: usize| Reference::parse_normalized(&format!("{}{number}:x", "a/".repeat(100))).unwrap();
        let refused = (0..10_000).find_map(|number| store.images.tag("small:1", &long(number)).err());
        assert!(refused.unwrap().to_string().contains("no space left"));
        fs::remove_file(place.join("filler")).unwrap();
        store.load(&image("large:1", 1 << 20)).unwrap();
        store.images.remove("large:1", false, false, &nobody).unwrap();
        assert_eq!(holdings(), before);
    };
    std::thread::spawn(test).join().unwrap();
}

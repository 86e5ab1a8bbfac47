//! Volumes on the disk: made, filled, used, removed, and found again after a death. They need root for owners and mounts.

#[cfg(test)]
mod volumes {
    use corten_base::VolumeName;
    use corten_metadata::Database;
    use corten_sys::process::flags;
    use corten_volumes::{ANONYMOUS_LABEL, CreateVolume, Error, Filters, SCHEMA, Volumes};
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, mknodat, setxattr};
    use std::collections::{BTreeMap, HashSet};
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
    use std::path::{Path, PathBuf};
    use std::thread;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Host {
            Host(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn volumes(&self) -> Volumes {
            let db = Database::open(&self.path("metadata.db"), &[SCHEMA]).unwrap();
            Volumes::open(self.0.path(), db).unwrap()
        }

        /// What `volumes/` holds.
        fn directories(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path("volumes")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn named(name: &str) -> CreateVolume {
        CreateVolume { name: name.to_owned(), ..CreateVolume::default() }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn create_get_list_remove() {
        let host = Host::new();
        let volumes = host.volumes();
        let data = volumes.create(CreateVolume { labels: map(&[("a", "1")]), ..named("data") }).unwrap();
        assert_eq!(data.mountpoint, host.path("volumes/data/_data"));
        assert_eq!(fs::metadata(&data.mountpoint).unwrap().mode() & 0o777, 0o755);
        assert_eq!(volumes.create(named("data")).unwrap(), data, "the existing one, labels and all");
        let anonymous = volumes.create(CreateVolume::default()).unwrap();
        assert_eq!(anonymous.name.as_str().len(), 64);
        assert_eq!(anonymous.labels, map(&[(ANONYMOUS_LABEL, "")]));
        assert_eq!(volumes.get("data").unwrap(), data);
        let found = |filters: Filters| {
            let used = HashSet::from([data.name.clone()]);
            volumes.list(&filters, &used).unwrap().into_iter().map(|volume| volume.name).collect::<Vec<_>>()
        };
        assert_eq!(found(Filters::default()).len(), 2);
        assert_eq!(found(Filters { name: vec!["at".to_owned()], ..Filters::default() })[..], [data.name.clone()][..]);
        assert_eq!(found(Filters { label: vec!["a=1".to_owned()], ..Filters::default() })[..], [data.name.clone()][..]);
        assert!(found(Filters { label: vec!["a=2".to_owned()], ..Filters::default() }).is_empty());
        assert!(found(Filters { driver: vec!["nfs".to_owned()], ..Filters::default() }).is_empty());
        assert_eq!(found(Filters { dangling: Some(true), ..Filters::default() })[..], [anonymous.name.clone()][..]);
        let error = volumes.remove("data", false, &["0123".to_owned(), "4567".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "remove data: volume is in use - [0123, 4567]");
        volumes.remove("data", false, &[]).unwrap();
        assert_eq!(volumes.remove("data", false, &[]).unwrap_err().to_string(), "get data: no such volume");
        volumes.remove("data", true, &[]).unwrap();
        assert_eq!(host.directories(), [anonymous.name.to_string()]);
    }

    #[test]
    fn docker_words_for_refusals() {
        let volumes = Host::new().volumes();
        let text = |request: CreateVolume| volumes.create(request).unwrap_err().to_string();
        let foo = CreateVolume { driver: "foo".to_owned(), ..named("xy") };
        assert_eq!(text(foo), "create xy: error looking up volume plugin foo: plugin \"foo\" not found");
        let short = "create a: volume name is too short, names should be at least two alphanumeric characters";
        assert_eq!(text(named("a")), short);
        assert!(text(named("../etc")).starts_with("create ../etc: \"../etc\" includes invalid characters"));
        let options = CreateVolume { options: map(&[("foo", "bar")]), ..named("xy") };
        assert_eq!(text(options), "create xy: invalid option: \"foo\"");
        assert!(matches!(volumes.get("xy"), Err(Error::NotFound(_))));
    }

    #[test]
    fn prune_takes_anonymous_ones_unless_told() {
        let host = Host::new();
        let volumes = host.volumes();
        let kept = volumes.create(named("kept")).unwrap();
        let used = volumes.create(CreateVolume::default()).unwrap();
        let gone = volumes.create(CreateVolume::default()).unwrap();
        fs::write(gone.mountpoint.join("file"), [1; 5000]).unwrap();
        let in_use: HashSet<VolumeName> = HashSet::from([used.name.clone()]);
        let (removed, freed) = volumes.prune(false, &Filters::default(), &in_use).unwrap();
        assert_eq!(removed[..], [gone.name][..]);
        assert_eq!(freed, 5000);
        let (removed, _) = volumes.prune(true, &Filters::default(), &in_use).unwrap();
        assert_eq!(removed[..], [kept.name][..]);
        assert_eq!(host.directories(), [used.name.to_string()]);
    }

    #[test]
    fn a_killed_engine_is_followed_by_one_that_finishes() {
        let host = Host::new();
        let volumes = host.volumes();
        volumes.create(named("half-removed")).unwrap();
        volumes.create(CreateVolume { labels: map(&[("x", "y")]), ..named("kept") }).unwrap();
        drop(volumes);
        fs::rename(host.path("volumes/half-removed"), host.path("volumes/.removing-half-removed")).unwrap();
        fs::create_dir_all(host.path("volumes/unrecorded/_data")).unwrap();
        fs::create_dir_all(host.path("volumes/not-a-volume")).unwrap();
        let volumes = host.volumes();
        let names: Vec<_> = volumes.list(&Filters::default(), &HashSet::new()).unwrap();
        assert_eq!(names.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), ["kept", "unrecorded"]);
        assert_eq!(names[0].labels, map(&[("x", "y")]));
        assert_eq!(host.directories(), ["kept", "not-a-volume", "unrecorded"]);
    }

    /// An image's directory with everything that is hard to copy.
    fn image(root: &Path) {
        let data = root.join("srv/data");
        fs::create_dir_all(data.join("sub/deeper")).unwrap();
        fs::write(data.join("file"), vec![7; 100_000]).unwrap();
        chown(data.join("file"), Some(12), Some(34)).unwrap();
        fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
        setxattr(data.join("file"), "user.note", b"hello", XattrFlags::empty()).unwrap();
        setxattr(data.join("file"), "trusted.overlay.origin", b"x", XattrFlags::empty()).unwrap();
        fs::hard_link(data.join("file"), data.join("sub/deeper/again")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        lchown(data.join("link"), Some(56), Some(78)).unwrap();
        symlink("../../..", data.join("sub/up")).unwrap();
        mknodat(CWD, data.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
        // What mknod made was masked.
        fs::set_permissions(data.join("fifo"), fs::Permissions::from_mode(0o622)).unwrap();
        mknodat(
            CWD,
            data.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        chown(&data, Some(90), Some(91)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1770)).unwrap();
        // The way to it leads through a link that is absolute inside the image.
        symlink("/srv", root.join("alias")).unwrap();
    }

    #[test]
    fn an_empty_volume_gets_what_the_image_has() {
        let host = Host::new();
        let volumes = host.volumes();
        let volume = volumes.create(named("data")).unwrap();
        let root = host.path("image");
        image(&root);
        let root = File::open(root).unwrap();
        assert!(volumes.copy_up("data", root.as_fd(), Path::new("/alias/data")).unwrap());
        let at = |name: &str| volume.mountpoint.join(name);
        let stat = |name: &str| fs::symlink_metadata(at(name)).unwrap();
        assert_eq!((stat("").uid(), stat("").gid(), stat("").mode() & 0o7777), (90, 91, 0o1770));
        assert_eq!(fs::read(at("file")).unwrap(), vec![7; 100_000]);
        assert_eq!((stat("file").uid(), stat("file").gid(), stat("file").mode() & 0o7777), (12, 34, 0o4750));
        assert_eq!((stat("file").nlink(), stat("file").ino()), (2, stat("sub/deeper/again").ino()));
        let original = fs::metadata(host.path("image/srv/data/file")).unwrap();
        assert_eq!(stat("file").modified().unwrap(), original.modified().unwrap());
        let mut value = [0; 16];
        assert_eq!(lgetxattr(at("file"), "user.note", &mut value[..]).unwrap(), 5);
        assert!(lgetxattr(at("file"), "trusted.overlay.origin", &mut value[..]).is_err());
        assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!((stat("link").uid(), stat("link").gid()), (56, 78));
        assert_eq!(fs::read_link(at("sub/up")).unwrap(), Path::new("../../.."));
        assert_eq!(stat("fifo").mode() & 0o177_777, 0o010_622);
        assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
        assert!(!volumes.copy_up("data", root.as_fd(), Path::new("/srv/data")).unwrap(), "only once");
        fs::remove_file(at("file")).unwrap();
        fs::write(host.path("volumes/data/filling"), "").unwrap();
        fs::write(at(".corten-partial"), "half").unwrap();
        assert!(
            volumes.copy_up("data", root.as_fd(), Path::new("/srv/data")).unwrap(),
            "what was cut short is completed"
        );
        assert!(at("file").exists() && !at(".corten-partial").exists());
    }

    #[test]
    fn copies_stay_inside_the_image() {
        let host = Host::new();
        let volumes = host.volumes();
        let volume = volumes.create(named("data")).unwrap();
        let root = host.path("image");
        fs::create_dir_all(&root).unwrap();
        symlink("../../../../../../../etc", root.join("out")).unwrap();
        fs::write(root.join("plain"), "").unwrap();
        let root = File::open(root).unwrap();
        for path in ["/out", "/../../etc", "/plain", "/missing"] {
            assert!(!volumes.copy_up("data", root.as_fd(), Path::new(path)).unwrap(), "{path}");
        }
        assert_eq!(fs::read_dir(volume.mountpoint).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_that_fails_is_taken_back() {
        let host = Host::new();
        let volumes = host.volumes();
        let volume = volumes.create(named("data")).unwrap();
        let root = host.path("image");
        fs::create_dir_all(root.join("d/".repeat(300))).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        let opened = File::open(&root).unwrap();
        let error = volumes.copy_up("data", opened.as_fd(), Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "cannot copy / of the image to volume data");
        assert_eq!(fs::read_dir(volume.mountpoint).unwrap().count(), 0);
        assert!(!host.path("volumes/data/filling").exists());
    }

    /// Runs a test in a mount namespace of its own.
    fn with_own_mounts(test: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let run = || {
                corten_sys::namespace::unshare(flags::MOUNT).unwrap();
                corten_sys::mount::set_root_propagation(corten_sys::mount::Propagation::Private).unwrap();
                test();
            };
            scope.spawn(run).join().unwrap();
        });
    }

    #[test]
    fn volumes_with_a_file_system_of_their_own() {
        with_own_mounts(|| {
            let host = Host::new();
            let volumes = host.volumes();
            let options = map(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=1777,noexec")]);
            let volume = volumes.create(CreateVolume { options, ..named("memory") }).unwrap();
            let mounted =
                || fs::metadata(&volume.mountpoint).unwrap().dev() != fs::metadata(host.path("volumes")).unwrap().dev();
            assert!(!mounted());
            assert_eq!(volumes.mount("memory", "one").unwrap(), volume.mountpoint);
            volumes.mount("memory", "two").unwrap();
            assert!(mounted());
            assert_eq!(fs::metadata(&volume.mountpoint).unwrap().mode() & 0o7777, 0o1777);
            volumes.unmount("memory", "one").unwrap();
            assert!(mounted());
            assert!(matches!(volumes.remove("memory", false, &[]), Err(Error::InUse { .. })));
            // The next engine finds it mounted.
            let next = host.volumes();
            next.mount("memory", "two").unwrap();
            next.unmount("memory", "two").unwrap();
            assert!(!mounted());
            next.remove("memory", false, &[]).unwrap();
        });
    }

    #[test]
    fn volumes_that_are_another_directory() {
        with_own_mounts(|| {
            let host = Host::new();
            fs::create_dir(host.path("there")).unwrap();
            fs::write(host.path("there/file"), "x").unwrap();
            let there = host.path("there").to_str().unwrap().to_owned();
            let options = map(&[("type", "none"), ("device", &there), ("o", "bind,ro")]);
            let volumes = host.volumes();
            let volume = volumes.create(CreateVolume { options, ..named("bound") }).unwrap();
            volumes.mount("bound", "one").unwrap();
            assert!(volume.mountpoint.join("file").exists());
            assert!(fs::write(volume.mountpoint.join("file"), "y").is_err(), "read-only");
            volumes.unmount("bound", "one").unwrap();
            volumes.mount("bound", "two").unwrap();
            drop(volumes);
            let volumes = host.volumes();
            volumes.remove("bound", false, &[]).unwrap();
            assert!(host.path("there/file").exists(), "what is mounted is never removed");
            let options = map(&[("type", "none"), ("device", "/no/such/place"), ("o", "bind")]);
            let volume = volumes.create(CreateVolume { options, ..named("broken") }).unwrap();
            let place = volume.mountpoint.display().to_string();
            assert_eq!(
                volumes.mount("broken", "one").unwrap_err().to_string(),
                format!(
                    "error while mounting volume '{place}': failed to mount local volume: mount /no/such/place:{place}: no such file or directory"
                )
            );
        });
    }
}

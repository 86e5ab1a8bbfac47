//! Test images' contents, made once from Debian's packages and kept below `target/testkit`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

static MAKING: Mutex<()> = Mutex::new(());

/// A root file system of busybox-static with its applets linked, as a tar.
pub fn busybox_tar() -> PathBuf {
    made_once("busybox.tar", |target| {
        let script = r#"
            root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
            mkdir -p "$root/bin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/root" "$root/var" "$root/home"
            mkdir -m 1777 "$root/tmp"
            cp /bin/busybox "$root/bin/busybox"
            for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
            printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$root/etc/passwd"
            printf 'root:x:0:\ndaemon:x:1:\nwheel:x:10:root\nnogroup:x:65534:\n' > "$root/etc/group"
            tar --sort=name --owner=0 --group=0 --numeric-owner -C "$root" -cf "$1" .
        "#;
        run(Command::new("sh").args(["-eu", "-c", script, "sh"]).arg(target));
    })
}

/// A minimal Debian root file system (the release of `DEBIAN_RELEASE`, else bookworm), as a tar.
pub fn debian_tar() -> PathBuf {
    made_once("debian.tar", |target| {
        let release = std::env::var("DEBIAN_RELEASE").unwrap_or_else(|_| "bookworm".into());
        let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--mode=root", "--aptopt=Acquire::Check-Valid-Until \"false\""])
            .args(["--dpkgopt=path-exclude=/usr/share/man/*", &release])
            .arg(target)
            .arg(mirror));
    })
}

fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let _one_maker = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let directory = crate::workspace().join("target/testkit");
    let path = directory.join(name);
    if !path.exists() {
        std::fs::create_dir_all(&directory).expect("making target/testkit");
        // Several test executables may make it at once: each its own, the last rename wins.
        let draft = directory.join(format!("{}-{name}", std::process::id()));
        make(&draft);
        std::fs::rename(&draft, &path).expect("keeping what was made");
    }
    path
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("running {command:?}: {error}"));
    assert!(status.success(), "{command:?} failed: {status}");
}

//! The image `corten/hello`, carried inside the executable so that a container can run without a network.
//!
//! One layer with one program and the directories that a container's mounts want. The bytes are the same for every build
//! with the same compiler, so the image's id is too.

use corten_archive::{Entry, Error, Kind, Writer};
use corten_base::{DiffId, Digest, Platform};
use serde_json::json;

/// The image's name.
pub(crate) const NAME: &str = "corten/hello";

/// The program, a static executable.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));

/// When the image says that it was made.
const CREATED: &str = "2026-11-21T00:00:00Z";

/// The layer as an uncompressed tar.
pub(crate) fn layer_tar() -> Result<Vec<u8>, Error> {
    let mut tar = Writer::new(Vec::with_capacity(PROGRAM.len() + 8192));
    for directory in ["dev/", "etc/", "proc/", "sys/"] {
        tar.append_bytes(&Entry::new(Kind::Directory, directory, 0o755), b"")?;
    }
    tar.append_bytes(&Entry::new(Kind::File, "hello", 0o755), PROGRAM)?;
    tar.finish()
}

/// The image's configuration for this layer.
pub(crate) fn config_json(layer_tar: &[u8]) -> Vec<u8> {
    let platform = Platform::host();
    let diff_id = DiffId(Digest::sha256(layer_tar));
    let config = json!({
        "architecture": platform.architecture,
        "config": {
            "Cmd": ["/hello"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "created": CREATED,
        "history": [
            { "created": CREATED, "created_by": "COPY hello / # corten" },
            { "created": CREATED, "created_by": "CMD [\"/hello\"]", "empty_layer": true },
        ],
        "os": platform.os,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_the_same_every_time() {
        let layer = layer_tar().unwrap();
        assert_eq!(layer, layer_tar().unwrap());
        assert_eq!(config_json(&layer), config_json(&layer));
        assert!(layer.len() < 2 << 20, "{} bytes in the executable", layer.len());
    }

    #[test]
    fn the_program_is_static() {
        assert_eq!(PROGRAM[..4], *b"\x7fELF");
        assert_eq!(PROGRAM[16], 2, "an executable at a fixed address");
        let asks_for_interpreter = PROGRAM.windows(8).any(|bytes| bytes == b"/ld-linu");
        assert!(!asks_for_interpreter);
    }

    #[test]
    fn the_program_speaks() {
        let layer = layer_tar().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        let options = corten_archive::ApplyOptions::default();
        corten_archive::apply(&layer[..], std::os::fd::AsFd::as_fd(&root), &[], &options).unwrap();
        drop(root);
        let output = std::process::Command::new(directory.path().join("hello")).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        for words in ["Hello from Corten!", "process id", "host name", "namespaces", "mnt:["] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

//! Manifests and indexes, as a registry may send them: what is taken is within its bounds and names content by digests.

use corten_images::read_document;

use crate::{Form, Target};

const WORDS: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.config.v1+json",
    "sha256:",
    "unknown",
    "linux",
    "v8",
    "vnd.docker.reference.type",
];

pub(crate) const MANIFEST: Target =
    Target { name: "manifest", form: Form::Json, samples: &[include_str!("manifest.json")], words: WORDS, run };

pub(crate) const INDEX: Target =
    Target { name: "index", form: Form::Json, samples: &[include_str!("index.json")], words: WORDS, run };

fn run(input: &[u8]) {
    let Ok(document) = read_document(input) else { return };
    assert!(document.content.len() <= 1001, "{} parts", document.content.len());
    if !document.is_index {
        assert!(!document.content.is_empty(), "a manifest has a configuration");
    }
    // The same bytes mean the same each time.
    let again = read_document(input).expect("it was read before");
    assert_eq!((again.is_index, again.content), (document.is_index, document.content));
}

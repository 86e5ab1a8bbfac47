//! A list of manifests as a registry stores it: Docker's manifest list, or the OCI index where its images are OCI's.

use corten_base::{Digest, Platform, Reference};
use serde::Serialize;

use super::entry::{Entry, OCI};
use crate::failure::{Failure, Outcome};
use crate::json_text::{compact, indent};

/// A list, its members in Docker's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    schema_version: u32,
    pub media_type: &'static str,
    manifests: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    #[serde(rename = "mediaType")]
    media_type: String,
    size: u64,
    digest: Digest,
    platform: Platform,
}

impl List {
    /// The list that `target` is to name. All images have to be in its registry already.
    pub fn of(target: &Reference, entries: &[Entry]) -> Outcome<List> {
        let is_oci = entries.first().is_some_and(|entry| entry.descriptor.media_type == OCI);
        let media_type = if is_oci {
            "application/vnd.oci.image.index.v1+json"
        } else {
            "application/vnd.docker.distribution.manifest.list.v2+json"
        };
        let manifests = entries.iter().map(|entry| Member::of(target, entry)).collect::<Outcome<_>>()?;
        Ok(List { schema_version: 2, media_type, manifests })
    }

    /// Its text, byte for byte as Docker's client writes it.
    pub fn text(&self) -> String {
        let json = serde_json::to_string(self).expect("texts and numbers always serialise");
        indent(&compact(&json), "   ")
    }
}

impl Member {
    fn of(target: &Reference, entry: &Entry) -> Outcome<Member> {
        let (from, to) = (entry.reference.domain(), target.domain());
        if from != to {
            return Err(Failure::message(format!(
                "cannot use source images from a different registry than the target image: {from} != {to}"
            )));
        }
        let descriptor = entry.descriptor.clone();
        Ok(Member {
            media_type: descriptor.media_type,
            size: descriptor.size,
            digest: descriptor.digest,
            platform: descriptor.platform.unwrap_or_default(),
        })
    }
}

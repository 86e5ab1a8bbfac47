//! One image's manifest in a list, as Docker's client shows it and keeps it in files:
//!
//! ```text
//! {"Ref": "host/name:tag", "Descriptor": {mediaType, digest, size, platform}, "Raw": base64 of the bytes as received,
//!  "SchemaV2Manifest" or "OCIManifest": the same as JSON, for people}
//! ```
//!
//! Clients before Docker 18.09 had `Digest` and `Platform` in place of the descriptor, and no `Raw`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_base::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::{Failure, Outcome};
use crate::json_text::{compact, indent};

pub(super) const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a list says of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType")]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One image's manifest.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub reference: Reference,
    pub descriptor: Descriptor,
    /// The manifest as the registry gave it; empty in old files.
    pub raw: Vec<u8>,
    payload: Payload,
}

/// A manifest's text, which in files has lost its white space. It is valid JSON.
#[derive(Debug, Clone)]
enum Payload {
    Docker(String),
    Oci(String),
}

/// The blobs that a manifest names.
#[derive(Deserialize)]
pub(super) struct Blobs {
    pub config: Blob,
    #[serde(default)]
    pub layers: Vec<Blob>,
}

#[derive(Deserialize)]
pub(super) struct Blob {
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    #[serde(rename = "Ref")]
    reference: Reference,
    descriptor: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(default, rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    #[serde(default, rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
    #[serde(default, skip_serializing)]
    digest: Option<Digest>,
    #[serde(default, skip_serializing)]
    platform: Option<Platform>,
}

impl Entry {
    /// A manifest as a registry gave it.
    pub fn received(reference: Reference, media_type: &str, raw: &[u8]) -> Outcome<Entry> {
        let text = String::from_utf8(raw.to_owned()).map_err(malformed)?;
        let payload = if media_type == DOCKER { Payload::Docker(text) } else { Payload::Oci(text) };
        payload.check()?;
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::sha256(raw),
            size: raw.len() as u64,
            platform: None,
        };
        Ok(Entry { reference, descriptor, raw: raw.to_owned(), payload })
    }

    /// The same for this platform.
    pub fn on(mut self, platform: Platform) -> Entry {
        self.descriptor.platform = Some(platform);
        self
    }

    /// Reads a file's text; `path` is for the complaint about a digest that does not fit.
    pub fn read(path: &str, text: &[u8]) -> Outcome<Entry> {
        let file: File = serde_json::from_slice(text).map_err(malformed)?;
        let payload = match (file.docker, file.oci) {
            (Some(docker), _) => Payload::Docker(docker.get().to_owned()),
            (None, Some(oci)) => Payload::Oci(oci.get().to_owned()),
            (None, None) => return Err(Failure::message(format!("{} has no payload", file.reference))),
        };
        payload.check()?;
        let descriptor = match (file.digest, file.descriptor) {
            (Some(digest), _) => payload.described(path, digest, file.platform)?,
            (None, Some(descriptor)) => descriptor,
            (None, None) => return Err(Failure::message(format!("{} has no descriptor", file.reference))),
        };
        let raw = STANDARD.decode(&file.raw).map_err(malformed)?;
        Ok(Entry { reference: file.reference, descriptor, raw, payload })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let raw = RawValue::from_string(self.payload().trim().to_owned()).expect("it was read as JSON before");
        let (docker, oci) = match &self.payload {
            Payload::Docker(_) => (Some(raw), None),
            Payload::Oci(_) => (None, Some(raw)),
        };
        let file = File {
            reference: self.reference.clone(),
            descriptor: Some(self.descriptor.clone()),
            raw: STANDARD.encode(&self.raw),
            docker,
            oci,
            digest: None,
            platform: None,
        };
        compact(&serde_json::to_string(&file).expect("texts and numbers always serialise"))
    }

    /// The manifest's own text.
    pub fn payload(&self) -> &str {
        self.payload.text()
    }

    /// The bytes to store in a registry. Those of old files are laid out anew, as whoever made them is likely to have.
    pub fn bytes(&self) -> Outcome<Vec<u8>> {
        let bytes = match &self.payload {
            _ if !self.raw.is_empty() => self.raw.clone(),
            Payload::Docker(text) => indent(&compact(text), "   ").into_bytes(),
            Payload::Oci(text) => indent(&compact(text), "  ").into_bytes(),
        };
        let (expected, actual) = (&self.descriptor.digest, Digest::of(self.descriptor.digest.algorithm(), &bytes));
        if actual != *expected {
            let reference = &self.reference;
            let text = format!("internal digest mismatch for {reference}: expected {expected}, got {actual}");
            return Err(Failure::message(text));
        }
        Ok(bytes)
    }

    /// The media type that the bytes are stored as.
    pub fn media_type(&self) -> &'static str {
        self.payload.media_type()
    }

    /// The blobs that the manifest names.
    pub fn blobs(&self) -> Outcome<Blobs> {
        serde_json::from_str(self.payload()).map_err(malformed)
    }
}

impl Payload {
    fn text(&self) -> &str {
        match self {
            Payload::Docker(text) | Payload::Oci(text) => text,
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Payload::Docker(_) => DOCKER,
            Payload::Oci(_) => OCI,
        }
    }

    /// Whether the document says of itself that it is another kind.
    fn check(&self) -> Outcome {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(default, rename = "mediaType")]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = serde_json::from_str(self.text()).map_err(malformed)?;
        let (right, found) = (self.media_type(), &kind.media_type);
        match self {
            Payload::Docker(_) if found != right => {
                Err(Failure::message(format!("mediaType in manifest should be '{right}' not '{found}'")))
            }
            Payload::Oci(_) if kind.manifests.is_some() => {
                Err(Failure::message("ocimanifest: expected manifest but found index"))
            }
            Payload::Oci(_) if !found.is_empty() && found != right => {
                Err(Failure::message(format!("if present, mediaType in manifest should be '{right}' not '{found}'")))
            }
            _ => Ok(()),
        }
    }

    /// The descriptor of an old file.
    fn described(&self, path: &str, digest: Digest, platform: Option<Platform>) -> Outcome<Descriptor> {
        let text = self.text().as_bytes();
        let actual = Digest::sha256(text);
        if actual != digest {
            return Err(Failure::message(format!(
                "invalid manifest file {path}: image manifest digest mismatch ({digest} != {actual})"
            )));
        }
        let media_type = self.media_type().to_owned();
        Ok(Descriptor { media_type, digest, size: text.len() as u64, platform })
    }
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure::message(format!("malformed manifest: {error}"))
}

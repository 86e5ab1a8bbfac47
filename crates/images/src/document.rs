//! Manifests and indexes: reading what came from outside, writing one for archives that have none.
//!
//! OCI image-spec manifest.md and image-index.md, and Docker's schema 2, which reads the same but for its media types.

use std::collections::BTreeMap;

use corten_base::Platform;
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::media_type::{self, DOCKER_CONFIG, DOCKER_MANIFEST};
use crate::types::Descriptor;
use crate::{Error, Result};

/// The largest manifest, index or configuration that is read.
pub(crate) const LARGEST: u64 = 8 << 20;
/// The most layers an image may have: what overlayfs can stack.
pub(crate) const MOST_LAYERS: usize = 500;
/// The most entries an index may have.
const MOST_MANIFESTS: usize = 1000;

/// One platform's image: its configuration and its layers, lowest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A choice of manifests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default)]
    pub media_type: Option<String>,
    pub manifests: Vec<IndexEntry>,
}

/// One choice of an index.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct IndexEntry {
    #[serde(flatten)]
    pub descriptor: Descriptor,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "artifactType")]
    pub artifact_type: Option<String>,
}

/// A manifest or an index, told apart by what it holds: media types are often missing or wrong.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// What a manifest or index says, for those who don't pull it.
#[derive(Clone, Debug)]
pub struct ReadDocument {
    /// Whether it is a choice of manifests.
    pub is_index: bool,
    /// What it names: the manifests of an index; the configuration of a manifest, then its layers.
    pub content: Vec<Descriptor>,
}

/// Reads a manifest or index with the bounds and refusals of a pull.
///
/// # Errors
/// [`Error::Document`].
pub fn read_document(bytes: &[u8]) -> Result<ReadDocument> {
    match Document::parse(bytes, "manifest")? {
        Document::Index(index) => {
            let content = index.manifests.into_iter().map(|entry| entry.descriptor).collect();
            Ok(ReadDocument { is_index: true, content })
        }
        Document::Manifest(manifest) => {
            let content = std::iter::once(manifest.config).chain(manifest.layers).collect();
            Ok(ReadDocument { is_index: false, content })
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads what a registry has sent as this media type.
    pub(crate) fn received(bytes: &[u8], sent_as: &str, what: &str) -> Result<Document> {
        let document = Document::parse(bytes, what)?;
        let (own, is_index) = match &document {
            Document::Manifest(manifest) => (&manifest.media_type, false),
            Document::Index(index) => (&index.media_type, true),
        };
        let refusal = media_type::disagreement(sent_as, own.as_deref().unwrap_or_default(), is_index);
        refusal.map_or(Ok(document), |reason| Err(Error::document(what, reason)))
    }

    /// Reads a manifest or an index; `what` names it in errors.
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Document> {
        let invalid = |error: serde_json::Error| Error::document(what, error);
        let probe: Probe = serde_json::from_slice(bytes).map_err(invalid)?;
        if probe.schema_version == Some(1) || probe.fs_layers.is_some() {
            let reason =
                "Docker image manifest version 2, schema 1 is not supported; push the image again with a newer client";
            return Err(Error::document(what, reason));
        }
        // A document that is both could be read as either: CVE-2021-41190.
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(Error::document(what, "it is a manifest and an index at once"));
        }
        let says_index = probe.media_type.as_deref().is_some_and(media_type::is_index);
        if probe.manifests.is_some() || says_index {
            let index: Index = serde_json::from_slice(bytes).map_err(invalid)?;
            if probe.media_type.as_deref().is_some_and(media_type::is_manifest) {
                return Err(Error::document(what, "its media type is that of a manifest"));
            }
            check_count(what, "manifests", index.manifests.len(), MOST_MANIFESTS)?;
            return Ok(Document::Index(index));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
        check_count(what, "layers", manifest.layers.len(), MOST_LAYERS)?;
        Ok(Document::Manifest(manifest))
    }
}

impl Manifest {
    /// A manifest for an image that came without one. Equal images get equal bytes.
    pub(crate) fn write(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
        let media_type = Some(DOCKER_MANIFEST.to_owned());
        let (artifact_type, annotations) = (None, None);
        let manifest = Manifest { schema_version: 2, media_type, config, layers, artifact_type, annotations };
        serde_json::to_vec(&manifest).expect("a struct with text keys is always JSON")
    }

    /// The blobs it needs: configuration and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Whether this is something else than a container image: an artifact, an attestation.
    pub(crate) fn is_artifact(&self) -> bool {
        !media_type::is_config(&self.config.media_type)
    }

    /// What sort of artifact it is.
    pub(crate) fn artifact_kind(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }

    /// When it was made, in its own words.
    pub(crate) fn created(&self) -> Option<&str> {
        self.annotations.as_ref()?.get("org.opencontainers.image.created").map(String::as_str)
    }
}

impl Index {
    /// The entries that may be images for `platform`, best first: exact variants before older ones, then in their order.
    pub(crate) fn candidates(&self, platform: &Platform) -> Vec<&IndexEntry> {
        let fits = |entry: &&IndexEntry| match &entry.platform {
            Some(offered) => !entry.is_attestation() && platform.matches(offered),
            None => !entry.is_attestation(),
        };
        let mut found: Vec<&IndexEntry> = self.manifests.iter().filter(fits).collect();
        found.sort_by_key(|entry| {
            let offered = entry.platform.as_ref();
            (offered.is_none(), offered.is_some_and(|offered| offered.variant != platform.variant))
        });
        found
    }

    /// What it says about one of its manifests.
    pub(crate) fn attestations_of(&self, subject: &corten_base::Digest) -> impl Iterator<Item = &IndexEntry> {
        self.manifests.iter().filter(|entry| entry.is_attestation() && entry.subject() == Some(subject.as_str()))
    }
}

impl IndexEntry {
    /// Whether this describes another entry instead of being an image.
    pub(crate) fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
            || self.annotation("vnd.docker.reference.type").is_some()
    }

    /// The digest of the manifest that an attestation is about.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.annotation("vnd.docker.reference.digest")
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

/// A manifest with everything that it says, also what nobody here knows of: annotations of layers, `subject`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: WholeDescriptor,
    layers: Vec<WholeDescriptor>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
struct WholeDescriptor {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// The same manifest with its layers in other forms, and its media type.
pub(crate) fn with_layers(manifest: &[u8], layers: Vec<Descriptor>) -> Result<(Vec<u8>, String)> {
    let mut whole: Whole = serde_json::from_slice(manifest).map_err(|error| Error::document("manifest", error))?;
    let media_type = media_type::of_document(whole.media_type.as_deref(), "", false).to_owned();
    whole.media_type = Some(media_type.clone());
    whole.layers.iter_mut().zip(layers).for_each(|(layer, descriptor)| layer.descriptor = descriptor);
    Ok((serde_json::to_vec(&whole).expect("a struct with text keys is always JSON"), media_type))
}

/// Reads an image's configuration and compares it with the number of layers there are.
pub(crate) fn parse_config(bytes: &[u8], what: &str, layers: usize) -> Result<ImageConfig> {
    let config: ImageConfig = serde_json::from_slice(bytes).map_err(|error| Error::document(what, error))?;
    if config.os.is_empty() || config.os != "linux" {
        let reason = format!("image operating system {:?} cannot be used on this platform", config.os);
        return Err(Error::document(what, reason));
    }
    let expected = config.rootfs.diff_ids.len();
    if expected != layers {
        let text = format!("invalid manifest, layers length mismatch: expected {layers}, got {expected}");
        return Err(Error::Archive(text));
    }
    check_count(what, "layers", layers, MOST_LAYERS)?;
    Ok(config)
}

/// The descriptor of a configuration.
pub(crate) fn config_descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: DOCKER_CONFIG.to_owned(),
        digest: corten_base::Digest::sha256(bytes),
        size: bytes.len() as u64,
    }
}

/// The descriptor of a manifest that was written here.
pub(crate) fn manifest_descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor { media_type: DOCKER_MANIFEST.to_owned(), ..config_descriptor(bytes) }
}

fn check_count(what: &str, things: &str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(Error::document(what, format!("it has {count} {things}, at most {most} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1}"#;

    fn refused(text: &str, expect: &str) {
        let error = Document::parse(text.as_bytes(), "manifest").unwrap_err().to_string();
        assert!(error.contains(expect), "{text}: {error}");
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes(), "x"), Ok(Document::Manifest(_))));
        assert!(matches!(Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#, "x"), Ok(Document::Index(_))));
    }

    #[test]
    fn hostile_documents() {
        refused("", "EOF");
        refused("[]", "invalid");
        refused(r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1 is not supported");
        refused(&format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}"#), "at once");
        let media = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#;
        refused(media, "media type");
        let layers = vec![CONFIG; 10_000].join(",");
        refused(&format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[{layers}]}}"#), "10000 layers");
        refused(
            &format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[{{"digest":"sha256:../..","size":1}}]}}"#),
            "",
        );
    }

    #[test]
    fn layers_in_another_form_keep_what_is_said_of_them() {
        let layer = format!(r#"{{{},"urls":["u"],"annotations":{{"a":"b"}}}}"#, &CONFIG[1..CONFIG.len() - 1]);
        let manifest = format!(r#"{{"config":{CONFIG},"subject":{CONFIG},"schemaVersion":2,"layers":[{layer}]}}"#);
        let descriptor = Descriptor { media_type: "m".into(), digest: corten_base::Digest::sha256(b"x"), size: 7 };
        let (bytes, media_type) = with_layers(manifest.as_bytes(), vec![descriptor.clone()]).unwrap();
        let layer = format!(
            r#"{{"mediaType":"m","digest":"{}","size":7,"annotations":{{"a":"b"}},"urls":["u"]}}"#,
            descriptor.digest
        );
        let expect = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{CONFIG},"layers":[{layer}],"subject":"#,
            media_type::OCI_MANIFEST
        );
        assert!(String::from_utf8(bytes).unwrap().starts_with(&expect));
        assert_eq!(media_type, media_type::OCI_MANIFEST);
    }

    #[test]
    fn the_best_platform_comes_first() {
        let entry = |platform: &str| {
            let platform = Platform::parse(platform).unwrap();
            let platform = serde_json::to_string(&platform).unwrap();
            format!(r#"{{{},"platform":{platform}}}"#, &CONFIG[1..CONFIG.len() - 1])
        };
        let attestation =
            format!(r#"{{{},"platform":{{"os":"unknown","architecture":"unknown"}}}}"#, &CONFIG[1..CONFIG.len() - 1]);
        let entries = [attestation, entry("linux/arm/v6"), entry("linux/arm/v7"), entry("linux/amd64")].join(",");
        let index: Index = serde_json::from_str(&format!(r#"{{"manifests":[{entries}]}}"#)).unwrap();
        let variants = |wanted: &str| {
            let found = index.candidates(&Platform::parse(wanted).unwrap());
            found.into_iter().map(|entry| entry.platform.clone().unwrap().variant).collect::<Vec<_>>()
        };
        assert_eq!(variants("linux/arm/v7"), [Some("v7".to_owned()), Some("v6".to_owned())]);
        assert_eq!(variants("linux/amd64"), [None]);
        assert!(variants("linux/s390x").is_empty());
    }
}

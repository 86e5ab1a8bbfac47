//! What a registry has of a name, without pulling it.

use corten_base::{Platform, Reference};
use corten_distribution::{Blocking, Credentials};

use crate::config::ImageConfig;
use crate::document::{Document, LARGEST};
use crate::types::Descriptor;
use crate::{Error, Images, Result, unpack};

/// What a name means in its registry.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The platforms there are images for.
    pub platforms: Vec<Platform>,
}

impl Images {
    /// Asks the registry what a name (`latest` where it has no tag) means.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Document`].
    pub fn inspect_remote(
        &self,
        reference: &Reference,
        registry: &Blocking,
        credentials: Option<&Credentials>,
    ) -> Result<Remote> {
        let reference = reference.clone().with_default_tag();
        let (found, bytes) = registry.resolve(&reference, credentials)?;
        let what = format!("manifest {} of {}", found.digest, reference.familiar());
        let descriptor = Descriptor { media_type: found.media_type, digest: found.digest, size: found.size };
        let platforms = match Document::received(&bytes, &descriptor.media_type, &what)? {
            Document::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
            Document::Manifest(manifest) if manifest.is_artifact() => Vec::new(),
            Document::Manifest(manifest) => {
                let config = corten_distribution::Descriptor {
                    media_type: manifest.config.media_type.clone(),
                    digest: manifest.config.digest.clone(),
                    size: manifest.config.size,
                };
                if config.size > LARGEST {
                    let reason = format!("it has {} bytes, at most {LARGEST} are allowed", config.size);
                    return Err(Error::document("image configuration", reason));
                }
                let mut bytes = Vec::new();
                let mut blob = registry.blob(&reference, &config, 0, credentials)?;
                std::io::Read::read_to_end(&mut blob, &mut bytes).map_err(unpack::input)?;
                let parsed: ImageConfig =
                    serde_json::from_slice(&bytes).map_err(|error| Error::document("image configuration", error))?;
                vec![parsed.platform()]
            }
        };
        Ok(Remote { descriptor, platforms })
    }
}

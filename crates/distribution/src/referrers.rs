//! Manifests that are about another one: signatures, bills of materials.
//!
//! The distribution specification, "Pushing Manifests with Subject": a registry that lists them says so in its answer
//! (`OCI-Subject`). For one that doesn't, clients keep the list themselves: an index under a tag made of the subject's digest.

use std::time::Duration;

use crate::client::{Client, LONGEST_MANIFEST};
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::request::{Action, Requested, translated};
use corten_base::{Digest, Reference};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How often a list is written at the most for one entry.
const MOST_WRITES: usize = 4;
/// After so long others who had read a list have probably written it.
const SETTLED: Duration = Duration::from_millis(100);

/// A manifest about another one, as the list shows it.
pub(crate) struct Referrer {
    subject: Digest,
    digest: Digest,
    entry: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

impl Referrer {
    /// None if the manifest is about no other.
    pub fn of(media_type: &str, bytes: &[u8]) -> Option<Referrer> {
        let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
        let subject = manifest.subject?.digest;
        let digest = Digest::sha256(bytes);
        let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        let kind = manifest.artifact_type.filter(|kind| !kind.is_empty());
        if let Some(kind) = kind.or(manifest.config.and_then(|config| config.media_type)) {
            entry["artifactType"] = kind.into();
        }
        if let Some(annotations) = manifest.annotations {
            entry["annotations"] = annotations.into();
        }
        Some(Referrer { subject, digest, entry })
    }
}

impl Client {
    /// Adds a manifest to the list of those about the same. Registries put no condition on what takes a tag, and another client that
    /// read the list before may write it after: it is looked at again, and written again if the entry is lost.
    pub(crate) async fn list_referrer(
        &self,
        reference: &Reference,
        referrer: &Referrer,
        credentials: Option<&Credentials>,
    ) -> Result<()> {
        let tag = tag_of(&referrer.subject);
        for _ in 0..MOST_WRITES {
            let Some(index) = self.with_referrer(reference, &tag, referrer, credentials).await? else { return Ok(()) };
            self.put_document(reference, &tag, INDEX, index, credentials).await?;
            tokio::time::sleep(SETTLED).await;
        }
        if self.with_referrer(reference, &tag, referrer, credentials).await?.is_some() {
            tracing::warn!(digest = %referrer.digest, list = tag, "the registry does not list what was pushed");
        }
        Ok(())
    }

    /// The list with the entry added; none where it has it.
    async fn with_referrer(
        &self,
        reference: &Reference,
        tag: &str,
        referrer: &Referrer,
        credentials: Option<&Credentials>,
    ) -> Result<Option<bytes::Bytes>> {
        let odd = |reason: &str| Error::Refused {
            code: "referrers".to_owned(),
            message: format!("{tag} of {} {reason}", reference.familiar_name()),
            status: 500,
        };
        let mut index = match self.document(reference, tag, credentials).await? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| odd("is no index"))?,
            None => json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }),
        };
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(odd("is no index"));
        };
        if entries.iter().any(|entry| entry["digest"] == referrer.digest.as_str()) {
            return Ok(None);
        }
        entries.push(referrer.entry.clone());
        let bytes = index.to_string().into_bytes();
        if bytes.len() as u64 > LONGEST_MANIFEST {
            return Err(odd("is too large for another entry"));
        }
        Ok(Some(bytes.into()))
    }

    /// What a registry itself has under a tag; none if there is nothing.
    async fn document(
        &self,
        reference: &Reference,
        tag: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<bytes::Bytes>> {
        // As one who pushes: no mirror is asked, and the same token will do.
        let mut request = Requested::manifest(Method::GET, reference, tag);
        request.action = Action::Push;
        let (response, _) = self.request_upstream(&request, credentials).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let what = || format!("the manifest {tag} of {}", reference.familiar_name());
                let body = response.into_body().collect(LONGEST_MANIFEST, what).await;
                body.map(Some).map_err(|failure| failure.of("Get", request.shown()))
            }
            _ => Err(translated(self.words(), response, &request).await),
        }
    }
}

/// The tag under which a digest's referrers are listed: what tags can't have of it is cut.
fn tag_of(subject: &Digest) -> String {
    let (algorithm, hex) = (subject.algorithm().to_string(), subject.hex());
    format!("{:.32}-{:.64}", algorithm, hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let subject = Digest::sha256(b"x");
        let of = |text: String| Referrer::of("m", text.as_bytes()).map(|referrer| referrer.entry);
        assert!(of("{}".to_owned()).is_none() && of("nonsense".to_owned()).is_none());
        let text = format!(r#"{{"subject":{{"digest":"{subject}"}},"config":{{"mediaType":"c"}}}}"#);
        let (length, entry) = (text.len(), of(text).unwrap());
        assert_eq!((&entry["artifactType"], &entry["size"]), (&json!("c"), &json!(length)));
        let entry = of(format!(
            r#"{{"subject":{{"digest":"{subject}"}},"artifactType":"a","annotations":{{"k":"v"}},"config":{{"mediaType":"c"}}}}"#
        ));
        let entry = entry.unwrap();
        assert_eq!((&entry["artifactType"], &entry["annotations"]), (&json!("a"), &json!({ "k": "v" })));
    }

    #[test]
    fn tags() {
        assert_eq!(tag_of(&Digest::sha256(b"")), format!("sha256-{}", Digest::sha256(b"").hex()));
        let long = Digest::of(corten_base::Algorithm::Sha512, b"");
        assert_eq!(tag_of(&long), format!("sha512-{}", &long.hex()[..64]));
    }
}

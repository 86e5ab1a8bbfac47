//! Registries as these commands see them: without the daemon's settings, with the user's credentials.

use corten_base::{Digest, Platform, Reference};
use corten_distribution::{
    Cause, Client, Credentials, Descriptor, Error, Insecure, Mounted, RegistryConfig, SYSTEM_DIRECTORIES, Words,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::entry::{Blob, DOCKER, Entry, OCI, malformed};
use crate::failure::{Failure, Outcome, local};
use crate::session::Session;

/// The media types of lists.
const LISTS: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"];

/// The most that an image's configuration may have.
const LARGEST_CONFIG: u64 = 8 << 20;

/// A client of the registries that one command names.
pub(super) struct Registry<'a> {
    session: &'a Session,
    runtime: Runtime,
    is_insecure: bool,
    /// Speaks TLS only.
    encrypted: Client,
    /// Does without where a registry may lack it.
    any: Client,
}

/// A manifest or list as a registry gave it, and the client that got it.
pub(super) struct Document {
    reference: Reference,
    descriptor: Descriptor,
    bytes: Vec<u8>,
    client: Client,
}

/// A list's images.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    manifests: Option<Vec<Member>>,
}

#[derive(Deserialize)]
struct Member {
    digest: Digest,
    #[serde(default)]
    platform: Platform,
}

impl<'a> Registry<'a> {
    /// For these references; `is_insecure` is what the user said of them.
    pub fn new(session: &'a Session, is_insecure: bool, references: &[&Reference]) -> Outcome<Registry<'a>> {
        let invalid = |error: Error| Failure::message(error.with_causes());
        let mut config = RegistryConfig::from_environment().map_err(invalid)?;
        config.directories = SYSTEM_DIRECTORIES.map(Into::into).to_vec();
        config.words = Words::Client;
        if is_insecure {
            let domains = references.iter().map(|reference| reference.domain().parse::<Insecure>());
            config.insecure = domains.collect::<Result<_, _>>().map_err(invalid)?;
        }
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(local("cannot wait for registries"))?;
        let encrypted = Client::new(RegistryConfig { plain_http: false, ..config.clone() });
        Ok(Registry { session, runtime, is_insecure, encrypted, any: Client::new(config) })
    }

    /// What a reference names. Without TLS only where the user said so: loopback makes no difference, as with Docker.
    pub fn get(&self, reference: &Reference) -> Outcome<Document> {
        let credentials = self.credentials(reference)?;
        let resolve = |client: &Client| self.runtime.block_on(client.resolve(reference, credentials.as_ref()));
        let (mut client, mut answer) = (&self.encrypted, resolve(&self.encrypted));
        if self.is_insecure && matches!(&answer, Err(Error::Request { source: Cause::PlainHttp, .. })) {
            (client, answer) = (&self.any, resolve(&self.any));
        }
        let (descriptor, bytes) = answer.map_err(|error| unfetched(error, reference))?;
        Ok(Document { reference: reference.clone(), descriptor, bytes: bytes.into(), client: client.clone() })
    }

    /// The image that a document describes.
    pub fn image(&self, document: &Document) -> Outcome<Entry> {
        let Document { reference, descriptor, bytes, client } = document;
        match &descriptor.media_type[..] {
            DOCKER | OCI => {}
            list if LISTS.contains(&list) => {
                return Err(Failure::message(format!("{reference} is a manifest list")));
            }
            other => {
                let text = format!("unsupported manifest media type and no default available: {other}");
                return Err(Failure::message(text));
            }
        }
        let entry = Entry::received(reference.clone(), &descriptor.media_type, bytes)?;
        let config = self.config(client, reference, &entry.blobs()?.config)?;
        Ok(entry.on(platform(&config)?))
    }

    /// The images of a document that is a list. Their platforms are those that the list gives them.
    pub fn images(&self, document: &Document) -> Outcome<Vec<Entry>> {
        let list: List = serde_json::from_slice(&document.bytes).map_err(malformed)?;
        let image = |member: Member| {
            let reference = document.reference.pinned(member.digest.clone());
            let credentials = self.credentials(&reference)?;
            let fetched = document.client.manifest(&reference, &member.digest, credentials.as_ref());
            let fetched = self.runtime.block_on(fetched);
            let (descriptor, bytes) = fetched.map_err(|error| unfetched(error, &document.reference))?;
            let client = document.client.clone();
            let entry = self.image(&Document { reference, descriptor, bytes: bytes.into(), client })?;
            Ok(entry.on(member.platform))
        };
        let members = list.manifests.unwrap_or_default();
        if members.is_empty() {
            return Err(absent(&document.reference));
        }
        members.into_iter().map(image).collect()
    }

    fn config(&self, client: &Client, reference: &Reference, blob: &Blob) -> Outcome<Vec<u8>> {
        if blob.size > LARGEST_CONFIG {
            let text = format!("the image config {} is larger than {LARGEST_CONFIG} bytes", blob.digest);
            return Err(Failure::message(text));
        }
        let credentials = self.credentials(reference)?;
        let wanted = Descriptor { media_type: String::new(), digest: blob.digest.clone(), size: blob.size };
        let read = async {
            let mut stream = client.blob(reference, &wanted, 0, credentials.as_ref()).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = stream.chunk().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        let bytes = self.runtime.block_on(read).map_err(|error| unfetched(error, reference))?;
        if Digest::of(blob.digest.algorithm(), &bytes) != blob.digest {
            return Err(Failure::message(format!("image config verification failed for digest {}", blob.digest)));
        }
        Ok(bytes)
    }

    /// Has the registry take a blob of another of its repositories. False where it would rather have the bytes.
    pub fn mount(&self, target: &Reference, from: &str, blob: &Digest) -> Outcome<bool> {
        let credentials = self.credentials(target)?;
        let mount = async {
            match self.any.mount(target, blob, from, credentials.as_ref()).await? {
                Mounted::Done => Ok(true),
                Mounted::Upload(session) => {
                    self.any.abandon(target, &session, credentials.as_ref()).await;
                    Ok(false)
                }
            }
        };
        let done = self.runtime.block_on(mount);
        done.map_err(|error| unsent(error, &format!("failed to mount blob {from}@{blob} to {target}")))
    }

    /// Stores a manifest or list under the reference's tag, else its digest; the digest that the registry has it by.
    pub fn put(&self, reference: &Reference, media_type: &str, bytes: Vec<u8>) -> Outcome<Digest> {
        let credentials = self.credentials(reference)?;
        let own = Digest::sha256(&bytes);
        let name = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, digest) => digest.unwrap_or(&own).to_string(),
        };
        let put = self.any.put_manifest(reference, &name, media_type, bytes.into(), credentials.as_ref());
        let told = self.runtime.block_on(put);
        let told = told.map_err(|error| unsent(error, &format!("failed to put manifest {reference}")))?;
        Ok(told.unwrap_or(own))
    }

    fn credentials(&self, reference: &Reference) -> Outcome<Option<Credentials>> {
        let Some(auth) = self.session.config().auth_for(reference.domain()) else { return Ok(None) };
        let json = serde_json::to_vec(&auth).map_err(malformed)?;
        Credentials::from_json(&json).map_err(|error| Failure::message(error.to_string()))
    }
}

impl Document {
    /// Whether it names several images.
    pub fn is_list(&self) -> bool {
        LISTS.contains(&&self.descriptor.media_type[..])
    }
}

/// The platform that an image's configuration tells.
fn platform(config: &[u8]) -> Outcome<Platform> {
    let config: Value = serde_json::from_slice(config).map_err(malformed)?;
    // Go's decoder minds no case.
    let members = config.as_object().into_iter().flatten();
    let member = |name: &str| members.clone().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let text = |name: &str| member(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let features = member("os.features").and_then(Value::as_array).into_iter().flatten();
    Ok(Platform {
        architecture: text("architecture").unwrap_or_default(),
        os: text("os").unwrap_or_default(),
        variant: text("variant"),
        os_version: text("os.version"),
        os_features: features.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn absent(reference: &Reference) -> Failure {
    Failure::message(format!("no such manifest: {reference}"))
}

/// Why there is no manifest, in the words of Docker's client: it says nothing else where another place might have had it.
fn unfetched(error: Error, reference: &Reference) -> Failure {
    Failure::message(match error {
        Error::Told { may_be_elsewhere: true, .. } | Error::Request { source: Cause::PlainHttp, .. } => {
            return absent(reference);
        }
        error if error.is_connecting() => unreached(&error),
        error => error.with_causes(),
    })
}

/// Why something could not be stored.
fn unsent(error: Error, what: &str) -> Failure {
    Failure::message(match error {
        error if error.is_connecting() => unreached(&error),
        error => format!("{what}: {}", error.with_causes()),
    })
}

fn unreached(error: &Error) -> String {
    format!("failed to configure transport: error pinging v2 registry: {}", error.with_causes())
}

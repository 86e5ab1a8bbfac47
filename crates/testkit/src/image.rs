//! Image archives, made from nothing.

use corten_archive::{Entry, Kind, Writer};
use corten_base::{DiffId, Digest};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// How a layer or an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// One image: what goes into its configuration, and its layers.
#[derive(Clone, Debug)]
pub struct TestImage {
    /// Names with tags, as `docker save` writes them.
    pub tags: Vec<String>,
    /// Uncompressed layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// The defaults for containers: `{"Cmd": ["sh"]}`.
    pub run: Value,
    /// When it was made.
    pub created: String,
    /// The architecture in Go's words.
    pub architecture: String,
}

impl TestImage {
    /// An image of these layers with one name.
    pub fn new(tag: &str, layers: impl IntoIterator<Item = Vec<u8>>) -> TestImage {
        TestImage {
            tags: vec![tag.to_owned()],
            layers: layers.into_iter().collect(),
            run: json!({ "Cmd": ["/bin/true"], "Env": ["PATH=/bin"] }),
            created: "2026-11-21T00:00:00Z".to_owned(),
            architecture: corten_base::Platform::host().architecture,
        }
    }

    /// The bytes of its configuration.
    pub fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<DiffId> = self.layers.iter().map(|layer| DiffId(Digest::sha256(layer))).collect();
        config(self, &diff_ids)
    }

    /// Its id.
    pub fn id(&self) -> Digest {
        Digest::sha256(&self.config())
    }
}

/// A tar of these files: names ending in a slash are directories.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, data) in files {
        let kind = if name.ends_with('/') { Kind::Directory } else { Kind::File };
        put(&mut writer, &Entry::new(kind, *name, if kind == Kind::Directory { 0o755 } else { 0o644 }), data);
    }
    finish(writer)
}

/// A tar of these entries, whatever they are, each with its data.
pub fn tar_of(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    entries.iter().for_each(|(entry, data)| put(&mut writer, entry, data));
    finish(writer)
}

/// An entry that links to something.
pub fn link(kind: Kind, name: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..Entry::new(kind, name, 0o777) }
}

/// Bytes, packed.
pub fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).expect("memory takes everything"),
    }
}

/// Bytes that don't compress, others for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What `docker save` writes: configurations and layers by digest, `manifest.json` at the end.
pub fn docker_archive_bytes(images: &[TestImage], layers: Packing) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut items = Vec::new();
    for image in images {
        let mut paths = Vec::new();
        for layer in &image.layers {
            let path = format!("{}/layer.tar", Digest::sha256(layer).hex());
            put(&mut writer, &Entry::new(Kind::File, path.as_str(), 0o644), &pack(layer, layers));
            paths.push(path);
        }
        let config = format!("{}.json", image.id().hex());
        put(&mut writer, &Entry::new(Kind::File, config.as_str(), 0o644), &image.config());
        items.push(json!({ "Config": config, "RepoTags": image.tags, "Layers": paths }));
    }
    put(&mut writer, &Entry::new(Kind::File, "manifest.json", 0o644), Value::from(items).to_string().as_bytes());
    finish(writer)
}

/// An OCI image layout as a tar. With `nested`, each image is behind an index of its own, beside an attestation.
pub fn oci_archive_bytes(images: &[TestImage], packing: Packing, nested: bool) -> Vec<u8> {
    let mut layout = Layout::default();
    for image in images {
        let mut entry = layout.image(image, packing);
        if nested {
            let mut attestation = entry.clone();
            attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["platform"] = json!({ "os": "linux", "architecture": image.architecture });
            entry = layout.index(&[attestation, entry]);
        }
        layout.name(entry, &image.tags);
    }
    layout.finish()
}

/// An OCI image layout as a tar, with one index under the first image's names: the images are for their architectures.
pub fn oci_index_archive_bytes(images: &[TestImage], packing: Packing) -> Vec<u8> {
    let mut layout = Layout::default();
    let entries: Vec<Value> = images.iter().map(|image| layout.entry(image, packing)).collect();
    let index = layout.index(&entries);
    layout.name(index, &images[0].tags);
    layout.finish()
}

/// The same with a statement about each image behind the images, as BuildKit writes it: of [`PREDICATE`], about the architecture.
pub fn oci_attested_archive_bytes(images: &[TestImage], packing: Packing) -> Vec<u8> {
    let mut layout = Layout::default();
    let mut entries: Vec<Value> = images.iter().map(|image| layout.entry(image, packing)).collect();
    let subjects = entries.clone();
    entries.extend(images.iter().zip(&subjects).map(|(image, subject)| layout.attestation(image, subject)));
    let index = layout.index(&entries);
    layout.name(index, &images[0].tags);
    layout.finish()
}

/// An OCI image layout as a tar, with an artifact under a name: a configuration of `kind` and one blob.
pub fn oci_artifact_archive_bytes(name: &str, kind: &str, blob: &[u8]) -> Vec<u8> {
    let mut layout = Layout::default();
    let config = layout.blob(b"{\"name\":\"chart\"}".to_vec(), kind);
    let layer = layout.blob(blob.to_vec(), "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let annotations = json!({ "org.opencontainers.image.created": "2026-11-21T00:00:00Z" });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": annotations });
    let entry = layout.blob(manifest.to_string().into_bytes(), MANIFEST);
    layout.name(entry, &[name.to_owned()]);
    layout.finish()
}

/// What the statements of [`oci_attested_archive_bytes`] state.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// An OCI image layout on its way.
#[derive(Default)]
struct Layout {
    blobs: Vec<(Digest, Vec<u8>)>,
    entries: Vec<Value>,
}

impl Layout {
    /// Adds a blob; its descriptor.
    fn blob(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.blobs.push((digest, bytes));
        descriptor
    }

    /// Adds an image; the descriptor of its manifest.
    fn image(&mut self, image: &TestImage, packing: Packing) -> Value {
        let config = self.blob(image.config(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| self.blob(pack(layer, packing), media_type(packing))).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(manifest.to_string().into_bytes(), MANIFEST)
    }

    /// Adds an image as an index has it.
    fn entry(&mut self, image: &TestImage, packing: Packing) -> Value {
        let mut entry = self.image(image, packing);
        entry["platform"] = json!({ "os": "linux", "architecture": image.architecture });
        entry
    }

    /// Adds a statement about an image.
    fn attestation(&mut self, image: &TestImage, subject: &Value) -> Value {
        let statement = json!({ "predicateType": PREDICATE, "predicate": { "architecture": image.architecture } });
        let mut layer = self.blob(statement.to_string().into_bytes(), "application/vnd.in-toto+json");
        layer["annotations"] = json!({ "in-toto.io/predicate-type": PREDICATE });
        let config = json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = self.blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let mut entry = self.blob(manifest.to_string().into_bytes(), MANIFEST);
        entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject["digest"],
        });
        entry
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(index.to_string().into_bytes(), INDEX)
    }

    /// Adds a line to `index.json` for each name, or one without.
    fn name(&mut self, entry: Value, names: &[String]) {
        self.entries.extend(names.iter().map(|name| {
            let mut named = entry.clone();
            named["annotations"] = json!({ "io.containerd.image.name": name });
            named
        }));
        if names.is_empty() {
            self.entries.push(entry);
        }
    }

    fn finish(self) -> Vec<u8> {
        let index = json!({ "schemaVersion": 2, "manifests": self.entries }).to_string();
        let mut writer = Writer::new(Vec::new());
        put(&mut writer, &Entry::new(Kind::File, "oci-layout", 0o644), br#"{"imageLayoutVersion":"1.0.0"}"#);
        put(&mut writer, &Entry::new(Kind::File, "index.json", 0o644), index.as_bytes());
        for (digest, bytes) in self.blobs {
            let path = format!("blobs/sha256/{}", digest.hex());
            put(&mut writer, &Entry::new(Kind::File, path.as_str(), 0o644), &bytes);
        }
        finish(writer)
    }
}

/// Writes a docker-archive of one image with layers from files, which are streamed: they may be large.
pub fn docker_archive(path: &Path, tag: &str, layer_tars: &[impl AsRef<Path>]) -> io::Result<()> {
    let mut image = TestImage::new(tag, []);
    image.run =
        json!({ "Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] });
    let mut writer = Writer::new(BufWriter::new(File::create(path)?));
    let (mut diff_ids, mut paths) = (Vec::new(), Vec::new());
    for layer in layer_tars {
        let diff_id = DiffId(digest_of(layer.as_ref())?);
        let mut entry = Entry::new(Kind::File, format!("{}/layer.tar", diff_id.hex()), 0o644);
        entry.size = fs::metadata(layer)?.len();
        writer.append(&entry, BufReader::new(File::open(layer)?)).map_err(io::Error::other)?;
        paths.push(format!("{}/layer.tar", diff_id.hex()));
        diff_ids.push(diff_id);
    }
    let config = config(&image, &diff_ids);
    let name = format!("{}.json", Digest::sha256(&config).hex());
    let manifest = json!([{ "Config": name, "RepoTags": [tag], "Layers": paths }]).to_string();
    for (name, bytes) in [(name.as_str(), &config[..]), ("manifest.json", manifest.as_bytes())] {
        writer.append_bytes(&Entry::new(Kind::File, name, 0o644), bytes).map_err(io::Error::other)?;
    }
    writer.finish().map_err(io::Error::other).map(drop)
}

/// Writes a tar that holds one file of random bytes, `random`.
pub fn tar_of_random_file(path: &Path, bytes: u64) -> io::Result<()> {
    let mut entry = Entry::new(Kind::File, "random", 0o644);
    entry.size = bytes;
    let mut writer = Writer::new(BufWriter::new(File::create(path)?));
    writer.append(&entry, File::open("/dev/urandom")?.take(bytes)).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other).map(drop)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn media_type(packing: Packing) -> &'static str {
    match packing {
        Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

fn config(image: &TestImage, diff_ids: &[DiffId]) -> Vec<u8> {
    let history: Vec<Value> = diff_ids
        .iter()
        .enumerate()
        .map(|(number, _)| json!({ "created": image.created, "created_by": format!("layer {number}") }))
        .collect();
    let config = json!({
        "architecture": image.architecture,
        "os": "linux",
        "created": image.created,
        "config": image.run,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    config.to_string().into_bytes()
}

pub(crate) fn put(writer: &mut Writer<Vec<u8>>, entry: &Entry, data: &[u8]) {
    writer.append_bytes(entry, data).expect("memory takes everything");
}

pub(crate) fn finish(writer: Writer<Vec<u8>>) -> Vec<u8> {
    writer.finish().expect("memory takes everything")
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut digester = corten_base::Digester::sha256();
    io::copy(&mut File::open(path)?, &mut digester)?;
    Ok(digester.finish())
}

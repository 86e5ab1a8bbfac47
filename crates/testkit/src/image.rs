//! Image archives, good and bad, made from nothing.

use corten_archive::{Entry, Kind, Reader, Writer};
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

/// Archives that `load` must refuse, by what is wrong with them. `whole` is a good docker-archive that some are made from;
/// `outside` is a folder that some try to write to.
pub fn hostile_archives(whole: &[u8], outside: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let layer = tar(&[("a/", b""), ("a/file", b"content")]);
    let image = TestImage::new("hostile:1", [layer.clone()]);
    let outside = outside.to_string_lossy();
    let mut archives = vec![
        ("nothing", Vec::new()),
        ("no tar", b"this is no tar\n".repeat(100)),
        ("an empty tar", tar(&[])),
        ("cut short in the first header", whole[..300].to_vec()),
        ("cut short in the middle", whole[..whole.len() / 2].to_vec()),
        ("cut short before the manifest", without(whole, "manifest.json")),
        ("gzip cut short", {
            let packed = pack(whole, Packing::Gzip);
            packed[..packed.len() / 2].to_vec()
        }),
        ("gzip with a damaged check sum", {
            let mut packed = pack(whole, Packing::Gzip);
            let at = packed.len() - 6;
            packed[at] ^= 1;
            packed
        }),
        ("no manifest", without(whole, "manifest.json")),
        ("a manifest that is no JSON", replaced(whole, "manifest.json", b"[{")),
        ("a manifest of null", replaced(whole, "manifest.json", b"null")),
        ("a manifest of another shape", replaced(whole, "manifest.json", b"{\"Config\":1}")),
        ("a configuration that is missing", archive(&image, |item| item["Config"] = json!("missing.json"))),
        ("a configuration outside", archive(&image, |item| item["Config"] = json!("../../etc/passwd"))),
        ("a layer that is missing", archive(&image, |item| item["Layers"] = json!(["missing/layer.tar"]))),
        ("a layer outside", archive(&image, |item| item["Layers"] = json!(["../../../etc/passwd"]))),
        (
            "more layers than the configuration has",
            archive(&image, |item| {
                let layer = item["Layers"][0].clone();
                item["Layers"] = json!([layer, layer]);
            }),
        ),
        ("a tag with upper case", archive(&image, |item| item["RepoTags"] = json!(["Hostile:1"]))),
        ("a tag that is a path", archive(&image, |item| item["RepoTags"] = json!(["../../x:1"]))),
        ("a name without a tag", archive(&image, |item| item["RepoTags"] = json!(["hostile"]))),
        ("another layer than the configuration says", with_layer(&image, &tar(&[("b", b"other")]))),
        ("a layer that is no tar", with_own_layer(b"{} no tar".repeat(100))),
        ("a layer cut short", with_own_layer(layer[..700].to_vec())),
        ("a configuration that is no JSON", with_config(&image, b"{")),
        ("a configuration of another system", with_config(&image, br#"{"os":"windows","rootfs":{"diff_ids":[]}}"#)),
        ("diff ids that are paths", with_config(&image, br#"{"os":"linux","rootfs":{"diff_ids":["../../x"]}}"#)),
        (
            "links in a circle",
            tar_of(&[
                (link(Kind::Symlink, "manifest.json", "b"), b""),
                (link(Kind::Symlink, "b", "manifest.json"), b""),
            ]),
        ),
        ("a file outside", tar(&[("../../outside", b"x")])),
        ("a manifest that is a device", tar_of(&[(Entry::new(Kind::CharDevice, "manifest.json", 0o666), b"")])),
    ];
    archives.extend(hostile_layers(&outside).into_iter().map(|(what, layer)| (what, with_own_layer(layer))));
    archives.extend(hostile_layouts());
    archives
}

/// Layers that must be refused.
fn hostile_layers(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let huge = |size: u64| {
        let mut bytes = tar(&[("file", b"content")]);
        set_size(&mut bytes, size);
        bytes
    };
    vec![
        ("a layer with a file above its root", tar(&[("../../escaped", b"x")])),
        ("a layer with a file above its root, deeper", tar(&[("a/", b""), ("a/../../escaped", b"x")])),
        ("a layer with a hard link outside", tar_of(&[(link(Kind::HardLink, "x", "../../../etc/shadow"), b"")])),
        ("a layer with a hard link to nothing", tar_of(&[(link(Kind::HardLink, "x", outside), b"")])),
        ("a layer with a whiteout of its parent", tar(&[("a/", b""), ("a/.wh...", b"")])),
        ("a layer with a file larger than itself", huge(1 << 32)),
        ("a layer with a file larger than any disk", huge(0o77777777777)),
    ]
}

/// OCI layouts that must be refused.
fn hostile_layouts() -> Vec<(&'static str, Vec<u8>)> {
    let image = TestImage::new("hostile:1", [tar(&[("file", b"content")])]);
    let whole = oci_archive_bytes(std::slice::from_ref(&image), Packing::Gzip, true);
    let config = format!("blobs/sha256/{}", image.id().hex());
    let own = Digest::sha256(b"").hex().to_owned();
    let circle = json!({ "schemaVersion": 2, "manifests": [{ "digest": format!("sha256:{own}"), "size": 1, "mediaType": INDEX }] });
    let index = json!({ "schemaVersion": 2, "manifests": vec![circle["manifests"][0].clone(); 2000] });
    let mut changed = image.config();
    changed.push(b' ');
    vec![
        ("a layout with a changed configuration", replaced(&whole, &config, &changed)),
        ("a layout without its configuration", without(&whole, &config)),
        ("a layout with an index of 2000", replaced(&whole, "index.json", index.to_string().as_bytes())),
        ("a layout of another shape", replaced(&whole, "index.json", b"{\"manifests\":7}")),
        ("a layout that names what isn't there", replaced(&whole, "index.json", circle.to_string().as_bytes())),
        (
            "a layout with a path for a digest",
            replaced(
                &whole,
                "index.json",
                br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}"#,
            ),
        ),
    ]
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

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

/// A docker-archive whose manifest was changed.
fn archive(image: &TestImage, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let whole = docker_archive_bytes(std::slice::from_ref(image), Packing::Plain);
    let mut manifest: Value = serde_json::from_slice(&read(&whole, "manifest.json")).expect("it was just written");
    change(&mut manifest[0]);
    replaced(&whole, "manifest.json", manifest.to_string().as_bytes())
}

/// A docker-archive with another layer than its configuration says.
fn with_layer(image: &TestImage, layer: &[u8]) -> Vec<u8> {
    let whole = docker_archive_bytes(std::slice::from_ref(image), Packing::Plain);
    replaced(&whole, &format!("{}/layer.tar", Digest::sha256(&image.layers[0]).hex()), layer)
}

/// A docker-archive whose configuration agrees with this layer.
fn with_own_layer(layer: Vec<u8>) -> Vec<u8> {
    docker_archive_bytes(&[TestImage::new("hostile:1", [layer])], Packing::Plain)
}

fn with_config(image: &TestImage, config: &[u8]) -> Vec<u8> {
    let whole = docker_archive_bytes(std::slice::from_ref(image), Packing::Plain);
    replaced(&whole, &format!("{}.json", image.id().hex()), config)
}

/// The archive with one file's bytes replaced.
fn replaced(archive: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    rewritten(archive, |path| if path == name { Some(Some(bytes)) } else { Some(None) })
}

/// The archive without one file.
fn without(archive: &[u8], name: &str) -> Vec<u8> {
    rewritten(archive, |path| if path == name { None } else { Some(None) })
}

/// `change` answers none to leave a file out, or bytes to put in the place of its own.
fn rewritten<'a>(archive: &[u8], change: impl Fn(&str) -> Option<Option<&'a [u8]>>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for_each(archive, |entry, data| {
        if let Some(replacement) = change(&String::from_utf8_lossy(&entry.path)) {
            put(&mut writer, entry, replacement.unwrap_or(data));
        }
    });
    finish(writer)
}

fn read(archive: &[u8], name: &str) -> Vec<u8> {
    let mut found = Vec::new();
    for_each(archive, |entry, data| {
        if entry.path == name.as_bytes() {
            found = data.to_vec();
        }
    });
    found
}

fn for_each(archive: &[u8], mut each: impl FnMut(&Entry, &[u8])) {
    let mut reader = Reader::new(archive, corten_archive::Limits::default());
    while let Some(entry) = reader.next_entry().expect("the archive is good") {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).expect("the archive is good");
        each(&entry, &data);
    }
}

/// Changes the size in the first header, and its check sum.
fn set_size(tar: &mut [u8], size: u64) {
    tar[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn put(writer: &mut Writer<Vec<u8>>, entry: &Entry, data: &[u8]) {
    writer.append_bytes(entry, data).expect("memory takes everything");
}

fn finish(writer: Writer<Vec<u8>>) -> Vec<u8> {
    writer.finish().expect("memory takes everything")
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut digester = corten_base::Digester::sha256();
    io::copy(&mut File::open(path)?, &mut digester)?;
    Ok(digester.finish())
}

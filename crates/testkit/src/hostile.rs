//! What must be refused: archives, layers and layouts that mean harm, each by what is wrong with it.

use std::io::Read;
use std::path::Path;

use corten_archive::{Entry, Kind, Reader, Writer};
use corten_base::Digest;
use serde_json::{Value, json};

use crate::image::{
    INDEX, Packing, TestImage, docker_archive_bytes, finish, link, oci_archive_bytes, pack, put, tar, tar_of,
};

/// Archives that `load` must refuse, by what is wrong with them. `whole` is a good docker-archive that some are made from;
/// `outside` is a folder that some try to write to.
pub fn archives(whole: &[u8], outside: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let layer = tar(&[("a/", b""), ("a/file", b"content")]);
    let image = TestImage::new("hostile:1", [layer.clone()]);
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
    archives.extend(layers(outside).into_iter().map(|(what, layer)| (what, with_own_layer(layer))));
    archives.extend(layouts());
    archives
}

/// Layers that must be refused, by what is wrong with them; `outside` is a folder that one links to.
pub fn layers(outside: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let outside = outside.to_string_lossy();
    let hard_link = |name: &str, target: &str| (link(Kind::HardLink, name, target), &b""[..]);
    let file = |name: &str| (Entry::new(Kind::File, name, 0o644), &b"x"[..]);
    let directory = |name: &str| (Entry::new(Kind::Directory, name, 0o755), &b""[..]);
    let mut layers = vec![
        ("a layer with a file above its root", tar(&[("../../escaped", b"x")])),
        ("a layer with a file above its root, deeper", tar(&[("a/", b""), ("a/../../escaped", b"x")])),
        ("a layer with a hard link outside", tar_of(&[hard_link("x", "../../../etc/shadow")])),
        ("a layer with a hard link to nothing", tar_of(&[hard_link("x", &outside)])),
        ("a layer with a hard link to itself", tar_of(&[hard_link("x", "x")])),
        ("a layer with a hard link to itself, by another name", tar_of(&[hard_link("d/x", "./d/../d/x")])),
        ("a layer with a hard link to a directory", tar_of(&[directory("d"), hard_link("x", "d")])),
        ("a layer with a hard link to its root", tar_of(&[hard_link("x", "/")])),
        ("a layer with a hard link to its own directory", tar_of(&[directory("d"), hard_link("d/x", "d")])),
        ("a layer with a hard link to a later file", tar_of(&[hard_link("x", "later"), file("later")])),
        ("a layer with hard links in a circle", tar_of(&[hard_link("x", "y"), hard_link("y", "x")])),
        ("a layer with a whiteout of its parent", tar(&[("a/", b""), ("a/.wh...", b"")])),
        ("a layer with a whiteout of a parent that it implies", tar(&[("a/b/.wh...", b"")])),
        ("a layer with a whiteout above its root", tar(&[("../.wh.escaped", b"")])),
        ("a layer with a whiteout of the root's parent", tar(&[(".wh...", b"")])),
        ("a layer with a whiteout of the directory itself", tar(&[("a/", b""), ("a/.wh..", b"")])),
        ("a layer with a whiteout of nothing", tar(&[("a/", b""), ("a/.wh.", b"")])),
    ];
    layers.extend(sizes());
    layers
}

/// Layers with a file whose size can't be.
fn sizes() -> Vec<(&'static str, Vec<u8>)> {
    let sized = |field: [u8; 12]| {
        let mut bytes = tar(&[("file", b"content")]);
        bytes[124..136].copy_from_slice(&field);
        seal(&mut bytes);
        bytes
    };
    let binary = |first: u8, size: u64| {
        let mut field = [first; 12];
        field[1..4].fill(if first == 0xff { 0xff } else { 0 });
        field[4..].copy_from_slice(&size.to_be_bytes());
        sized(field)
    };
    vec![
        ("a layer with a file larger than itself", sized(*b"40000000000\0")),
        ("a layer with a file larger than any disk", sized(*b"77777777777\0")),
        ("a layer with a file as large as numbers are", binary(0x80, i64::MAX as u64)),
        ("a layer with a file larger than numbers are", binary(0x80, 1 << 63)),
        ("a layer with a file of 2^64 - 1 bytes", binary(0x80, u64::MAX)),
        ("a layer with a file of -1 bytes", binary(0xff, u64::MAX)),
        ("a layer with a file of -512 bytes", binary(0xff, -512_i64 as u64)),
        ("a layer with a size of -1 in text", sized(*b"-1\0\0\0\0\0\0\0\0\0\0")),
        ("a layer with a size that is no number", sized(*b"0000000000x\0")),
        ("a layer with records of a larger size", with_size("4096")),
        ("a layer with records of a huge size", with_size("9223372036854775807")),
        ("a layer with records of a size beyond numbers", with_size("18446744073709551616")),
        ("a layer with records of a smaller size", with_size("0")),
        ("a layer with records of a negative size", with_size("-1")),
    ]
}

/// A tar of one file of two blocks behind a PAX record that says another size.
fn with_size(size: &str) -> Vec<u8> {
    let body = format!("size={size}\n");
    // The record's length counts its own two digits and the space.
    let record = format!("{} {body}", body.len() + 3);
    let mut bytes = tar(&[("PaxHeaders.0/file", record.as_bytes()), ("file", &[b'x'; 1000])]);
    bytes[156] = b'x';
    seal(&mut bytes);
    bytes
}

/// Makes the first header's check sum right again.
fn seal(tar: &mut [u8]) {
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// OCI layouts that must be refused.
fn layouts() -> Vec<(&'static str, Vec<u8>)> {
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

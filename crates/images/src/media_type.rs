//! What the parts of images are called, and which of these names are believed.
//!
//! OCI image-spec media-types.md, and Docker's names for the same. What a document is is told by what it holds, as names are
//! often missing or wrong; but one that says another thing in its header than in itself is refused, as readers could take it for
//! either (CVE-2021-41190). Texts and rules are Docker 28's (distribution/registry.go, and docker/distribution's manifests).

use crate::types::Descriptor;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What old registries and clients wrote for any part of an image.
const OLD: [&str; 4] = ["", "application/octet-stream", "application/json", "text/html"];
/// How the names of an image's parts begin, up to a dot.
const PREFIXES: [&str; 2] = ["application/vnd.oci.image", "application/vnd.docker"];

pub(crate) fn is_index(media_type: &str) -> bool {
    [OCI_INDEX, DOCKER_LIST].contains(&media_type)
}

pub(crate) fn is_manifest(media_type: &str) -> bool {
    [OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type)
}

/// What a manifest or index is called: what it says itself, else what it was called if that can be, else OCI's name.
pub(crate) fn of_document<'a>(own: Option<&'a str>, called: &'a str, is_index: bool) -> &'a str {
    let (usual, can_be) =
        if is_index { (OCI_INDEX, self::is_index(called)) } else { (OCI_MANIFEST, is_manifest(called)) };
    own.filter(|own| !own.is_empty()).unwrap_or(if can_be { called } else { usual })
}

/// Whether it may be an image's configuration.
pub(crate) fn is_config(media_type: &str) -> bool {
    media_type.contains("image.config") || media_type.contains("container.image") || OLD.contains(&media_type)
}

/// Whether it may be a part of an image. What a layer is packed with is told by its first bytes, whatever its name says.
pub(crate) fn is_part(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with('.');
    OLD.contains(&lower.as_str()) || PREFIXES.iter().any(|prefix| lower.strip_prefix(prefix).is_some_and(is_below))
}

/// Why a document that was sent as one media type can't be what it says itself; none if it can. An unknown name of the sender's
/// means nothing.
pub(crate) fn disagreement(sent_as: &str, own: &str, is_index: bool) -> Option<String> {
    let (kind, is_optional) = match sent_as {
        OCI_MANIFEST if is_index => return Some("ocimanifest: expected manifest but found index".to_owned()),
        OCI_INDEX if !is_index => return Some("index: expected index but found manifest".to_owned()),
        OCI_MANIFEST => ("manifest", true),
        OCI_INDEX => ("image index", true),
        DOCKER_MANIFEST => ("manifest", false),
        DOCKER_LIST => ("manifest list", false),
        _ => return None,
    };
    let is_fine = own == sent_as || (is_optional && own.is_empty());
    let present = if is_optional { "if present, " } else { "" };
    (!is_fine).then(|| format!("{present}mediaType in {kind} should be '{sent_as}' not '{own}'"))
}

/// The descriptor of a layer's blob. Of what archives have, registries have layers only as gzip: anything else is called a plain one.
pub(crate) fn layer_descriptor(digest: &corten_base::Digest, size: u64, is_gzip: bool) -> Descriptor {
    let suffix = if is_gzip { ".gzip" } else { "" };
    Descriptor { media_type: format!("{DOCKER_LAYER}{suffix}"), digest: digest.clone(), size }
}

/// Whether a layer is stored as an archive had it, as a plain tar or packed in a way of its own: no registry has it so.
pub(crate) fn is_plain_layer(media_type: &str) -> bool {
    media_type == DOCKER_LAYER
}

/// The media type of the same layer packed with gzip.
pub(crate) fn packed_layer(media_type: &str) -> String {
    if media_type.starts_with("application/vnd.docker.") {
        format!("{DOCKER_LAYER}.gzip")
    } else {
        "application/vnd.oci.image.layer.v1.tar+gzip".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_images() {
        let check = |media_type: &str, expect| assert_eq!(is_part(media_type), expect, "{media_type}");
        check("application/vnd.oci.image.layer.v1.tar+gzip", true);
        check("APPLICATION/vnd.docker.image.rootfs.diff.tar.gzip", true);
        check("application/vnd.oci.image", true);
        check("application/octet-stream", true);
        check("", true);
        check("application/vnd.oci.images_are_fun", false);
        check("application/vnd.oci.empty.v1+json", false);
        check("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false);
        check("application/octet-stream.x", false);
        check("application/x-tar", false);
    }

    #[test]
    fn what_documents_are_called() {
        let check =
            |own, called: &str, is_index, expect| assert_eq!(of_document(own, called, is_index), expect, "{called}");
        check(Some(DOCKER_MANIFEST), "text/plain", false, DOCKER_MANIFEST);
        check(None, DOCKER_LIST, true, DOCKER_LIST);
        check(None, "text/plain", false, OCI_MANIFEST);
        check(Some(""), "", true, OCI_INDEX);
        check(None, OCI_MANIFEST, true, OCI_INDEX);
    }

    #[test]
    fn what_was_sent_as_something_else() {
        let check = |sent_as: &str, own: &str, is_index, expect: Option<&str>| {
            assert_eq!(disagreement(sent_as, own, is_index).as_deref(), expect, "{sent_as} {own}");
        };
        check(OCI_MANIFEST, "", false, None);
        check(OCI_MANIFEST, OCI_MANIFEST, false, None);
        check(OCI_INDEX, "", true, None);
        check(DOCKER_MANIFEST, DOCKER_MANIFEST, false, None);
        check(DOCKER_LIST, DOCKER_LIST, true, None);
        check("text/plain", OCI_INDEX, true, None);
        check("", "", false, None);
        let docker = "mediaType in manifest should be 'application/vnd.docker.distribution.manifest.v2+json' not ";
        check(DOCKER_MANIFEST, "", false, Some(&format!("{docker}''")));
        check(DOCKER_MANIFEST, OCI_MANIFEST, false, Some(&format!("{docker}'{OCI_MANIFEST}'")));
        check(DOCKER_MANIFEST, DOCKER_LIST, true, Some(&format!("{docker}'{DOCKER_LIST}'")));
        let list = format!("mediaType in manifest list should be '{DOCKER_LIST}' not ''");
        check(DOCKER_LIST, "", true, Some(&list));
        let manifest = format!("if present, mediaType in manifest should be '{OCI_MANIFEST}' not 'x'");
        check(OCI_MANIFEST, "x", false, Some(&manifest));
        let index = format!("if present, mediaType in image index should be '{OCI_INDEX}' not '{DOCKER_LIST}'");
        check(OCI_INDEX, DOCKER_LIST, true, Some(&index));
        check(OCI_MANIFEST, "", true, Some("ocimanifest: expected manifest but found index"));
        check(OCI_INDEX, "", false, Some("index: expected index but found manifest"));
    }
}

//! Images: lists, inspection, history, removal, filters.

use super::inspect::STORAGE_DRIVER;
use crate::error::Failure;
use crate::query::{self, Filters};
use corten_api_types::{
    AttestationStatement, Descriptor, Empty, GraphDriver, HealthConfig, HistoryItem, ImageConfig, ImageDeleteItem,
    ImageInspect, ImageMetadata, ImageSummary, ManifestAttestation, ManifestImage, ManifestSize, ManifestSummary,
    RootFs, UnpackedSize,
};
use corten_base::ContainerId;
use corten_base::time::{ZERO_TIME, rfc3339_nano};
use corten_images::{self as images, Deleted, Image, ManifestKind, RunConfig, Statement, Summary};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One line of `GET /images/json`. How many containers use it is not counted here, which is what -1 says.
pub(crate) fn summary(image: &Summary) -> ImageSummary {
    ImageSummary {
        containers: -1,
        created: image.created,
        id: image.id.to_string(),
        labels: super::null_if_empty(&image.labels),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        descriptor: Some(descriptor(&image.target)),
        manifests: None,
        repo_digests: image.repo_digests.clone(),
        repo_tags: image.repo_tags.clone(),
        shared_size: -1,
        size: size(image.size),
    }
}

/// `GET /images/{name}/json`.
pub(crate) fn inspect(image: &Image, layers: &[PathBuf]) -> ImageInspect {
    let config = &image.config;
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: comment(image),
        created: config.created.clone().unwrap_or_default(),
        docker_version: config.docker_version.clone(),
        author: config.author.clone(),
        config: run_config(&config.config),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: size(image.size),
        graph_driver: graph_driver(layers),
        root_fs: RootFs { kind: "layers".to_owned(), layers: image.layers.iter().map(ToString::to_string).collect() },
        metadata: ImageMetadata { last_tag_time: image.last_tagged.map_or_else(|| ZERO_TIME.to_owned(), rfc3339_nano) },
        descriptor: Some(descriptor(&image.target)),
        manifests: None,
    }
}

/// The image's directories in the words of Docker's overlay driver, the top layer as the one above the others.
fn graph_driver(layers: &[PathBuf]) -> GraphDriver {
    let text = |path: &Path| path.display().to_string();
    let data = layers.split_first().map(|(top, below)| {
        let mut data = BTreeMap::from([
            ("MergedDir".to_owned(), text(&top.with_file_name("merged"))),
            ("UpperDir".to_owned(), text(top)),
            ("WorkDir".to_owned(), text(&top.with_file_name("work"))),
        ]);
        if !below.is_empty() {
            let below: Vec<String> = below.iter().map(|path| text(path)).collect();
            data.insert("LowerDir".to_owned(), below.join(":"));
        }
        data
    });
    GraphDriver { data, name: STORAGE_DRIVER.to_owned() }
}

/// The comment, where it is missing that of the last step.
fn comment(image: &Image) -> String {
    let last = image.config.history.last().map(|step| step.comment.clone());
    match image.config.comment.as_str() {
        "" => last.unwrap_or_default(),
        comment => comment.to_owned(),
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) fn descriptor(of: &corten_images::Descriptor) -> Descriptor {
    Descriptor {
        media_type: of.media_type.clone(),
        digest: of.digest.to_string(),
        size: size(of.size),
        ..Descriptor::default()
    }
}

/// One of an image's manifests, with the containers that were made from it.
pub(crate) fn manifest((manifest, containers): (images::ManifestSummary, Vec<ContainerId>)) -> ManifestSummary {
    let (mut image_data, mut attestation_data) = (None, None);
    let kind = match &manifest.kind {
        ManifestKind::Image { platform, .. } => {
            image_data = Some(ManifestImage {
                platform: platform.clone(),
                containers: containers.iter().map(ToString::to_string).collect(),
                size: UnpackedSize { unpacked: size(manifest.unpacked) },
            });
            "image"
        }
        ManifestKind::Attestation { subject } => {
            attestation_data = Some(ManifestAttestation { subject: subject.clone() });
            "attestation"
        }
        ManifestKind::Unknown => "unknown",
    };
    ManifestSummary {
        id: manifest.descriptor.digest.to_string(),
        available: manifest.available,
        size: ManifestSize { content: size(manifest.content), total: size(manifest.content + manifest.unpacked) },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
        descriptor: Descriptor {
            annotations: Some(manifest.annotations).filter(|annotations| !annotations.is_empty()),
            platform: manifest.platform,
            artifact_type: manifest.artifact_type,
            ..descriptor(&manifest.descriptor)
        },
    }
}

/// One statement about an image.
pub(crate) fn statement(statement: Statement) -> Result<AttestationStatement, Failure> {
    let parse = |text: Vec<u8>| {
        serde_json::from_slice(&text).map_err(|error| {
            let digest = &statement.descriptor.digest;
            Failure::internal(format!("the statement {digest} is not JSON: {error}"))
        })
    };
    Ok(AttestationStatement {
        statement: statement.text.clone().map(parse).transpose()?,
        descriptor: Descriptor {
            annotations: Some(statement.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            ..descriptor(&statement.descriptor)
        },
        predicate_type: statement.predicate_type.clone(),
    })
}

fn run_config(config: &RunConfig) -> ImageConfig {
    let keys = |map: &Option<BTreeMap<String, serde_json::Value>>| -> Option<BTreeMap<String, Empty>> {
        map.as_ref().map(|map| map.keys().map(|key| (key.clone(), Empty {})).collect())
    };
    let health = config.healthcheck.as_ref().map(|health| HealthConfig {
        test: Some(health.test.clone()).filter(|test| !test.is_empty()),
        interval: health.interval,
        timeout: health.timeout,
        start_period: health.start_period,
        start_interval: health.start_interval,
        retries: health.retries,
    });
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: Some(config.env.clone()).filter(|env| !env.is_empty()),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        args_escaped: config.args_escaped,
        healthcheck: health,
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
    }
}

/// One line of `GET /images/{name}/history`.
pub(crate) fn history(item: corten_images::HistoryItem) -> HistoryItem {
    HistoryItem {
        comment: item.comment,
        created: item.created,
        created_by: item.created_by,
        id: item.id,
        size: size(item.size),
        tags: Some(item.tags).filter(|tags| !tags.is_empty()),
    }
}

/// One step of `DELETE /images/{name}`.
pub(crate) fn deleted(step: Deleted) -> ImageDeleteItem {
    match step {
        Deleted::Untagged(untagged) => ImageDeleteItem { untagged, ..ImageDeleteItem::default() },
        Deleted::Deleted(deleted) => ImageDeleteItem { deleted, ..ImageDeleteItem::default() },
    }
}

/// The list's filters.
pub(crate) fn filters(mut filters: Filters, all: bool, now: SystemTime) -> Result<corten_images::Filters, Failure> {
    query::only(&filters, &["dangling", "label", "label!", "before", "since", "reference", "until"])?;
    let dangling = query::boolean(&filters, "dangling")?;
    let mut take = |name: &str| filters.remove(name).unwrap_or_default();
    let until = take("until").first().map(|text| corten_base::time::parse_since(text, now)).transpose()?;
    Ok(corten_images::Filters {
        all,
        reference: take("reference"),
        dangling,
        label: take("label"),
        label_not: take("label!"),
        before: take("before"),
        since: take("since"),
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_filters() {
        let some = |name: &str, value: &str| Filters::from([(name.to_owned(), vec![value.to_owned()])]);
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(filters(some("dangling", "true"), false, now).unwrap().dangling, Some(true));
        assert_eq!(filters(some("reference", "a*"), false, now).unwrap().reference, ["a*"]);
        assert_eq!(filters(some("foo", "x"), false, now).unwrap_err().message, "invalid filter 'foo'");
        assert!(filters(some("until", "x"), false, now).is_err());
    }

    #[test]
    fn configs() {
        let config: RunConfig =
            serde_json::from_str(r#"{"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Cmd":null}"#).unwrap();
        let shown = serde_json::to_string(&run_config(&config)).unwrap();
        assert_eq!(shown, r#"{"ExposedPorts":{"80/tcp":{}},"Env":["A=b"]}"#);
    }
}

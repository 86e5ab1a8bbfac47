//! What older API versions see or mean differently: one table, applied at the edge.
//!
//! Handlers and engine know the newest form only. [`adapt_output`] rewrites an answer for an older client;
//! [`adapt_input`] takes out of a request what its version didn't know. Fields that newer versions merely added stay:
//! older clients ignore them.

use crate::{ApiVersion, ContainerConfig};
use serde_json::{Map, Value, json};

/// The kinds of answers and requests that differ between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `ContainerCreateRequest`, on input.
    ContainerCreate,
    /// `ContainerUpdateRequest`, on input.
    ContainerUpdate,
    /// `ContainerInspect`.
    ContainerInspect,
    /// One `ContainerSummary`.
    ContainerSummary,
    /// `ImageInspect`.
    ImageInspect,
    /// One `ImageSummary`.
    ImageSummary,
    /// `SystemInfo`.
    SystemInfo,
}

/// `adapt` applies to all versions before `1.<before>`.
struct Delta {
    shape: Shape,
    before: u16,
    adapt: fn(&mut Map<String, Value>),
}

const fn delta(shape: Shape, before: u16, adapt: fn(&mut Map<String, Value>)) -> Delta {
    Delta { shape, before, adapt }
}

/// Newest first: each step leads from one version to the one before it.
const OUTPUT: &[Delta] = &[
    delta(Shape::ImageInspect, 52, image_config_keeps_nulls),
    delta(Shape::ImageInspect, 50, image_config_has_container_fields),
    delta(Shape::SystemInfo, 50, info_has_bridge_filter),
    delta(Shape::SystemInfo, 49, info_has_expected_commits),
    delta(Shape::ContainerInspect, 48, |o| remove(o, "ImageManifestDescriptor")),
    delta(Shape::ContainerSummary, 48, |o| remove(o, "ImageManifestDescriptor")),
    delta(Shape::ImageInspect, 48, |o| remove(o, "Descriptor")),
    delta(Shape::ImageSummary, 48, |o| remove(o, "Descriptor")),
    delta(Shape::ContainerSummary, 46, summary_has_no_annotations),
    delta(Shape::ContainerInspect, 45, aliases_have_short_id),
    delta(Shape::ImageInspect, 45, image_has_container_config),
    delta(Shape::ImageInspect, 44, virtual_size),
    delta(Shape::ImageSummary, 44, virtual_size),
    delta(Shape::ImageSummary, 43, untagged_images_have_none),
    delta(Shape::SystemInfo, 42, info_has_kernel_memory),
];

const INPUT: &[Delta] = &[
    delta(Shape::ContainerCreate, 46, |o| each_mount(o, |m| remove_in(m, "TmpfsOptions", "Options"))),
    delta(Shape::ContainerCreate, 45, |o| each_mount(o, |m| remove_in(m, "VolumeOptions", "Subpath"))),
    delta(Shape::ContainerCreate, 44, read_only_is_not_recursive),
    delta(Shape::ContainerCreate, 44, |o| remove_in(o, "HostConfig", "Annotations")),
    delta(Shape::ContainerCreate, 44, |o| remove_in(o, "Healthcheck", "StartInterval")),
    delta(Shape::ContainerCreate, 40, ipc_is_shareable),
    delta(Shape::ContainerCreate, 40, |o| each_mount(o, |m| remove_in(m, "BindOptions", "NonRecursive"))),
    delta(Shape::ContainerCreate, 25, |o| remove_in(o, "HostConfig", "AutoRemove")),
    delta(Shape::ContainerUpdate, 40, |o| remove(o, "PidsLimit")),
];

/// Rewrites an answer in its newest form to the form of `version`.
pub fn adapt_output(shape: Shape, version: ApiVersion, value: &mut Value) {
    apply(OUTPUT, shape, version, value);
}

/// Takes out of a request what `version` doesn't know, leaving the newest form.
pub fn adapt_input(shape: Shape, version: ApiVersion, value: &mut Value) {
    apply(INPUT, shape, version, value);
}

/// Whether `version` sees answers of this shape in another form than the newest. Spares the rewriting of long lists.
pub fn differs(shape: Shape, version: ApiVersion) -> bool {
    OUTPUT.iter().any(|d| d.shape == shape && version < ApiVersion::new(d.before))
}

fn apply(table: &[Delta], shape: Shape, version: ApiVersion, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for step in table.iter().filter(|d| d.shape == shape && version < ApiVersion::new(d.before)) {
        (step.adapt)(object);
    }
}

fn remove(object: &mut Map<String, Value>, key: &str) {
    object.remove(key);
}

fn remove_in(object: &mut Map<String, Value>, outer: &str, inner: &str) {
    if let Some(Value::Object(members)) = object.get_mut(outer) {
        members.remove(inner);
    }
}

fn each_mount(request: &mut Map<String, Value>, adapt: impl Fn(&mut Map<String, Value>)) {
    let mounts = request.get_mut("HostConfig").and_then(|h| h.get_mut("Mounts")).and_then(Value::as_array_mut);
    mounts.into_iter().flatten().filter_map(Value::as_object_mut).for_each(adapt);
}

/// Read-only binds became recursively so with 1.44.
fn read_only_is_not_recursive(request: &mut Map<String, Value>) {
    each_mount(request, |mount| {
        let is_bind = mount.get("Type") == Some(&json!("bind"));
        if is_bind && mount.get("ReadOnly") == Some(&json!(true)) {
            let options = mount.entry("BindOptions").or_insert_with(|| json!({}));
            if let Value::Object(options) = options {
                options.insert("ReadOnlyNonRecursive".to_owned(), json!(true));
            }
        }
    });
}

/// Containers shared their IPC namespace unless they asked not to.
fn ipc_is_shareable(request: &mut Map<String, Value>) {
    let host = request.entry("HostConfig").or_insert_with(|| json!({}));
    if host.is_null() {
        *host = json!({});
    }
    if let Value::Object(host) = host
        && host.get("IpcMode").is_none_or(|mode| mode.is_null() || mode == "")
    {
        host.insert("IpcMode".to_owned(), json!("shareable"));
    }
}

fn summary_has_no_annotations(summary: &mut Map<String, Value>) {
    remove_in(summary, "HostConfig", "Annotations");
}

/// Aliases carried the container's short id.
fn aliases_have_short_id(container: &mut Map<String, Value>) {
    let Some(short) = container.get("Id").and_then(Value::as_str).and_then(|id| id.get(..12)).map(str::to_owned) else {
        return;
    };
    let networks = container.get_mut("NetworkSettings").and_then(|n| n.get_mut("Networks"));
    for (name, endpoint) in networks.and_then(Value::as_object_mut).into_iter().flatten() {
        let predefined = matches!(name.as_str(), "bridge" | "host" | "none");
        let Some(aliases) = endpoint.get_mut("Aliases").filter(|_| !predefined) else { continue };
        match aliases {
            Value::Array(list) => list.push(json!(short)),
            other => *other = json!([short]),
        }
    }
}

fn virtual_size(image: &mut Map<String, Value>) {
    if let Some(size) = image.get("Size").cloned() {
        image.insert("VirtualSize".to_owned(), size);
    }
}

fn untagged_images_have_none(image: &mut Map<String, Value>) {
    let is_empty = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if is_empty(image.get("RepoTags")) && is_empty(image.get("RepoDigests")) {
        image.insert("RepoTags".to_owned(), json!(["<none>:<none>"]));
        image.insert("RepoDigests".to_owned(), json!(["<none>@<none>"]));
    }
}

fn image_has_container_config(image: &mut Map<String, Value>) {
    image.insert("ContainerConfig".to_owned(), json!(ContainerConfig::default()));
}

fn fill(image: &mut Map<String, Value>, fields: Value) {
    let (Some(Value::Object(config)), Value::Object(fields)) = (image.get_mut("Config"), fields) else { return };
    for (key, value) in fields {
        config.entry(key).or_insert(value);
    }
}

fn image_config_keeps_nulls(image: &mut Map<String, Value>) {
    fill(
        image,
        json!({"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "",
            "Volumes": null, "WorkingDir": ""}),
    );
}

fn image_config_has_container_fields(image: &mut Map<String, Value>) {
    fill(
        image,
        json!({"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "",
            "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false}),
    );
}

fn info_has_bridge_filter(info: &mut Map<String, Value>) {
    info.insert("BridgeNfIptables".to_owned(), json!(false));
    info.insert("BridgeNfIp6tables".to_owned(), json!(false));
}

fn info_has_expected_commits(info: &mut Map<String, Value>) {
    remove(info, "FirewallBackend");
    for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        if let Some(Value::Object(commit)) = info.get_mut(key)
            && let Some(id) = commit.get("ID").cloned()
        {
            commit.insert("Expected".to_owned(), id);
        }
    }
    if let Some(Value::Object(registries)) = info.get_mut("RegistryConfig") {
        registries.insert("AllowNondistributableArtifactsCIDRs".to_owned(), json!([]));
        registries.insert("AllowNondistributableArtifactsHostnames".to_owned(), json!([]));
    }
}

fn info_has_kernel_memory(info: &mut Map<String, Value>) {
    info.insert("KernelMemory".to_owned(), json!(false));
    info.insert("KernelMemoryTCP".to_owned(), json!(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: Shape, minor: u16, mut value: Value) -> Value {
        adapt_output(shape, ApiVersion::new(minor), &mut value);
        value
    }

    #[test]
    fn image_summaries() {
        let image = json!({"RepoTags": [], "RepoDigests": [], "Size": 7, "Descriptor": {}});
        assert_eq!(output(Shape::ImageSummary, 55, image.clone()), image);
        assert_eq!(output(Shape::ImageSummary, 43, image.clone())["VirtualSize"], 7);
        assert_eq!(output(Shape::ImageSummary, 43, image.clone())["RepoTags"], json!([]));
        let oldest = output(Shape::ImageSummary, 24, image);
        assert_eq!(oldest["RepoTags"], json!(["<none>:<none>"]));
        assert!(oldest.get("Descriptor").is_none());
        assert!(!differs(Shape::ImageSummary, ApiVersion::NEWEST));
    }

    #[test]
    fn image_configs() {
        let image = json!({"Config": {"Cmd": ["a"]}});
        let config = |minor| output(Shape::ImageInspect, minor, image.clone())["Config"].clone();
        assert_eq!(config(52), json!({"Cmd": ["a"]}));
        assert_eq!(config(51)["Env"], Value::Null);
        assert_eq!(config(51).get("Tty"), None);
        assert_eq!(config(49)["Tty"], false);
        assert_eq!(config(49)["Cmd"], json!(["a"]));
    }

    #[test]
    fn aliases() {
        let container = json!({"Id": "0123456789abcdef", "NetworkSettings": {"Networks": {
            "bridge": {"Aliases": null}, "mine": {"Aliases": ["web"]}}}});
        let networks = output(Shape::ContainerInspect, 44, container)["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks, json!({"bridge": {"Aliases": null}, "mine": {"Aliases": ["web", "0123456789ab"]}}));
    }

    #[test]
    fn create_requests() {
        let request = json!({"Healthcheck": {"StartInterval": 1, "Retries": 2}, "HostConfig": {
            "AutoRemove": true, "Mounts": [{"Type": "bind", "ReadOnly": true}, {"Type": "tmpfs"}]}});
        let mut old = request.clone();
        adapt_input(Shape::ContainerCreate, ApiVersion::new(24), &mut old);
        assert_eq!(old["Healthcheck"], json!({"Retries": 2}));
        assert_eq!(old["HostConfig"].get("AutoRemove"), None);
        assert_eq!(old["HostConfig"]["Mounts"][0]["BindOptions"]["ReadOnlyNonRecursive"], true);
        let mut new = request.clone();
        adapt_input(Shape::ContainerCreate, ApiVersion::NEWEST, &mut new);
        assert_eq!(new, request);
        adapt_input(Shape::ContainerCreate, ApiVersion::new(24), &mut json!([1]));
        let mut update = json!({"Memory": 1, "PidsLimit": 5});
        adapt_input(Shape::ContainerUpdate, ApiVersion::new(39), &mut update);
        assert_eq!(update, json!({"Memory": 1}));
    }
}

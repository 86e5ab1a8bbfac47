//! From a client's wishes to a container that is there, durably, and has not been started.
//!
//! Checks come first and leave nothing; then the name is taken, then files and volumes are made, and the record is written last. What
//! was made is undone in reverse when a later step fails; what a crash leaves in between has no record and is swept by the next start.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use corten_base::{ContainerId, ContainerName, Namespace, Platform};
use corten_images::Image;
use corten_snapshot::{ActiveDraft, Hold, RootFs};
use corten_spec::limits;

use crate::blocking;
use crate::containers::{CreateContainer, Created};
use crate::error::Error;
use crate::launch;
use crate::life::State;
use crate::merge::{arguments, merge};
use crate::record::Record;
use crate::reuse::{Copy, Rights, Root};
use crate::settings::{CgroupNs, ContainerSpec, IpcMode, JoinMode, MountType, NetworkMode, RestartPolicy};
use crate::shared::Shared;
use crate::spare::{self, Spare};
use crate::task::{Task, now_ns};
use crate::translate::SecurityOptions;
use crate::undo::{Undo, log};
use crate::view::{Files, MountPoint, NetworkView};

/// Makes a container.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    request: CreateContainer,
) -> Result<Created, Error> {
    let id = ContainerId::generate();
    let name = take_name(shared, namespace, request.name.as_deref(), &id)?;
    let made = make(shared, namespace, &id, &name, request).await;
    if made.is_err() {
        shared.registry.release_name(namespace, &name, &id);
    }
    made
}

async fn make(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    id: &ContainerId,
    name: &str,
    request: CreateContainer,
) -> Result<Created, Error> {
    let (inner, space, own_id, own_name) = (shared.clone(), namespace.clone(), id.clone(), name.to_string());
    let prepared = blocking::run(move || prepare(&inner, &space, own_id, own_name, request)).await??;
    let Prepared { record, files, layer, rootfs, copy, warnings, made_volumes, held } = prepared;
    let state = State::default();
    if let Err(error) = shared.records.insert(&record, &state, layer.record(record.id.as_str())).await {
        let shared = shared.clone();
        let _ = blocking::run(move || {
            drop((copy, rootfs, layer));
            crate::volumes::unmake(&shared, &made_volumes);
            remove_directory(&shared, &record.id);
        })
        .await;
        return Err(error);
    }
    let root = Root { mount: rootfs, copy, layer: layer.keep() };
    drop(held);
    crate::task::tell(shared, &record, "create", []);
    let mut task = Task::new(shared.clone(), record, state, Arc::new(files));
    task.root = Some(root);
    task.spawn(None);
    Ok(Created { id: id.clone(), warnings })
}

/// A container's name: the client's, or one made up until it is free.
fn take_name(shared: &Shared, namespace: &Namespace, name: Option<&str>, id: &ContainerId) -> Result<String, Error> {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let name = ContainerName::parse(name).map_err(|error| Error::Invalid(error.to_string()))?;
        shared.registry.reserve_name(namespace, name.as_str(), id)?;
        return Ok(name.to_string());
    }
    for _ in 0..16 {
        let mut entropy = [0; 8];
        getrandom::fill(&mut entropy).map_err(|error| Error::Unavailable(error.to_string()))?;
        let name = corten_base::random_name(u64::from_ne_bytes(entropy));
        if shared.registry.reserve_name(namespace, &name, id).is_ok() {
            return Ok(name);
        }
    }
    let name = id.short().to_string();
    shared.registry.reserve_name(namespace, &name, id)?;
    Ok(name)
}

struct Prepared {
    record: Record,
    files: Files,
    /// To be recorded with the container.
    layer: ActiveDraft,
    rootfs: OwnedFd,
    copy: Option<Copy>,
    warnings: Vec<String>,
    made_volumes: Vec<String>,
    /// The image's layers, until the record says that the container stands on them.
    held: Option<Hold>,
}

/// Everything but the record. Blocks.
fn prepare(
    shared: &Shared,
    namespace: &Namespace,
    id: ContainerId,
    name: String,
    request: CreateContainer,
) -> Result<Prepared, Error> {
    let CreateContainer { platform, mut spec, echo, .. } = request;
    let image = shared.images.resolve_to_run(&spec.image, platform.as_ref())?;
    merge(&mut spec, &image.config.config);
    if spec.hostname.is_empty() {
        spec.hostname = match spec.network_mode {
            NetworkMode::Host => launch::host_name(),
            _ => id.short().into(),
        };
    }
    if spec.log_driver.is_empty() {
        spec.log_driver.clone_from(&shared.config.log_driver);
        spec.log_options = shared.config.log_options.clone();
    }
    check_joined(shared, namespace, &spec)?;
    let mut warnings = check(shared, &mut spec)?;
    warnings.extend(foreign(&image).filter(|_| platform.is_none()));
    let mut mounts = crate::mounts::resolve(&spec, inherited(shared, namespace, &spec)?)?;
    let held = shared.images.ensure_unpacked(&image)?;

    let mut undo = Undo::default();
    let kind = spare::Kind {
        chain: image.chain.clone(),
        options: launch::root_options(&spec),
        rights: Rights::of(&spec, &mounts, &shared.host, &shared.config),
    };
    let Spare { layer, rootfs: root, directory, uses } = place(shared, &id, &image, &kind)?;
    let copy = shared.spares.copy(&root, layer.root(), kind, uses);
    make_working_directory(root.as_fd(), &spec.working_dir)?;
    let log = (spec.log_driver != "none").then(|| launch::log_name(&id));
    directory.give(&shared.container_directory(&id), log.as_deref())?;
    undo.push(|| remove_directory(shared, &id));
    let mut made_volumes = Vec::new();
    let volumes = crate::volumes::make(shared, namespace, &id, &spec, &mut mounts, &mut made_volumes)
        .and_then(|()| crate::volumes::fill(shared, root.as_fd(), &mounts));
    if let Err(error) = volumes {
        crate::volumes::unmake(shared, &made_volumes);
        return Err(error);
    }
    undo.keep();

    let network = NetworkView { endpoints: crate::network::wanted(&spec), ..Default::default() };
    let record = Record {
        namespace: namespace.clone(),
        id,
        name,
        created_ns: now_ns(),
        image_id: image.id.clone(),
        os: image.config.os.clone(),
        spec: Arc::new(spec),
        echo: Arc::new(echo),
        mounts: Arc::new(mounts),
        network: Arc::new(network),
    };
    let files = files(shared, &record, Some(layer.root()));
    Ok(Prepared { record, files, layer, rootfs: root, copy, warnings, made_volumes, held })
}

/// What Docker says of an image that this machine may not be able to run, and that nobody asked for by its platform.
fn foreign(image: &Image) -> Option<String> {
    let (host, image) = (Platform::detected(), image.config.platform());
    (!host.runs(&image)).then(|| {
        format!(
            "The requested image's platform ({image}) does not match the detected host platform ({host}) and no specific platform was requested"
        )
    })
}

/// The container's own layer, mounted, and its directory: those that were made beforehand, or new ones.
fn place(shared: &Shared, id: &ContainerId, image: &Image, kind: &spare::Kind) -> Result<Spare, Error> {
    // Nothing is made beforehand on layers that may go.
    if let Some(spare) = image.is_recorded.then(|| shared.spares.take(kind)).flatten() {
        return Ok(spare);
    }
    let failed = || Error::failed("cannot prepare the container's root file system");
    let layer = shared.snapshots.draft_active(image.chain.as_ref()).map_err(failed())?;
    let rootfs = layer.root().mount_detached(kind.options).map_err(failed())?;
    Ok(Spare { rootfs, layer, directory: spare::Directory::make(shared.container_directory(id))?, uses: 0 })
}

/// The working directory is made with the container: what stands in its way is known before the first start.
fn make_working_directory(root: BorrowedFd<'_>, path: &str) -> Result<(), Error> {
    if path.is_empty() {
        return Ok(());
    }
    match corten_sys::path::make_directories(root, path, 0o755) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
            Err(Error::Launch { message: format!("Cannot mkdir: {path} is not a directory"), exit_code: 128 })
        }
        Err(error) => Err(Error::failed(format!("cannot make the working directory {path}"))(error)),
    }
}

/// Removes what a container has below the data root. Blocks.
pub(crate) fn remove_files(shared: &Shared, id: &ContainerId) {
    log("a container's layer stays behind", shared.snapshots.remove(id.as_str()));
    remove_directory(shared, id);
}

/// Removes a container's directory. Blocks.
pub(crate) fn remove_directory(shared: &Shared, id: &ContainerId) {
    match std::fs::remove_dir_all(shared.container_directory(id)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => log("a container's directory stays behind", removed),
    }
}

/// Where a container's files are; those of its layers are unknown where one of them was lost.
pub(crate) fn files(shared: &Shared, record: &Record, rootfs: Option<&RootFs>) -> Files {
    let directory = shared.container_directory(&record.id);
    let log = match record.spec.log_driver.as_str() {
        "none" => Default::default(),
        _ => directory.join(launch::log_name(&record.id)),
    };
    let folders = |rootfs: &RootFs| (rootfs.lower.clone(), rootfs.upper.clone(), rootfs.work.clone());
    let (lower, upper, work) = rootfs.map(folders).unwrap_or_default();
    Files {
        log,
        hostname: directory.join("hostname"),
        hosts: directory.join("hosts"),
        resolv_conf: directory.join("resolv.conf"),
        lower,
        upper,
        work,
        directory,
    }
}

/// Mount points of the containers that `--volumes-from` names.
fn inherited(shared: &Shared, namespace: &Namespace, spec: &ContainerSpec) -> Result<Vec<MountPoint>, Error> {
    let mut points = Vec::new();
    for from in &spec.volumes_from {
        let (name, mode) = corten_volumes::parse_volumes_from(from)?;
        // The client takes "not found" for the image's.
        let other = shared.registry.find(namespace, name).map_err(|error| Error::Invalid(error.message()))?.now();
        let read_only = mode.split(',').any(|word| word == "ro");
        let volumes = other.mounts.iter().filter(|point| point.kind != "tmpfs");
        points.extend(volumes.map(|point| MountPoint {
            writable: point.writable && !read_only,
            // They are the other container's: this one's end doesn't remove them.
            anonymous: false,
            copy_up: false,
            ..point.clone()
        }));
    }
    Ok(points)
}

/// Refuses what can't be, with Docker's texts, before anything is made. Returns warnings for the client.
fn check(shared: &Shared, spec: &mut ContainerSpec) -> Result<Vec<String>, Error> {
    let invalid = |error: &dyn std::error::Error| Error::Invalid(crate::error::chain(error));
    if arguments(spec).is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".into()));
    }
    if !spec.working_dir.is_empty() {
        if !spec.working_dir.starts_with('/') {
            return Err(Error::Invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                spec.working_dir
            )));
        }
        spec.working_dir = corten_volumes::clean(&spec.working_dir).to_string_lossy().into_owned();
    }
    if !spec.stop_signal.is_empty() {
        corten_base::signal::parse(&spec.stop_signal).map_err(|error| invalid(&error))?;
    }
    if spec.runtime.is_empty() {
        spec.runtime.clone_from(&shared.config.runtimes.default);
    }
    shared.config.runtimes.find(&spec.runtime)?;
    check_names(spec)?;
    check_mounts(spec)?;
    check_log(spec)?;
    crate::network::port_mappings(spec)?;
    SecurityOptions::parse(&spec.security_opt, &shared.config)?;
    corten_spec::caps::validate(&spec.cap_add, &spec.cap_drop, &shared.host).map_err(|error| invalid(&error))?;
    limits::verify_shm_size(spec.shm_size).map_err(|error| invalid(&error))?;
    limits::verify_oom_score(spec.oom_score_adj.into()).map_err(|error| invalid(&error))?;
    if spec.shm_size == 0 {
        spec.shm_size = shared.config.default_shm_size;
    }
    let default = if shared.cgroups.is_v2() { CgroupNs::Private } else { CgroupNs::Host };
    spec.cgroupns.get_or_insert(default);
    crate::limits::check_new(&shared.support, &mut spec.resources)
}

/// The containers whose namespaces it will join.
fn check_joined(shared: &Shared, namespace: &Namespace, spec: &ContainerSpec) -> Result<(), Error> {
    let ipc = if let IpcMode::Container(name) = &spec.ipc_mode { Some(name) } else { None };
    let pid = if let JoinMode::Container(name) = &spec.pid_mode { Some(name) } else { None };
    for name in [ipc, pid].into_iter().flatten() {
        shared.registry.find(namespace, name).map_err(|error| Error::Invalid(error.message()))?;
    }
    Ok(())
}

/// Names of things that must exist.
fn check_names(spec: &ContainerSpec) -> Result<(), Error> {
    let host_uts = spec.uts_host && !spec.hostname.is_empty() && spec.hostname != launch::host_name();
    if host_uts && spec.network_mode != NetworkMode::Host && spec.hostname.len() != 12 {
        return Err(Error::Invalid("conflicting options: hostname and the UTS mode".into()));
    }
    Ok(())
}

/// `--mount type=bind` wants its source to be there, `-v` makes it.
fn check_mounts(spec: &ContainerSpec) -> Result<(), Error> {
    let binds = spec.mounts.iter().filter(|mount| mount.kind == MountType::Bind && !mount.create_mountpoint);
    for mount in binds.filter(|mount| mount.source.starts_with('/')) {
        if !Path::new(&mount.source).exists() {
            let source = &mount.source;
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
    }
    Ok(())
}

fn check_log(spec: &ContainerSpec) -> Result<(), Error> {
    let driver = &spec.log_driver;
    if !matches!(driver.as_str(), "json-file" | "local" | "none") {
        return Err(Error::Invalid(format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found")));
    }
    for (key, value) in &spec.log_options {
        let fine = match key.as_str() {
            "max-size" => value == "-1" || corten_base::units::parse_ram(value).is_ok(),
            "max-file" => value.parse::<u32>().is_ok_and(|count| count > 0),
            "mode" => value == "blocking" || value == "non-blocking",
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "compress" | "max-buffer-size" => true,
            _ => return Err(Error::Invalid(format!("unknown log opt '{key}' for {driver} log driver"))),
        };
        if !fine {
            return Err(Error::Invalid(format!("invalid value for log opt '{key}': {value:?}")));
        }
    }
    Ok(())
}

/// What `--log-opt labels=` and `env=` write into each log entry.
pub(crate) fn log_attributes(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let names =
        |key: &str| spec.log_options.get(key).map(|names| names.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let mut attributes = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = spec.labels.get(name) {
            attributes.insert(name.to_string(), value.clone());
        }
    }
    for name in names("env") {
        let value = spec.env.iter().filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name);
        if let Some((_, value)) = value {
            attributes.insert(name.to_string(), value.into());
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options_are_checked() {
        let with = |driver: &str, options: &[(&str, &str)]| {
            let log_options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let spec = ContainerSpec { log_driver: driver.into(), log_options, ..Default::default() };
            check_log(&spec).map_err(|error| error.message())
        };
        assert_eq!(with("json-file", &[("max-size", "10m"), ("max-file", "3")]), Ok(()));
        assert_eq!(with("none", &[]), Ok(()));
        assert_eq!(with("foo", &[]).unwrap_err(), "error looking up logging plugin foo: plugin \"foo\" not found");
        assert_eq!(with("json-file", &[("x", "1")]).unwrap_err(), "unknown log opt 'x' for json-file log driver");
        assert!(with("json-file", &[("max-file", "0")]).is_err());
    }

    #[test]
    fn log_attributes_come_from_labels_and_environment() {
        let mut spec = ContainerSpec { env: vec!["A=1".into()], ..Default::default() };
        spec.labels.insert("l".into(), "v".into());
        spec.log_options.insert("labels".into(), "l,m".into());
        spec.log_options.insert("env".into(), "A,B".into());
        let attributes = log_attributes(&spec);
        assert_eq!(attributes.into_iter().collect::<Vec<_>>(), [("A".into(), "1".into()), ("l".into(), "v".into())]);
    }
}

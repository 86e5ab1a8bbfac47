//! A container's volumes: made with it, filled from its image, told of, removed with it.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::path::Path;

use corten_base::{ContainerId, Namespace, VolumeName};
use corten_events::Kind;
use corten_volumes::{CreateVolume, Volumes};

use crate::error::Error;
use crate::record::Record;
use crate::settings::ContainerSpec;
use crate::shared::Shared;
use crate::view::MountPoint;

/// Makes the volumes that a new container's mount points need, giving names to anonymous ones. Returns the names of those
/// that weren't there, for taking it back. Blocks.
pub(crate) fn make(
    shared: &Shared,
    namespace: &Namespace,
    id: &ContainerId,
    spec: &ContainerSpec,
    points: &mut [MountPoint],
    made: &mut Vec<String>,
) -> Result<(), Error> {
    for point in points.iter_mut().filter(|point| point.kind == "volume") {
        let name = point.name.clone().unwrap_or_default();
        let existing = if name.is_empty() { None } else { shared.volumes.get(&name).ok() };
        let volume = match existing {
            Some(volume) => volume,
            None => {
                let volume = shared.volumes.create(request(spec, point, name))?;
                shared.tell(
                    namespace,
                    Kind::Volume,
                    "create",
                    volume.name.as_str(),
                    [("driver", volume.driver.clone())],
                );
                made.push(volume.name.to_string());
                volume
            }
        };
        point.source = volume.mountpoint.to_string_lossy().into_owned();
        point.name = Some(volume.name.to_string());
        point.driver = Some(volume.driver);
    }
    let _ = id;
    Ok(())
}

/// What is asked of the volume store for a mount point.
fn request(spec: &ContainerSpec, point: &MountPoint, name: String) -> CreateVolume {
    let mount = spec.mounts.iter().find(|mount| mount.target == point.destination);
    let mut labels = mount.map(|mount| mount.volume_labels.clone()).unwrap_or_default();
    if point.anonymous {
        labels.extend(Volumes::anonymous_labels());
    }
    CreateVolume {
        name,
        driver: point.driver.clone().unwrap_or_default(),
        options: mount.map(|mount| mount.volume_options.clone()).unwrap_or_default(),
        labels,
    }
}

/// Fills volumes that are empty with what the image has at their place. Blocks.
pub(crate) fn fill(shared: &Shared, root: BorrowedFd<'_>, points: &[MountPoint]) -> Result<(), Error> {
    for point in points.iter().filter(|point| point.kind == "volume" && point.copy_up && point.subpath.is_empty()) {
        if let Some(name) = &point.name {
            shared.volumes.copy_up(name, root, Path::new(&point.destination))?;
        }
    }
    Ok(())
}

/// Removes volumes that were just made, because what they were made for failed.
pub(crate) fn unmake(shared: &Shared, made: &[String]) {
    for name in made {
        crate::undo::log("a failed create's volume stays behind", shared.volumes.remove(name, true, &[]));
    }
}

/// Tells the event log that a started container has its volumes.
pub(crate) fn tell_mounted(shared: &Shared, record: &Record) {
    for (name, point) in named(record) {
        let attributes = [
            ("container", record.id.to_string()),
            ("destination", point.destination.clone()),
            ("driver", point.driver.clone().unwrap_or_default()),
            ("propagation", point.propagation.clone()),
            ("read/write", point.writable.to_string()),
        ];
        shared.tell(&record.namespace, Kind::Volume, "mount", name, attributes);
    }
}

/// Tells the event log that an ended container gave its volumes back.
pub(crate) fn tell_unmounted(shared: &Shared, record: &Record) {
    for (name, point) in named(record) {
        let attributes = [("container", record.id.to_string()), ("driver", point.driver.clone().unwrap_or_default())];
        shared.tell(&record.namespace, Kind::Volume, "unmount", name, attributes);
    }
}

fn named(record: &Record) -> impl Iterator<Item = (&String, &MountPoint)> {
    let volumes = record.mounts.iter().filter(|point| point.kind == "volume");
    volumes.filter_map(|point| point.name.as_ref().map(|name| (name, point)))
}

/// Removes the volumes that were made for this container alone and that no other container mounts. Blocks.
pub(crate) fn remove_anonymous(shared: &Shared, record: &Record) -> Result<(), Error> {
    for (name, _) in named(record).filter(|(_, point)| point.anonymous) {
        let others: Vec<String> =
            users(shared, &record.namespace, name).into_iter().filter(|id| id != record.id.as_str()).collect();
        if !others.is_empty() {
            continue;
        }
        match shared.volumes.remove(name, true, &[]) {
            Ok(()) => shared.tell(&record.namespace, Kind::Volume, "destroy", name, [("driver", "local".into())]),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Ids of the containers that mount a volume.
pub(crate) fn users(shared: &Shared, namespace: &Namespace, name: &str) -> Vec<String> {
    let uses = |point: &MountPoint| point.name.as_deref() == Some(name);
    let views = shared.registry.all(namespace).into_iter().map(|handle| handle.now());
    views.filter(|view| view.mounts.iter().any(uses)).map(|view| view.id.to_string()).collect()
}

/// Names of all volumes that containers mount.
pub(crate) fn in_use(shared: &Shared, namespace: &Namespace) -> HashSet<VolumeName> {
    let views = shared.registry.all(namespace).into_iter().map(|handle| handle.now());
    let names = views.flat_map(|view| view.mounts.iter().filter_map(|point| point.name.clone()).collect::<Vec<_>>());
    names.filter_map(|name| VolumeName::parse(&name).ok()).collect()
}

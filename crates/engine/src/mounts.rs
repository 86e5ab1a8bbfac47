//! Which mount points a container has: pure, from its settings and from the containers whose volumes it takes.
//!
//! The order is Docker's: `--volumes-from`, then `-v`, then `--mount`, then `--tmpfs`, then paths that the image or the client
//! declares as volumes. A later one never replaces an earlier one but those of `--volumes-from` and of the image.

use std::collections::BTreeMap;

use corten_volumes::{MountSource, parse_bind};

use crate::error::Error;
use crate::settings::{ContainerSpec, MountSpec, MountType};
use crate::view::MountPoint;

/// The mount points; `inherited` are those of `--volumes-from`. Volumes without a name have none yet.
pub(crate) fn resolve(spec: &ContainerSpec, inherited: Vec<MountPoint>) -> Result<Vec<MountPoint>, Error> {
    let mut points: BTreeMap<String, MountPoint> =
        inherited.into_iter().map(|point| (point.destination.clone(), point)).collect();
    let mut own: BTreeMap<String, MountPoint> = BTreeMap::new();
    let binds = spec.binds.iter().map(|bind| from_bind(bind, &spec.volume_driver));
    let mounts = spec.mounts.iter().map(from_mount);
    let tmpfs = spec.tmpfs.iter().map(|(path, options)| Ok(from_tmpfs(path, options)));
    for point in binds.chain(mounts).chain(tmpfs) {
        let point = point?;
        if let Some(double) = own.insert(point.destination.clone(), point) {
            return Err(Error::Invalid(format!("Duplicate mount point: {}", double.destination)));
        }
    }
    points.append(&mut own);
    for path in &spec.volumes {
        let destination = clean(path)?;
        points.entry(destination.clone()).or_insert_with(|| anonymous(destination, &spec.volume_driver));
    }
    Ok(points.into_values().collect())
}

/// A path without `.`, `..` and double slashes.
fn clean(path: &str) -> Result<String, Error> {
    if !path.starts_with('/') {
        return Err(Error::Invalid(format!("invalid volume specification: '{path}'")));
    }
    let clean = corten_volumes::clean(path);
    if clean.as_os_str() == "/" {
        return Err(Error::Invalid("invalid volume specification: destination can't be '/'".into()));
    }
    Ok(clean.to_string_lossy().into_owned())
}

fn anonymous(destination: String, driver: &str) -> MountPoint {
    MountPoint {
        kind: "volume".into(),
        destination,
        driver: Some(driver_or_local(driver)),
        writable: true,
        anonymous: true,
        copy_up: true,
        recursive: true,
        ..Default::default()
    }
}

fn driver_or_local(driver: &str) -> String {
    if driver.is_empty() { "local".into() } else { driver.into() }
}

fn from_bind(bind: &str, driver: &str) -> Result<MountPoint, Error> {
    let parsed = parse_bind(bind)?;
    let mut point = MountPoint {
        destination: parsed.target.to_string_lossy().into_owned(),
        mode: parsed.mode.clone(),
        writable: !parsed.read_only,
        recursive: true,
        ..Default::default()
    };
    match parsed.source {
        MountSource::Bind(source) => {
            point.kind = "bind".into();
            point.source = source.to_string_lossy().into_owned();
            point.propagation = parsed.propagation.as_str().into();
        }
        MountSource::Volume(name) => {
            point.kind = "volume".into();
            point.name = Some(name.to_string());
            point.driver = Some(driver_or_local(driver));
            point.copy_up = parsed.copy;
        }
        MountSource::Anonymous => {
            let found = anonymous(point.destination.clone(), driver);
            point = MountPoint { writable: point.writable, mode: point.mode, copy_up: parsed.copy, ..found };
        }
    }
    Ok(point)
}

fn from_mount(mount: &MountSpec) -> Result<MountPoint, Error> {
    let kind = match mount.kind {
        MountType::Bind => "bind",
        MountType::Volume => "volume",
        MountType::Tmpfs => "tmpfs",
    };
    let invalid = |reason: &str| Error::Invalid(format!("invalid mount config for type \"{kind}\": {reason}"));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    if !mount.target.starts_with('/') {
        let target = &mount.target;
        return Err(invalid(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let destination = corten_volumes::clean(&mount.target).to_string_lossy().into_owned();
    if destination == "/" {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    let depth = match (mount.read_only_non_recursive, mount.read_only_force_recursive) {
        (true, _) => "non-recursive",
        (_, true) => "force-recursive",
        _ => "",
    };
    let point = MountPoint {
        kind: kind.into(),
        destination,
        writable: !mount.read_only,
        recursive: !mount.non_recursive,
        read_only_depth: depth.into(),
        ..Default::default()
    };
    match mount.kind {
        MountType::Bind if mount.source.is_empty() => Err(invalid("field Source must not be empty")),
        MountType::Bind if !mount.source.starts_with('/') => {
            let source = &mount.source;
            Err(invalid(&format!("invalid mount path: '{source}' mount path must be absolute")))
        }
        MountType::Bind => {
            let propagation = if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation };
            Ok(MountPoint { source: mount.source.clone(), propagation: propagation.into(), ..point })
        }
        MountType::Volume => Ok(MountPoint {
            name: (!mount.source.is_empty()).then(|| mount.source.clone()),
            driver: Some(driver_or_local(&mount.volume_driver)),
            mode: "z".into(),
            anonymous: mount.source.is_empty(),
            copy_up: !mount.no_copy,
            subpath: mount.subpath.clone(),
            ..point
        }),
        MountType::Tmpfs if !mount.source.is_empty() => Err(invalid("field Source must not be specified")),
        MountType::Tmpfs => Ok(MountPoint { tmpfs_options: tmpfs_options(mount), ..point }),
    }
}

fn tmpfs_options(mount: &MountSpec) -> Vec<String> {
    let mut options = Vec::new();
    if mount.read_only {
        options.push("ro".into());
    }
    if mount.tmpfs_mode != 0 {
        options.push(format!("mode={:o}", mount.tmpfs_mode));
    }
    if mount.tmpfs_size != 0 {
        options.push(format!("size={}", mount.tmpfs_size));
    }
    options
}

fn from_tmpfs(path: &str, options: &str) -> MountPoint {
    let options: Vec<String> = options.split(',').filter(|option| !option.is_empty()).map(Into::into).collect();
    MountPoint {
        kind: "tmpfs".into(),
        destination: corten_volumes::clean(path).to_string_lossy().into_owned(),
        writable: !options.iter().any(|option| option == "ro"),
        tmpfs_options: options,
        // `--tmpfs` is not among the mounts that Docker's inspect lists; `HostConfig.Tmpfs` shows it.
        mode: "tmpfs".into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(binds: &[&str], volumes: &[&str]) -> ContainerSpec {
        ContainerSpec {
            binds: binds.iter().map(|bind| bind.to_string()).collect(),
            volumes: volumes.iter().map(|path| path.to_string()).collect(),
            ..Default::default()
        }
    }

    fn check(spec: &ContainerSpec, expect: Result<&[&str], &str>) {
        let found = resolve(spec, Vec::new()).map_err(|error| error.message());
        let found = found.map(|points| {
            let line = |point: MountPoint| {
                let access = if point.writable { "rw" } else { "ro" };
                format!(
                    "{} {}{} {} {access}",
                    point.kind,
                    point.source,
                    point.name.unwrap_or_default(),
                    point.destination
                )
            };
            points.into_iter().map(line).collect::<Vec<_>>()
        });
        assert_eq!(
            found,
            expect.map(|lines| lines.iter().map(|line| line.to_string()).collect()).map_err(String::from)
        );
    }

    #[test]
    fn binds_and_volumes() {
        check(&spec(&["/a:/b:ro", "data:/c"], &[]), Ok(&["bind /a /b ro", "volume data /c rw"]));
        check(&spec(&["/x"], &["/x/", "/y"]), Ok(&["volume  /x rw", "volume  /y rw"]));
        check(&spec(&["/a:/b", "/c:/b"], &[]), Err("Duplicate mount point: /b"));
        check(&spec(&[], &["/"]), Err("invalid volume specification: destination can't be '/'"));
    }

    #[test]
    fn mounts() {
        let mount = MountSpec { kind: MountType::Tmpfs, target: "/t".into(), tmpfs_size: 5, ..Default::default() };
        let spec = ContainerSpec { mounts: vec![mount.clone()], ..Default::default() };
        assert_eq!(resolve(&spec, Vec::new()).unwrap()[0].tmpfs_options, ["size=5"]);
        let bad = MountSpec { kind: MountType::Bind, source: String::new(), ..mount };
        let spec = ContainerSpec { mounts: vec![bad], ..Default::default() };
        check(&spec, Err("invalid mount config for type \"bind\": field Source must not be empty"));
    }

    #[test]
    fn own_mounts_replace_inherited_ones() {
        let inherited = MountPoint { kind: "volume".into(), destination: "/b".into(), ..Default::default() };
        let points = resolve(&spec(&["/a:/b"], &["/b"]), vec![inherited]).unwrap();
        assert_eq!((points.len(), points[0].kind.as_str()), (1, "bind"));
    }
}

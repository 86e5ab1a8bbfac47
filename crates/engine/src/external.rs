//! Containers of other runtimes: the same document, made by another program's OCI command line.
//!
//! What happens here takes the place of planning and of the warm shim's part in a start; the rest of a container's life is the same.
//! The runtime puts the container into its control group and sets the limits; the group is made here before, so that there is no
//! moment at which a dead daemon's successor could not find it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_shim::client::{Connection, ExternalStart};
use corten_shim::protocol::{Bundle, External};
use corten_sys::mount;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use crate::error::{Error, chain};
use crate::grouped::Grouped;
use crate::joined::shm_of;
use crate::launch::{self, MOUNT_HINT, Making};
use crate::runtimes::ExternalRuntime;

/// Has the shim call the runtime; returns the number of the request that it answers. Whatever becomes of it, `group` is what has to be
/// removed.
pub(crate) fn hand_over(
    making: &Making<'_>,
    runtime: &ExternalRuntime,
    group: &mut Grouped,
    connection: &mut Connection,
) -> Result<u64, Error> {
    let Making { shared, record, .. } = *making;
    let directory = shared.run_directory(&record.id);
    let bundle = Bundle::below(&directory);
    if let Some(files) = making.network_files()? {
        files.write(shared, record, making.network)?;
    }
    let mut document = launch::oci_document(shared, &making.settings()?)?;
    join_network(&mut document, &bundle.network_namespace());
    let sources = hand_over_mounts(&mut document, &bundle, making)?;
    making.joined.recheck()?;
    let document = serde_json::to_vec(&document).map_err(Error::failed("cannot write the container's document"))?;
    making.assign(connection)?;
    group.make_unlimited(shared, record)?;
    let cgroups = group.get()?.dir_fds().map_err(Error::failed("cannot open the control group"))?;
    let request = ExternalStart {
        runtime: External {
            program: runtime.path.clone(),
            arguments: runtime.arguments.clone(),
            directory: directory.to_string_lossy().into_owned(),
        },
        document: &document,
        rootfs: making.rootfs.as_fd(),
        sources: &launch::borrow(&sources),
        cgroups: &launch::borrow(&cgroups),
        memory: group.get()?.memory_dir(),
        streams: launch::streams(record),
        attach: &making.attach(),
    };
    connection.start_external(request).map_err(launch::unsent())
}

/// A network namespace of the container's own is the one that the shim holds: its endpoints are in it already.
fn join_network(document: &mut Spec, namespace: &Path) {
    let Some(linux) = document.linux_mut() else { return };
    let Some(namespaces) = linux.namespaces_mut() else { return };
    let own = namespaces.iter_mut().filter(|each| each.typ() == LinuxNamespaceType::Network && each.path().is_none());
    own.for_each(|each| {
        each.set_path(Some(namespace.to_owned()));
    });
}

/// Sources that the runtime can't get at by their path go along as mounts, and the document names their places in the bundle: another
/// container's `/dev/shm`, which is in that one's mount namespace alone; and what shares its mounts with the host, because from the
/// shim's mount namespace nothing reaches the host's.
fn hand_over_mounts(document: &mut Spec, bundle: &Bundle, making: &Making<'_>) -> Result<Vec<OwnedFd>, Error> {
    let mut trees = Vec::new();
    for mount in document.mounts_mut().iter_mut().flatten() {
        let Some(tree) = tree_of(mount, making)? else { continue };
        mount.set_source(Some(bundle.source(trees.len())));
        trees.push(tree);
    }
    Ok(trees)
}

fn tree_of(mount: &Mount, making: &Making<'_>) -> Result<Option<OwnedFd>, Error> {
    let (Some("bind"), Some(source)) = (mount.typ().as_deref(), mount.source()) else { return Ok(None) };
    if let (Some(pid), true) = (making.joined.ipc, *source == making.files.directory) {
        let failed = Error::failed("cannot share the other container's /dev/shm");
        return shm_of(pid).map(Some).map_err(failed);
    }
    let is_set = |name: &str| mount.options().iter().flatten().any(|option| option == name);
    if !is_set("shared") && !is_set("rshared") {
        return Ok(None);
    }
    let tree = mount::clone_path(source, is_set("rbind"));
    tree.map(Some).map_err(Error::failed(format!("cannot open the mount source {}", source.display())))
}

/// Docker's text for what the runtime says of a start, and the exit code that Docker reads from it (errors of the runtime have no
/// other sign).
pub(crate) fn task_failure(message: &str) -> Error {
    let (message, exit_code) = explain(message);
    let step = match message.starts_with("OCI runtime start failed") {
        true => "failed to start task for container",
        false => "failed to create task for container: failed to create shim task",
    };
    Error::Launch { message: format!("{step}: {message}"), exit_code }
}

/// The same for an exec, which knows no exit code but these two.
pub(crate) fn exec_failure(error: &corten_shim::client::Error) -> Error {
    let (message, exit_code) = explain(&chain(error));
    Error::Launch { message, exit_code: if exit_code == 127 { 127 } else { 126 } }
}

fn explain(message: &str) -> (String, i32) {
    let lower = message.to_lowercase();
    let says = |text: &str| lower.contains(text);
    if says("permission denied") {
        (message.into(), 126)
    } else if says("not a directory") {
        let whole = "(or vice-versa)? Check if the specified host path exists and is the expected type";
        let hint = if message.contains(MOUNT_HINT) { String::new() } else { format!(": {MOUNT_HINT} {whole}") };
        (format!("{message}{hint}"), 127)
    } else if says("executable file not found") || says("no such file or directory") {
        (message.into(), 127)
    } else {
        (message.into(), 128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_the_shims() {
        let check = |namespaces: &str, expect: &str| {
            let text = format!(r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":{namespaces}}}}}"#);
            let mut document: Spec = serde_json::from_str(&text).unwrap();
            join_network(&mut document, Path::new("/b/netns"));
            let namespaces = document.linux().as_ref().unwrap().namespaces();
            assert_eq!(serde_json::to_string(namespaces).unwrap(), expect);
        };
        check(r#"[{"type":"pid"},{"type":"network"}]"#, r#"[{"type":"pid"},{"type":"network","path":"/b/netns"}]"#);
        check(r#"[{"type":"network","path":"/proc/1/ns/net"}]"#, r#"[{"type":"network","path":"/proc/1/ns/net"}]"#);
        check(r#"[{"type":"pid"}]"#, r#"[{"type":"pid"}]"#);
    }

    #[test]
    fn failures_have_dockers_exit_codes() {
        let check = |message: &str, expect: (&str, i32)| match task_failure(message) {
            Error::Launch { message, exit_code } => assert_eq!((message.as_str(), exit_code), expect),
            other => panic!("{other:?}"),
        };
        let create = "failed to create task for container: failed to create shim task: OCI runtime create failed";
        check(
            "OCI runtime create failed: executable file `x` not found in $PATH: No such file or directory",
            (&format!("{create}: executable file `x` not found in $PATH: No such file or directory"), 127),
        );
        check(
            "OCI runtime create failed: open executable: Permission denied",
            (&format!("{create}: open executable: Permission denied"), 126),
        );
        check(
            "OCI runtime create failed: mount `/a` to `b`: Not a directory",
            (
                &format!(
                    "{create}: mount `/a` to `b`: Not a directory: Are you trying to mount a directory onto a file (or \
                     vice-versa)? Check if the specified host path exists and is the expected type"
                ),
                127,
            ),
        );
        check("OCI runtime create failed: no", (&format!("{create}: no"), 128));
        check(
            "OCI runtime start failed: no",
            ("failed to start task for container: OCI runtime start failed: no", 128),
        );
    }
}

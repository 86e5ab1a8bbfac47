//! `spec`: a first `config.json`, to be edited.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::{Context, SPEC_VERSION};

pub(super) const FLAGS: &[Flag] = &[Flag::value("bundle", "b"), Flag::switch("rootless", "")];

/// Writes the document into the bundle; one that is there stays.
pub(super) fn spec(_: &Context, parsed: &Parsed) -> Result<u8> {
    let path = Path::new(parsed.value("bundle").unwrap_or(".")).join("config.json");
    let failed = || Error::doing(format!("cannot write {}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed())?;
    let document = if parsed.is_set("rootless") { rootless() } else { document() };
    let text = serde_json::to_string_pretty(&document).map_err(Error::doing("JSON"))?;
    writeln!(file, "{text}").map_err(failed())?;
    Ok(0)
}

fn document() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &str| {
        json!({
            "destination": destination, "type": kind, "source": source,
            "options": options.split(',').filter(|word| !word.is_empty()).collect::<Vec<_>>(),
        })
    };
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "corten",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// For a caller without privileges: a user namespace in which the caller is root, the host's network, no limits, and the
/// host's sysfs, because a new one takes a network namespace of one's own.
fn rootless() -> Value {
    let mut document = document();
    let linux = &mut document["linux"];
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "user"].map(|kind| json!({"type": kind}));
    linux["namespaces"] = namespaces.to_vec().into();
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    linux.as_object_mut().map(|linux| linux.remove("resources"));
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
        } else if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
            // Such ids are not mapped.
            options
                .retain(|option| !option.as_str().is_some_and(|it| it.starts_with("uid=") || it.starts_with("gid=")));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_can_be_planned() {
        for document in [document(), rootless()] {
            let spec: oci_spec::runtime::Spec = serde_json::from_value(document).unwrap();
            crate::plan(&spec, &crate::plan::Facts::default()).unwrap();
        }
    }
}

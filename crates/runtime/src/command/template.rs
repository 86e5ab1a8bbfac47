//! `spec`: a first `config.json`, to be edited.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::{Context, SPEC_VERSION};

pub(super) const FLAGS: &[Flag] = &[Flag::value("bundle", "b")];

/// Writes the document into the bundle; one that is there stays.
pub(super) fn spec(_: &Context, parsed: &Parsed) -> Result<u8> {
    let path = Path::new(parsed.value("bundle").unwrap_or(".")).join("config.json");
    let failed = || Error::doing(format!("cannot write {}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed())?;
    let text = serde_json::to_string_pretty(&document()).map_err(Error::doing("JSON"))?;
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_can_be_planned() {
        let spec: oci_spec::runtime::Spec = serde_json::from_value(super::document()).unwrap();
        crate::plan(&spec, &crate::plan::Facts::default()).unwrap();
    }
}

//! `features`: what this runtime can do, as features.md of the runtime specification lays it out.
//!
//! What is recognised is told, whether or not this host's kernel has it. The tests hold the
//! lists against what recognises the words.

use serde_json::{Value, json};

use super::error::Result;
use super::flags::Parsed;
use super::list::print_json;
use super::{Context, SPEC_VERSION};
use crate::plan::{CAPABILITIES, mount_options};

const SECCOMP_ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const SECCOMP_OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];
/// What a filter can be compiled for. Profiles may name others, whose system calls cannot occur on these machines.
const SECCOMP_ARCHS: [&str; 6] =
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];
const SECCOMP_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];
const MEMORY_FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// Prints the document.
pub(super) fn features(_: &Context, _: &Parsed) -> Result<u8> {
    print_json(&document())
}

fn document() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": &CAPABILITIES[..],
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
            "seccomp": {
                "enabled": corten_seccomp::Machine::host().is_some(),
                "actions": SECCOMP_ACTIONS,
                "operators": SECCOMP_OPERATORS,
                "archs": SECCOMP_ARCHS,
                "knownFlags": SECCOMP_FLAGS,
                "supportedFlags": SECCOMP_FLAGS,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "memoryPolicy": {"modes": MEMORY_MODES, "flags": MEMORY_FLAGS},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "dev.corten.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        // No annotation changes what this runtime does.
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{
        Arch, Capability, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, MemoryPolicyFlagType,
        MemoryPolicyModeType,
    };
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::plan::capability_number;

    fn all_are<T: DeserializeOwned>(names: &[&str]) {
        for name in names {
            assert!(serde_json::from_value::<T>(json!(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_listed_is_recognised() {
        all_are::<LinuxSeccompAction>(&SECCOMP_ACTIONS);
        all_are::<LinuxSeccompOperator>(&SECCOMP_OPERATORS);
        all_are::<Arch>(&SECCOMP_ARCHS);
        all_are::<LinuxSeccompFilterFlag>(&SECCOMP_FLAGS);
        all_are::<MemoryPolicyModeType>(&MEMORY_MODES);
        all_are::<MemoryPolicyFlagType>(&MEMORY_FLAGS);
        for (number, name) in (0..).zip(CAPABILITIES) {
            let capability: Capability = serde_json::from_value(json!(name)).expect("a capability");
            assert_eq!(capability_number(capability), number, "{name}");
        }
    }
}

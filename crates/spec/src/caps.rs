//! Capabilities: names, Docker's default set, and `--cap-add`/`--cap-drop`/`--privileged` applied to it.
//!
//! Numbers follow `linux/capability.h`; see capabilities(7).

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::{Error, HostFacts};

/// All capabilities in the order of their numbers.
const ALL: [(&str, Capability); 41] = [
    ("CAP_CHOWN", Capability::Chown),
    ("CAP_DAC_OVERRIDE", Capability::DacOverride),
    ("CAP_DAC_READ_SEARCH", Capability::DacReadSearch),
    ("CAP_FOWNER", Capability::Fowner),
    ("CAP_FSETID", Capability::Fsetid),
    ("CAP_KILL", Capability::Kill),
    ("CAP_SETGID", Capability::Setgid),
    ("CAP_SETUID", Capability::Setuid),
    ("CAP_SETPCAP", Capability::Setpcap),
    ("CAP_LINUX_IMMUTABLE", Capability::LinuxImmutable),
    ("CAP_NET_BIND_SERVICE", Capability::NetBindService),
    ("CAP_NET_BROADCAST", Capability::NetBroadcast),
    ("CAP_NET_ADMIN", Capability::NetAdmin),
    ("CAP_NET_RAW", Capability::NetRaw),
    ("CAP_IPC_LOCK", Capability::IpcLock),
    ("CAP_IPC_OWNER", Capability::IpcOwner),
    ("CAP_SYS_MODULE", Capability::SysModule),
    ("CAP_SYS_RAWIO", Capability::SysRawio),
    ("CAP_SYS_CHROOT", Capability::SysChroot),
    ("CAP_SYS_PTRACE", Capability::SysPtrace),
    ("CAP_SYS_PACCT", Capability::SysPacct),
    ("CAP_SYS_ADMIN", Capability::SysAdmin),
    ("CAP_SYS_BOOT", Capability::SysBoot),
    ("CAP_SYS_NICE", Capability::SysNice),
    ("CAP_SYS_RESOURCE", Capability::SysResource),
    ("CAP_SYS_TIME", Capability::SysTime),
    ("CAP_SYS_TTY_CONFIG", Capability::SysTtyConfig),
    ("CAP_MKNOD", Capability::Mknod),
    ("CAP_LEASE", Capability::Lease),
    ("CAP_AUDIT_WRITE", Capability::AuditWrite),
    ("CAP_AUDIT_CONTROL", Capability::AuditControl),
    ("CAP_SETFCAP", Capability::Setfcap),
    ("CAP_MAC_OVERRIDE", Capability::MacOverride),
    ("CAP_MAC_ADMIN", Capability::MacAdmin),
    ("CAP_SYSLOG", Capability::Syslog),
    ("CAP_WAKE_ALARM", Capability::WakeAlarm),
    ("CAP_BLOCK_SUSPEND", Capability::BlockSuspend),
    ("CAP_AUDIT_READ", Capability::AuditRead),
    ("CAP_PERFMON", Capability::Perfmon),
    ("CAP_BPF", Capability::Bpf),
    ("CAP_CHECKPOINT_RESTORE", Capability::CheckpointRestore),
];

/// Docker's default capabilities.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const EVERY: &str = "ALL";

/// A set of capabilities, one bit for each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

impl CapSet {
    /// Whether the capability of this full name (`CAP_CHOWN`) is in the set.
    pub fn contains(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & 1 << number != 0)
    }

    /// Full names, in the order of the numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        ALL.iter().enumerate().filter(move |(number, _)| self.0 & 1 << number != 0).map(|(_, (name, _))| *name)
    }

    /// The OCI document's form: bounding, effective and permitted; no inheritable and no ambient ones (CVE-2022-24769).
    pub fn to_oci(self) -> Result<LinuxCapabilities, Error> {
        let set: Capabilities =
            ALL.iter().enumerate().filter(|(number, _)| self.0 & 1 << number != 0).map(|(_, (_, cap))| *cap).collect();
        Ok(LinuxCapabilitiesBuilder::default()
            .bounding(set.clone())
            .effective(set.clone())
            .permitted(set)
            .inheritable(Capabilities::new())
            .ambient(Capabilities::new())
            .build()?)
    }
}

impl<'a> FromIterator<&'a str> for CapSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        Self(names.into_iter().filter_map(number).fold(0, |set, number| set | 1 << number))
    }
}

/// All capabilities that this host can give.
pub fn available(host: &HostFacts) -> CapSet {
    let known = ALL.len().min(host.last_capability as usize + 1);
    CapSet(host.bounding & ((1 << known) - 1))
}

/// Full names for what a user wrote: upper case, `CAP_` before; `ALL` stays. Unknown and unavailable ones are errors.
pub fn normalize(names: &[String], host: &HostFacts) -> Result<Vec<String>, Error> {
    let available = available(host);
    names.iter().map(|name| normalize_one(name, available)).collect()
}

fn normalize_one(name: &str, available: CapSet) -> Result<String, Error> {
    let upper = name.to_uppercase();
    if upper == EVERY {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if number(&full).is_none() {
        return Err(Error::UnknownCapability(full));
    }
    if !available.contains(&full) {
        return Err(Error::CapabilityUnavailable(full));
    }
    Ok(full)
}

/// Checks both lists when a container is created, naming the list in the text as Docker does.
pub fn validate(add: &[String], drop: &[String], host: &HostFacts) -> Result<(), Error> {
    for (list, names) in [("CapAdd", add), ("CapDrop", drop)] {
        normalize(names, host).map_err(|cause| Error::InvalidCapabilities { list, cause: Box::new(cause) })?;
    }
    Ok(())
}

/// The capabilities of a container with these flags.
pub fn effective(add: &[String], drop: &[String], privileged: bool, host: &HostFacts) -> Result<CapSet, Error> {
    if privileged {
        return Ok(available(host));
    }
    let dropped = normalize(drop, host)?;
    let added = normalize(add, host)?;
    let all = |list: &[String]| list.iter().any(|name| name == EVERY);
    let set = |list: &[String]| list.iter().map(String::as_str).collect::<CapSet>();
    Ok(if all(&added) {
        CapSet(available(host).0 & !set(&dropped).0)
    } else if all(&dropped) {
        set(&added)
    } else {
        let default: CapSet = DEFAULT.into_iter().collect();
        CapSet(default.0 & !set(&dropped).0 | set(&added).0)
    })
}

fn number(name: &str) -> Option<usize> {
    ALL.iter().position(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostFacts {
        HostFacts { last_capability: 40, bounding: !0, ..HostFacts::default() }
    }

    fn check(add: &[&str], drop: &[&str], expect: &str) {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let result = match effective(&list(add), &list(drop), false, &host()) {
            Ok(set) => set.names().collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(result, expect);
    }

    const DEFAULTS: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP \
                            CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP";

    #[test]
    fn flags_change_the_default_set() {
        check(&[], &[], DEFAULTS);
        check(&["CHOWN"], &["all"], "CAP_CHOWN");
        check(&[], &["ALL"], "");
        check(&["net_admin", "cap_chown"], &["ALL"], "CAP_CHOWN CAP_NET_ADMIN");
        check(&["bogus"], &[], "unknown capability: \"CAP_BOGUS\"");
        check(&[], &["x"], "unknown capability: \"CAP_X\"");
    }

    #[test]
    fn validation_names_the_list() {
        let bad = ["x".to_owned()];
        assert_eq!(
            validate(&bad, &[], &host()).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_X\""
        );
        assert_eq!(
            validate(&[], &bad, &host()).unwrap_err().to_string(),
            "invalid CapDrop: unknown capability: \"CAP_X\""
        );
        assert!(validate(&["all".to_owned()], &[], &host()).is_ok());
    }

    #[test]
    fn all_added_but_some_dropped() {
        let set = effective(&["ALL".into()], &["SYS_ADMIN".into()], false, &host()).unwrap();
        assert_eq!(set.names().count(), 40);
        assert!(!set.contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn what_the_host_lacks_is_refused_by_name_and_left_out_of_all() {
        let host = HostFacts { last_capability: 37, bounding: !(1 << 21), ..HostFacts::default() };
        for name in ["BPF", "SYS_ADMIN"] {
            let error = normalize(&[name.into()], &host).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "capability not supported by your kernel or not available in the current environment: \"CAP_{name}\""
                )
            );
        }
        assert_eq!(effective(&[], &[], true, &host).unwrap().names().count(), 37);
    }
}

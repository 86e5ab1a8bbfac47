//! What happens on the host's side of a start: network devices that are handed over, and the processor's resource control.
//!
//! Source: runtime-spec 1.3, config-linux.md "Network Devices" and "IntelRdt".

use std::collections::HashSet;

use oci_spec::runtime::{LinuxIntelRdt, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::Error;

/// The kernel's IFNAMSIZ, without its closing zero.
const MAX_NAME: usize = 15;

/// A network device of the host that becomes the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name.
    pub name: String,
    /// Its name in the container, or a template with `%d`.
    pub new_name: String,
}

/// The devices of a spec, in the order of their names.
pub fn net_devices(spec: &Spec) -> Result<Vec<NetDevice>, Error> {
    let Some(linux) = spec.linux() else { return Ok(Vec::new()) };
    let invalid = |value: &str| Err(Error::Invalid { what: "network device", value: value.into() });
    let mut devices: Vec<NetDevice> = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        let new_name = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| name.clone());
        if !is_name(name, false) || !is_name(&new_name, true) {
            return invalid(&format!("{name} as {new_name}"));
        }
        devices.push(NetDevice { name: name.clone(), new_name });
    }
    let mut names = HashSet::new();
    if let Some(twice) = devices.iter().find(|device| !device.new_name.contains('%') && !names.insert(&device.new_name))
    {
        return invalid(&format!("{} (named twice)", twice.new_name));
    }
    let own = |kind| linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind);
    if !devices.is_empty() && !own(LinuxNamespaceType::Network) {
        return invalid("there is no network namespace to move it to");
    }
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(devices)
}

/// As the kernel's `dev_valid_name` has it; a template has one `%d`.
fn is_name(name: &str, template: bool) -> bool {
    let plain = |letter: char| letter.is_ascii_graphic() && !"/:".contains(letter);
    let percents = name.matches('%').count();
    let templated = template && percents == 1 && name.contains("%d");
    (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(plain)
        && (percents == 0 || templated)
}

/// The group of the processor's resource control that a container joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtPlan {
    /// Directory below the resctrl file system; empty for the default group.
    pub group: String,
    /// The spec names it: it may be there, and it stays.
    pub named: bool,
    /// Lines for its `schemata`.
    pub schemata: Vec<String>,
    /// A monitoring group of the container's own, below it.
    pub monitor: Option<String>,
}

/// What a spec asks for, for the container `id`.
pub fn rdt(spec: &Spec, id: &str) -> Result<Option<RdtPlan>, Error> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    wanted.map(|wanted| rdt_of(wanted, id)).transpose()
}

fn rdt_of(wanted: &LinuxIntelRdt, id: &str) -> Result<RdtPlan, Error> {
    let invalid = |what, value: &str| Err(Error::Invalid { what, value: value.into() });
    let named = wanted.clos_id().as_deref().filter(|name| !name.is_empty());
    let group = match named {
        // The default group is the file system's root.
        Some("/") => "",
        Some(name) if matches!(name, "." | "..") || name.contains(['/', '\n', '\0']) => return invalid("closID", name),
        Some(name) => name,
        None => id,
    };
    if let Some(schema) = wanted.mem_bw_schema().as_deref().filter(|schema| !schema.starts_with("MB:")) {
        return invalid("memBwSchema", schema);
    }
    let more = wanted.schemata().iter().flatten();
    let schemata: Vec<String> = wanted
        .l3_cache_schema()
        .iter()
        .chain(wanted.mem_bw_schema())
        .chain(more)
        .filter(|it| !it.is_empty())
        .cloned()
        .collect();
    if let Some(schema) = schemata.iter().find(|schema| schema.contains('\n') || !schema.contains(':')) {
        return invalid("schema of the processor's resources", schema);
    }
    let monitor = wanted.enable_monitoring().unwrap_or(false).then(|| id.to_owned());
    Ok(RdtPlan { group: group.to_owned(), named: named.is_some(), schemata, monitor })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(linux: serde_json::Value) -> Spec {
        serde_json::from_value(json!({"ociVersion": "1.3.0", "linux": linux})).expect("a spec")
    }

    #[test]
    fn devices_with_their_names() {
        let with = |devices: serde_json::Value| {
            net_devices(&spec(json!({"netDevices": devices, "namespaces": [{"type": "network"}]})))
        };
        let device = |name: &str, new_name: &str| NetDevice { name: name.into(), new_name: new_name.into() };
        let found = with(json!({"eth1": {"name": "net%d"}, "eth0": {}})).expect("valid");
        assert_eq!(found, [device("eth0", "eth0"), device("eth1", "net%d")]);
        let long = "a".repeat(16);
        for wrong in ["a/b", "..", "a b", "%s", "%d%d", &long] {
            assert!(with(json!({"eth0": {"name": wrong}})).is_err(), "{wrong}");
            assert!(with(json!({wrong: {}})).is_err(), "{wrong}");
        }
        assert!(with(json!({"eth%d": {}})).is_err());
        assert!(with(json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}})).is_err());
        assert!(net_devices(&spec(json!({"netDevices": {"eth0": {}}, "namespaces": []}))).is_err());
    }

    #[test]
    fn groups_of_the_processors_resources() {
        let with = |rdt_: serde_json::Value| rdt(&spec(json!({"intelRdt": rdt_})), "id").map(|it| it.expect("some"));
        let own = with(json!({"schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7"}));
        let lines = ["L3:0=7", "MB:0=20", "L2:0=f"].map(str::to_owned).to_vec();
        let expected = RdtPlan { group: "id".into(), named: false, schemata: lines, monitor: None };
        assert_eq!(own.expect("valid"), expected);
        let default = with(json!({"closID": "/", "enableMonitoring": true})).expect("valid");
        let expected = RdtPlan { group: String::new(), named: true, schemata: vec![], monitor: Some("id".into()) };
        assert_eq!(default, expected);
        for wrong in [
            json!({"closID": "../x"}),
            json!({"closID": ".."}),
            json!({"memBwSchema": "L3:0=1"}),
            json!({"l3CacheSchema": "L3:0=1\nMB:0=1"}),
            json!({"schemata": ["rubbish"]}),
        ] {
            assert!(with(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(rdt(&spec(json!({})), "id").expect("valid"), None);
    }
}

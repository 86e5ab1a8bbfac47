//! What a specification wants of the control group: its limits, with the devices that every container may use.

use corten_cgroup::{DeviceKind, DeviceRule, Limits};
use oci_spec::runtime::Spec;

/// A specification's limits. Of devices nothing is allowed but what its own rules and the defaults allow.
pub fn limits(spec: &Spec) -> Limits {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let mut limits = resources.map(Limits::from).unwrap_or_default();
    let deny = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: "rwm".into() };
    let own = limits.device_rules.take().unwrap_or_default();
    limits.device_rules = Some([deny].into_iter().chain(own).chain(default_rules()).collect());
    limits
}

/// What every container may do with devices besides its own rules, as runc adds it: make any node, and use null, zero,
/// full, random, urandom, tty and its pseudo-terminals.
fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule { allow: true, kind, major, minor, access: access.into() };
    let known =
        [(1, Some(3)), (1, Some(8)), (1, Some(7)), (5, Some(0)), (1, Some(5)), (1, Some(9)), (136, None), (5, Some(2))];
    let mut rules = vec![rule(DeviceKind::Char, None, None, "m"), rule(DeviceKind::Block, None, None, "m")];
    rules.extend(known.map(|(major, minor)| rule(DeviceKind::Char, Some(major), minor, "rwm")));
    rules
}

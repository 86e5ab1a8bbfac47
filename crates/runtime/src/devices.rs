//! Which devices every container may use, whatever its own rules say.

use corten_cgroup::{DeviceKind, DeviceRule};

/// What every container may do with devices besides its own rules, as runc adds it: make any node, and use null, zero,
/// full, random, urandom, tty and its pseudo-terminals.
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule { allow: true, kind, major, minor, access: access.into() };
    let known =
        [(1, Some(3)), (1, Some(8)), (1, Some(7)), (5, Some(0)), (1, Some(5)), (1, Some(9)), (136, None), (5, Some(2))];
    let mut rules = vec![rule(DeviceKind::Char, None, None, "m"), rule(DeviceKind::Block, None, None, "m")];
    rules.extend(known.map(|(major, minor)| rule(DeviceKind::Char, Some(major), minor, "rwm")));
    rules
}

/// A container's rules in full: nothing is allowed but what its own rules and the defaults allow.
pub fn complete(own: Option<Vec<DeviceRule>>) -> Vec<DeviceRule> {
    let deny = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: "rwm".into() };
    [deny].into_iter().chain(own.unwrap_or_default()).chain(default_rules()).collect()
}

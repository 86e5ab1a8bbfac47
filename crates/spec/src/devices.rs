//! Device nodes and the device rules of the control group.

use std::path::Path;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::{Device, DeviceKind, Error, HostFacts, Settings};

/// Numbers of the character devices every container may use: full, null, urandom, random, tty, console.
const ALLOWED: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
const ALL: &str = "rwm";

/// The nodes that are made besides the runtime's own (null, zero, full, random, urandom, tty, console, ptmx).
pub(crate) fn nodes(settings: &Settings, host: &HostFacts) -> Result<Vec<LinuxDevice>, Error> {
    let host_devices: &[Device] = if settings.privileged { &host.devices } else { &[] };
    let known = |path: &Path| host_devices.iter().any(|device| device.path == path);
    let asked = settings.devices.iter().filter(|device| !known(&device.path));
    host_devices.iter().chain(asked).map(node).collect()
}

fn node(device: &Device) -> Result<LinuxDevice, Error> {
    Ok(LinuxDeviceBuilder::default()
        .path(&device.path)
        .typ(kind(device.kind))
        .major(device.major)
        .minor(device.minor)
        .file_mode(device.mode)
        .uid(device.uid)
        .gid(device.gid)
        .build()?)
}

fn kind(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

/// The control group's rules: nothing, then the default devices, then what was asked; everything when privileged.
pub(crate) fn rules(settings: &Settings) -> Result<Vec<LinuxDeviceCgroup>, Error> {
    let everything = |allow| LinuxDeviceCgroupBuilder::default().allow(allow).access(ALL).build();
    if settings.privileged {
        return Ok(vec![everything(true)?]);
    }
    let mut rules = vec![everything(false)?];
    for (major, minor) in ALLOWED {
        rules.push(rule(true, LinuxDeviceType::C, major, minor, ALL)?);
    }
    // /dev/fuse, as Docker lists it; it stays denied unless asked for below.
    rules.push(rule(false, LinuxDeviceType::C, 10, 229, ALL)?);
    for device in &settings.devices {
        rules.push(rule(true, kind(device.kind), device.major, device.minor, &device.access)?);
    }
    for text in &settings.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

fn rule(allow: bool, kind: LinuxDeviceType, major: i64, minor: i64, access: &str) -> Result<LinuxDeviceCgroup, Error> {
    Ok(LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).major(major).minor(minor).access(access).build()?)
}

/// Reads `--device-cgroup-rule`: type, numbers or `*`, access; `a` alone stands for `a *:* rwm`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, Error> {
    let malformed = || Error::DeviceRule(text.to_owned());
    let full = if text == "a" { "a *:* rwm" } else { text };
    let mut words = full.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(malformed()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(malformed)?;
    let (major, minor) = (number(major).ok_or_else(malformed)?, number(minor).ok_or_else(malformed)?);
    if !(1..=3).contains(&access.len()) || !access.bytes().all(|letter| ALL.as_bytes().contains(&letter)) {
        return Err(malformed());
    }
    rule(true, kind, major, minor, access)
}

/// A device number; -1 stands for all.
fn number(text: &str) -> Option<i64> {
    match text {
        "*" => Some(-1),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        match (parse_rule(text), expect) {
            (Ok(rule), Some(expect)) => assert_eq!(rule.to_string(), expect),
            (Err(error), None) => assert_eq!(error.to_string(), format!("invalid device cgroup rule format: '{text}'")),
            (result, _) => panic!("{text}: {result:?}"),
        }
    }

    #[test]
    fn device_rules_are_read() {
        check("c 1:3 rwm", Some("c 1:3 rwm"));
        check("b 8:* r", Some("b 8:-1 r"));
        check("a", Some("a -1:-1 rwm"));
        for bad in ["", "c", "c 1:3", "d 1:3 r", "c 1:3 x", "c 1 r", "c 1:-3 r", "c 1:3 rwmr", "c  1:3 r", "c :3 r"] {
            check(bad, None);
        }
    }

    #[test]
    fn privileged_allows_everything_and_brings_the_hosts_nodes() {
        let device = |path: &str| Device {
            path: path.into(),
            kind: DeviceKind::Char,
            major: 10,
            minor: 229,
            mode: 0o666,
            uid: 0,
            gid: 0,
            access: "rwm".into(),
        };
        let host = HostFacts { devices: vec![device("/dev/fuse")], ..HostFacts::default() };
        let mut settings = Settings { devices: vec![device("/dev/fuse"), device("/dev/x")], ..Settings::default() };
        assert_eq!(nodes(&settings, &host).unwrap().len(), 2);
        assert_eq!(rules(&settings).unwrap().len(), 10);
        settings.privileged = true;
        assert_eq!(nodes(&settings, &host).unwrap().len(), 2);
        assert_eq!(rules(&settings).unwrap().len(), 1);
    }
}

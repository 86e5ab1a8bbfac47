//! `update`: new limits for a running container, from a file of resources or single flags.

use std::io::Read;

use corten_base::units::parse_ram;
use corten_cgroup::Limits;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::Context;
use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::store::{Container, Status};
use crate::resctrl::Resctrl;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("resources", "r"),
    Flag::value("blkio-weight", ""),
    Flag::value("cpu-period", ""),
    Flag::value("cpu-quota", ""),
    Flag::value("cpu-burst", ""),
    Flag::value("cpu-share", ""),
    Flag::value("cpu-rt-period", ""),
    Flag::value("cpu-rt-runtime", ""),
    Flag::value("cpuset-cpus", ""),
    Flag::value("cpuset-mems", ""),
    Flag::value("cpu-idle", ""),
    Flag::value("memory", ""),
    Flag::value("memory-reservation", ""),
    Flag::value("memory-swap", ""),
    Flag::value("pids-limit", ""),
    Flag::value("l3-cache-schema", ""),
    Flag::value("mem-bw-schema", ""),
];

/// Sets what is named; the rest stays.
pub(super) fn update(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    if container.status() == Status::Stopped {
        return Err(Error::new("container not running"));
    }
    let schemata = schemata(parsed)?;
    let resources = match parsed.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(parsed)?,
    };
    // Devices are not the update's: a list without rules must not become one that denies all.
    let limits = Limits { device_rules: None, ..Limits::from(&resources) };
    container.group()?.apply(&limits).map_err(Error::doing("cannot update the container"))?;
    if !schemata.is_empty() {
        divide(&container, &schemata)?;
    }
    Ok(0)
}

/// The flags about the processor's resources; refused where it has no such thing.
fn schemata(parsed: &Parsed) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (flag, resource, what) in [
        ("l3-cache-schema", "L3", "Intel RDT/CAT: l3 cache schema is not enabled"),
        ("mem-bw-schema", "MB", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ] {
        let Some(schema) = parsed.value(flag).filter(|schema| !schema.is_empty()) else { continue };
        if !Resctrl::find().is_some_and(|resctrl| resctrl.divides(resource)) {
            return Err(Error::new(what));
        }
        lines.push(schema.to_owned());
    }
    Ok(lines)
}

/// A container without groups of its own has no place for a division: it would be the whole host's.
fn divide(container: &Container, schemata: &[String]) -> Result<()> {
    let made = container.record.rdt.as_ref().filter(|made| made.removed);
    let made = made.ok_or_else(|| Error::new("the container has no resctrl group of its own"))?;
    made.divide(schemata).map_err(Error::doing("cannot divide the processor's resources"))
}

fn read(path: &str) -> Result<LinuxResources> {
    let mut text = String::new();
    let source = match path {
        "-" => std::io::stdin().read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    source.map_err(Error::doing(format!("cannot read {path}")))?;
    serde_json::from_str(&text).map_err(Error::doing(format!("cannot parse {path}")))
}

/// The flags as the document that a file would hold.
fn from_flags(parsed: &Parsed) -> Result<LinuxResources> {
    let (mut cpu, mut memory, mut resources) = (json!({}), json!({}), json!({}));
    let put = |section: &mut Value, flag: &str, key: &str, value: fn(&str, &str) -> Result<Value>| -> Result<()> {
        if let Some(text) = parsed.value(flag) {
            section[key] = value(flag, text)?;
        }
        Ok(())
    };
    for (flag, key) in [
        ("cpu-period", "period"),
        ("cpu-quota", "quota"),
        ("cpu-burst", "burst"),
        ("cpu-share", "shares"),
        ("cpu-rt-period", "realtimePeriod"),
        ("cpu-rt-runtime", "realtimeRuntime"),
        ("cpu-idle", "idle"),
    ] {
        put(&mut cpu, flag, key, number)?;
    }
    put(&mut cpu, "cpuset-cpus", "cpus", |_, text| Ok(json!(text)))?;
    put(&mut cpu, "cpuset-mems", "mems", |_, text| Ok(json!(text)))?;
    for (flag, key) in [("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")] {
        put(&mut memory, flag, key, bytes)?;
    }
    put(&mut resources, "pids-limit", "pids", |flag, text| Ok(json!({"limit": number(flag, text)?})))?;
    put(&mut resources, "blkio-weight", "blockIO", |flag, text| Ok(json!({"weight": number(flag, text)?})))?;
    (resources["cpu"], resources["memory"]) = (cpu, memory);
    serde_json::from_value(resources).map_err(Error::doing("invalid resources"))
}

fn number(flag: &str, text: &str) -> Result<Value> {
    let value: i64 = text.parse().map_err(|_| Error::new(format!("invalid value {text:?} for flag -{flag}")))?;
    Ok(json!(value))
}

fn bytes(flag: &str, text: &str) -> Result<Value> {
    if text == "-1" {
        return Ok(json!(-1));
    }
    let value = parse_ram(text).map_err(|_| Error::new(format!("invalid value {text:?} for flag -{flag}")))?;
    Ok(json!(value))
}

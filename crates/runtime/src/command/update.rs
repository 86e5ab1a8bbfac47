//! `update`: new limits for a running container, from a file of resources or single flags.

use std::io::Read as _;
use std::num::{IntErrorKind, ParseIntError};

use corten_base::units::parse_ram;
use corten_cgroup::Limits;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::Context;
use super::bundle::warn_of_what_is_ignored;
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
    Flag::value("kernel-memory", ""),
    Flag::value("kernel-memory-tcp", ""),
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
    warn_of_what_is_ignored(&resources, &context.log);
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

/// The flags as the document that a file would hold. An empty value is none.
fn from_flags(parsed: &Parsed) -> Result<LinuxResources> {
    let mut resources = json!({});
    for (flag, section, key, read) in LIMITS {
        if let Some(text) = parsed.value(flag).filter(|text| !text.is_empty()) {
            resources[section][key] = read(flag, text)?;
        }
    }
    serde_json::from_value(resources).map_err(Error::doing("invalid resources"))
}

type Read = fn(&str, &str) -> Result<Value>;

/// Flags, and the fields of the document that they are.
const LIMITS: [(&str, &str, &str, Read); 16] = [
    ("blkio-weight", "blockIO", "weight", count),
    ("cpu-period", "cpu", "period", unsigned),
    ("cpu-quota", "cpu", "quota", signed),
    ("cpu-burst", "cpu", "burst", unsigned),
    ("cpu-share", "cpu", "shares", unsigned),
    ("cpu-rt-period", "cpu", "realtimePeriod", unsigned),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", signed),
    ("cpuset-cpus", "cpu", "cpus", |_, text| Ok(json!(text))),
    ("cpuset-mems", "cpu", "mems", |_, text| Ok(json!(text))),
    ("cpu-idle", "cpu", "idle", signed),
    ("kernel-memory", "memory", "kernel", bytes),
    ("kernel-memory-tcp", "memory", "kernelTCP", bytes),
    ("memory", "memory", "limit", bytes),
    ("memory-reservation", "memory", "reservation", bytes),
    ("memory-swap", "memory", "swap", bytes),
    ("pids-limit", "pids", "limit", count),
];

fn signed(flag: &str, text: &str) -> Result<Value> {
    text.parse::<i64>().map(Value::from).map_err(|error| invalid(flag, text, "ParseInt", &error))
}

fn unsigned(flag: &str, text: &str) -> Result<Value> {
    text.parse::<u64>().map(Value::from).map_err(|error| invalid(flag, text, "ParseUint", &error))
}

/// Go's words, which are runc's.
fn invalid(flag: &str, text: &str, function: &str, error: &ParseIntError) -> Error {
    let is_large = matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
    let why = if is_large { "value out of range" } else { "invalid syntax" };
    Error::new(format!("invalid value for {flag}: strconv.{function}: parsing {text:?}: {why}"))
}

/// The two that runc's parser of flags reads by itself.
fn count(flag: &str, text: &str) -> Result<Value> {
    let count = text.parse::<i64>().map(Value::from);
    count.map_err(|_| Error::new(format!("invalid value {text:?} for flag -{flag}: parse error")))
}

fn bytes(flag: &str, text: &str) -> Result<Value> {
    if text == "-1" {
        return Ok(json!(-1));
    }
    parse_ram(text).map(Value::from).map_err(|error| Error::new(format!("invalid value for {flag}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(line: &str) -> Result<LinuxResources> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        from_flags(&Parsed::parse(FLAGS, &words)?)
    }

    /// Each flag as the document's field of that meaning.
    #[test]
    fn flags_are_the_documents_fields() {
        for (line, expected) in [
            ("--blkio-weight 300", json!({"blockIO": {"weight": 300}})),
            ("--cpu-period 5", json!({"cpu": {"period": 5}})),
            ("--cpu-quota=-1", json!({"cpu": {"quota": -1}})),
            ("--cpu-burst 7", json!({"cpu": {"burst": 7}})),
            ("--cpu-share 512", json!({"cpu": {"shares": 512}})),
            ("--cpu-rt-period 8", json!({"cpu": {"realtimePeriod": 8}})),
            ("--cpu-rt-runtime 9", json!({"cpu": {"realtimeRuntime": 9}})),
            ("--cpuset-cpus 0-1", json!({"cpu": {"cpus": "0-1"}})),
            ("--cpuset-mems 0", json!({"cpu": {"mems": "0"}})),
            ("--cpu-idle 1", json!({"cpu": {"idle": 1}})),
            ("--memory 1k", json!({"memory": {"limit": 1024}})),
            ("--memory-reservation 2b", json!({"memory": {"reservation": 2}})),
            ("--memory-swap -1", json!({"memory": {"swap": -1}})),
            ("--kernel-memory 1", json!({"memory": {"kernel": 1}})),
            ("--kernel-memory-tcp 1", json!({"memory": {"kernelTCP": 1}})),
            ("--pids-limit 3", json!({"pids": {"limit": 3}})),
            ("--memory= --cpu-idle=", json!({})),
        ] {
            let expected: LinuxResources = serde_json::from_value(expected).unwrap();
            assert_eq!(resources(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn values_that_are_none() {
        for (line, text) in [
            ("--cpu-quota x", "invalid value for cpu-quota: strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("--cpu-period -1", "invalid value for cpu-period: strconv.ParseUint: parsing \"-1\": invalid syntax"),
            (
                "--cpu-share 99999999999999999999",
                "invalid value for cpu-share: strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
            ),
            ("--memory lots", "invalid value for memory: invalid size: 'lots'"),
            ("--pids-limit x", "invalid value \"x\" for flag -pids-limit: parse error"),
        ] {
            assert_eq!(resources(line).unwrap_err().message, text, "{line}");
        }
    }
}

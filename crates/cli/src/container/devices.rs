//! `--device`, `--gpus` and the block I/O flags.

use corten_base::units;
use serde_json::{Map, Value, json};

use super::checks::parse_signed;
use super::csv;

/// The request's `Devices` and `DeviceRequests`.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub nodes: Vec<Value>,
    pub requests: Vec<Value>,
}

impl Devices {
    /// Reads `--gpus` and `--device`; names of the container device interface become one request.
    pub fn parse(gpus: &[String], devices: &[String]) -> Result<Devices, String> {
        let mut all = Devices::default();
        for text in gpus {
            all.requests.push(parse_gpus(text)?);
        }
        let (named, paths): (Vec<&String>, Vec<&String>) = devices.iter().partition(|text| is_cdi_name(text));
        for path in paths {
            all.nodes.push(parse_device(path)?);
        }
        if !named.is_empty() {
            all.requests.push(json!({
                "Driver": "cdi", "Count": 0, "DeviceIDs": named, "Capabilities": null, "Options": null,
            }));
        }
        Ok(all)
    }
}

/// `vendor.com/class=name`
fn is_cdi_name(text: &str) -> bool {
    let word = |part: &str, extra: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.chars().all(|other| other.is_ascii_alphanumeric() || extra.contains(other))
    };
    text.split_once('=').is_some_and(|(kind, name)| {
        word(name, "_-.:")
            && kind.split_once('/').is_some_and(|(vendor, class)| word(vendor, "_-.") && word(class, "_-."))
    })
}

fn parse_device(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |part: &str| !part.is_empty() && part.chars().all(|letter| "rwm".contains(letter));
    let (source, target, mode) = match parts[..] {
        [source] if !source.is_empty() => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] if is_mode(mode) => (source, if target.is_empty() { source } else { target }, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !target.starts_with('/') {
        return Err(format!("{target} is not an absolute path"));
    }
    Ok(json!({ "PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode }))
}

/// Checks a `--gpus` value.
pub(super) fn gpus(text: &str) -> Result<(), String> {
    parse_gpus(text).map(drop)
}

fn parse_gpus(text: &str) -> Result<Value, String> {
    let mut driver = String::new();
    let mut count = None;
    let mut ids: Vec<String> = Vec::new();
    let mut capabilities: Vec<String> = Vec::new();
    let mut options = Map::new();
    let mut seen: Vec<String> = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("", field.as_str()));
        if seen.iter().any(|other| other == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match key {
            "" | "count" => count = Some(parse_count(value)?),
            "driver" => driver = value.to_owned(),
            "device" => ids = value.split(',').map(str::to_owned).collect(),
            "capabilities" => capabilities = value.split(',').map(str::to_owned).collect(),
            "options" => options.extend(csv::fields(value)?.iter().map(|option| {
                let (key, value) = option.split_once('=').unwrap_or((option, ""));
                (key.to_owned(), value.into())
            })),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    // Without a count or ids, one device is meant; capabilities always include the one of GPUs.
    let count = count.unwrap_or(i64::from(ids.is_empty()));
    capabilities.push("gpu".to_owned());
    let ids = if ids.is_empty() { Value::Null } else { json!(ids) };
    Ok(
        json!({ "Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": [capabilities], "Options": options }),
    )
}

fn parse_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

/// Checks `--blkio-weight-device`.
pub(super) fn weight(text: &str) -> Result<(), String> {
    parse_weight(text).map(drop)
}

/// `/dev/sda:200`
pub(super) fn parse_weight(text: &str) -> Result<Value, String> {
    let (path, weight) = split_device(text)?;
    match weight.parse::<u16>() {
        Ok(number) if number == 0 || (10..=1000).contains(&number) => Ok(json!({ "Path": path, "Weight": number })),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// Checks `--device-read-bps` and `--device-write-bps`.
pub(super) fn bytes_rate(text: &str) -> Result<(), String> {
    parse_bytes_rate(text).map(drop)
}

/// `/dev/sda:1mb`
pub(super) fn parse_bytes_rate(text: &str) -> Result<Value, String> {
    let (path, rate) = split_device(text)?;
    match units::parse_ram(rate) {
        Ok(rate) => Ok(json!({ "Path": path, "Rate": rate })),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )),
    }
}

/// Checks `--device-read-iops` and `--device-write-iops`.
pub(super) fn operations_rate(text: &str) -> Result<(), String> {
    parse_operations_rate(text).map(drop)
}

/// `/dev/sda:1000`
pub(super) fn parse_operations_rate(text: &str) -> Result<Value, String> {
    let (path, rate) = split_device(text)?;
    match parse_signed(rate) {
        Ok(rate) if rate >= 0 => Ok(json!({ "Path": path, "Rate": rate })),
        _ => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )),
    }
}

fn split_device(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, _)) if !path.starts_with("/dev/") => Err(format!("bad format for device path: {text}")),
        Some((path, value)) if !path.is_empty() && !value.is_empty() => Ok((path, value)),
        _ => Err(format!("bad format: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_paths() {
        let shown = |text: &str| parse_device(text).map_or_else(|error| error, |value| value.to_string());
        assert!(shown("/dev/null").contains(r#""PathInContainer":"/dev/null""#));
        assert!(shown("/dev/zero:/dev/z:r").contains(r#""CgroupPermissions":"r""#));
        assert_eq!(shown("/dev/null:/x:z"), "bad mode specified: z");
        assert_eq!(shown("a:b:c:d"), "bad format for path: a:b:c:d");
        assert_eq!(shown(""), "bad format for path: ");
        assert!(is_cdi_name("vendor.com/gpu=0"));
        assert!(!is_cdi_name("/dev/sda"));
    }

    #[test]
    fn gpu_requests() {
        let shown = |text: &str| parse_gpus(text).map_or_else(|error| error, |value| value.to_string());
        assert!(shown("all").contains(r#""Count":-1"#));
        assert!(shown(r#""device=0,1",capabilities=utility"#).contains(r#"[["utility","gpu"]]"#));
        assert_eq!(shown("foo=bar"), "unexpected key 'foo' in 'foo=bar'");
        assert_eq!(shown("x"), "invalid count (x): value must be either \"all\" or an integer: invalid syntax");
    }

    #[test]
    fn rates() {
        assert_eq!(weight("/dev/sda:5"), Err("invalid weight for device: /dev/sda:5".to_owned()));
        assert_eq!(weight("/dev/sda"), Err("bad format: /dev/sda".to_owned()));
        assert_eq!(bytes_rate("sda:1"), Err("bad format for device path: sda:1".to_owned()));
        assert!(bytes_rate("/dev/sda:x").is_err());
        assert!(operations_rate("/dev/sda:-1").is_err());
    }
}

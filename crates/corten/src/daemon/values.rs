//! What options' values mean.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_engine::Watermarks;

use super::settings::Settings;

pub(super) fn one(values: &[String]) -> &str {
    values.last().map_or("", String::as_str)
}

pub(super) fn text(target: &mut String, values: &[String]) -> Result<(), String> {
    *target = one(values).into();
    Ok(())
}

pub(super) fn list(target: &mut Vec<String>, values: &[String]) -> Result<(), String> {
    *target = values.to_vec();
    Ok(())
}

pub(super) fn boolean(target: &mut bool, values: &[String]) -> Result<(), String> {
    *target = match one(values) {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => return Err(format!("{other:?} is neither true nor false")),
    };
    Ok(())
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

pub(super) fn absolute(path: &str) -> Result<std::path::PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{path:?}: {error}"))
}

/// Bytes with Docker's binary units.
pub(super) fn size(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(format!("invalid size: '{text}'")),
    };
    digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("invalid size: '{text}'"))
}

/// `85` or `85%`.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(format!("{text:?} is no percentage")),
    }
}

/// The marks at which images go, made when the first of them is set.
pub(super) fn watermarks(settings: &mut Settings) -> &mut Watermarks {
    let default = Watermarks { high: 90, low: 80, least_age: Duration::from_secs(120) };
    settings.engine.watermarks.get_or_insert(default)
}

/// `key=value` pairs.
pub(super) fn map(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |value: &String| {
        value
            .split_once('=')
            .map(|(key, value)| (key.into(), value.into()))
            .ok_or_else(|| format!("{value:?} is not key=value"))
    };
    values.iter().map(pair).collect()
}

pub(super) fn only(values: &[String], fine: &[&str]) -> Result<(), String> {
    match values.iter().find(|value| !fine.contains(&value.as_str())) {
        Some(other) => Err(format!("{other:?} is not implemented")),
        None => Ok(()),
    }
}

/// TLS itself isn't there; saying so is needed for TCP on an address that others reach.
pub(super) fn plain_tcp(settings: &mut Settings, values: &[String]) -> Result<(), String> {
    let mut wanted = true;
    boolean(&mut wanted, values)?;
    if wanted {
        return Err("is not implemented".into());
    }
    settings.plain_tcp = true;
    Ok(())
}

/// One proxy; empty is none, whatever the environment says.
pub(super) fn proxy(target: &mut Option<String>, values: &[String]) -> Result<(), String> {
    *target = Some(one(values).into());
    Ok(())
}

/// `proxies` of the file: `http-proxy`, `https-proxy`, `no-proxy`.
pub(super) fn proxies(settings: &mut Settings, values: &[String]) -> Result<(), String> {
    let proxies = &mut settings.engine.proxies;
    for (name, address) in map(values)? {
        let target = match name.as_str() {
            "http-proxy" => &mut proxies.http,
            "https-proxy" => &mut proxies.https,
            "no-proxy" => &mut proxies.exceptions,
            other => return Err(format!("unknown proxy setting: {other}")),
        };
        // A flag for the same is read later, and wins.
        target.get_or_insert(address);
    }
    Ok(())
}

/// A number of things that can't be none.
pub(super) fn at_least_one(values: &[String], what: &str) -> Result<u32, String> {
    let text = one(values);
    match text.parse::<i64>() {
        Ok(number @ 1..=1000) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        _ => Err(format!("invalid {what}: {text}")),
    }
}

/// `base=10.0.0.0/8,size=24`.
pub(super) fn address_pools(settings: &mut Settings, values: &[String]) -> Result<(), String> {
    for value in values {
        let (mut base, mut size) = (None, None);
        for part in value.split(',') {
            match part.split_once('=') {
                Some(("base", net)) => base = Some(parse(net)?),
                Some(("size", bits)) => size = Some(parse(bits)?),
                _ => return Err(format!("{value:?} is not base=<subnet>,size=<bits>")),
            }
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(format!("{value:?} is not base=<subnet>,size=<bits>"));
        };
        settings.engine.network.default_address_pools.push(corten_network::AddressPool { base, size });
    }
    Ok(())
}

/// `nofile=soft:hard`.
pub(super) fn ulimits(settings: &mut Settings, values: &[String]) -> Result<(), String> {
    for (name, limits) in map(values)? {
        let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
        let limit = corten_engine::settings::Ulimit { name, soft: parse(soft)?, hard: parse(hard)? };
        settings.engine.default_ulimits.push(limit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("5"), Ok(5));
        assert!(size("x").is_err() && size("").is_err());
    }

    #[test]
    fn pairs() {
        assert_eq!(map(&["a=b=c".into()]).map(|map| map["a"].clone()), Ok("b=c".into()));
        assert!(map(&["a".into()]).is_err());
    }
}

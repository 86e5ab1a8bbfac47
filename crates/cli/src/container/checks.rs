//! Checks of single flag values; each says what is wrong in Docker's words.

use std::net::IpAddr;

use corten_base::sysctl::owner;
use corten_base::units;

use crate::matches::quote;

type Check = Result<(), String>;

/// A number as Go's `strconv.ParseInt` reads it.
pub(crate) fn signed(text: &str) -> Check {
    parse_signed(text).map(drop)
}

/// The number behind [`signed`].
pub(super) fn parse_signed(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {reason}", quote(text))
    })
}

/// An unsigned 16-bit number.
pub(crate) fn unsigned16(text: &str) -> Check {
    parse_unsigned(text).and_then(|number| match u16::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("strconv.ParseUint: parsing {}: value out of range", quote(text))),
    })
}

/// An unsigned number.
pub(super) fn unsigned(text: &str) -> Check {
    parse_unsigned(text).map(drop)
}

pub(super) fn parse_unsigned(text: &str) -> Result<u64, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        true => text.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: value out of range", quote(text))),
        false => Err(format!("strconv.ParseUint: parsing {}: invalid syntax", quote(text))),
    }
}

/// A size such as `512m`.
pub(crate) fn memory(text: &str) -> Check {
    units::parse_ram(text).map(drop).map_err(|error| error.to_string())
}

/// A size, or -1 for no limit.
pub(crate) fn swap(text: &str) -> Check {
    if text == "-1" { Ok(()) } else { memory(text) }
}

/// A duration such as `1m30s`.
pub(crate) fn duration(text: &str) -> Check {
    units::parse_go_duration(text).map(drop).map_err(|error| error.to_string())
}

/// A number of CPUs.
pub(crate) fn cpus(text: &str) -> Check {
    parse_cpus(text).map(drop)
}

/// A number of CPUs in billionths, at most nine decimal places.
pub(crate) fn parse_cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let nanos: i64 = format!("{whole}{significant:0<9}").parse().map_err(|_| wrong())?;
    Ok(if negative { -nanos } else { nanos })
}

/// One of the standard streams.
pub(super) fn stream(text: &str) -> Check {
    match text.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// `NAME` or `NAME=value`.
pub(super) fn variable(text: &str) -> Check {
    match text.split('=').next() {
        Some("") | None => Err(format!("invalid environment variable: {text}")),
        _ => Ok(()),
    }
}

/// `key` or `key=value`.
pub(crate) fn label(text: &str) -> Check {
    match text.split('=').next() {
        Some("") | None => Err(format!("invalid label '{text}': empty name")),
        _ => Ok(()),
    }
}

/// `host:address` or `host=address`.
pub(super) fn extra_host(text: &str) -> Check {
    let Some((name, address)) = split_extra_host(text) else {
        return Err(format!("bad format for add-host: {}", quote(text)));
    };
    let plain = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() {
        return Err(format!("bad format for add-host: {}", quote(text)));
    }
    if address == "host-gateway" || plain.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address in add-host: {}", quote(address)))
}

/// The two halves of an extra host; an IPv6 address keeps its colons.
pub(super) fn split_extra_host(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').or_else(|| text.split_once(':'))
}

/// An address.
pub(crate) fn ip_address(text: &str) -> Check {
    match text.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A DNS search domain; `.` alone means none.
pub(super) fn search_domain(text: &str) -> Check {
    let text = text.trim();
    let label_is_valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if text == "." || text.strip_suffix('.').unwrap_or(text).split('.').all(label_is_valid) {
        return Ok(());
    }
    Err(format!("{text} is not a valid domain"))
}

/// `key=value` of a kernel setting that a container may have.
pub(super) fn sysctl(text: &str) -> Check {
    match text.split_once('=') {
        Some((key, _)) if owner(key).is_some() => Ok(()),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// `c 1:3 rwm`
pub(super) fn device_rule(text: &str) -> Check {
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let access = |part: &str| (1..=3).contains(&part.len()) && part.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(' ').collect();
    let valid = match parts[..] {
        [kind, numbers, modes] => {
            matches!(kind, "a" | "b" | "c")
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && access(modes)
        }
        _ => false,
    };
    if valid { Ok(()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`
pub(super) fn ulimit(text: &str) -> Check {
    parse_ulimit(text).map(drop)
}

/// A resource limit: name, soft and hard value; -1 for none.
pub(super) fn parse_ulimit(text: &str) -> Result<(String, i64, i64), String> {
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    if !LIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let mut parts = value.split(':');
    let soft = parse_signed(parts.next().unwrap_or_default())?;
    let hard = parts.next().map_or(Ok(soft), parse_signed)?;
    if parts.next().is_some() {
        return Err(format!("too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"));
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: fn(&str) -> Check, text: &str, expect: &str) {
        assert_eq!(function(text).err().unwrap_or_default(), expect, "{text}");
    }

    #[test]
    fn values() {
        check(signed, "5", "");
        check(signed, "x", "strconv.ParseInt: parsing \"x\": invalid syntax");
        check(signed, "9999999999999999999", "strconv.ParseInt: parsing \"9999999999999999999\": value out of range");
        check(unsigned16, "70000", "strconv.ParseUint: parsing \"70000\": value out of range");
        check(unsigned16, "-1", "strconv.ParseUint: parsing \"-1\": invalid syntax");
        check(memory, "x", "invalid size: 'x'");
        check(swap, "-1", "");
        check(duration, "x", "time: invalid duration \"x\"");
        check(extra_host, "x", "bad format for add-host: \"x\"");
        check(extra_host, "x:y", "invalid IP address in add-host: \"y\"");
        check(extra_host, "x:::1", "");
        check(extra_host, "x=host-gateway", "");
        check(search_domain, "!", "! is not a valid domain");
        check(search_domain, "a.example.com.", "");
        check(sysctl, "x", "sysctl 'x' is not allowed");
        check(sysctl, "net.ipv4.ip_forward=1", "");
        check(device_rule, "c 1:3 rwm", "");
        check(device_rule, "a *:* rwm", "");
        check(device_rule, "c 1 rwm", "invalid device cgroup format 'c 1 rwm'");
        check(label, "=x", "invalid label '=x': empty name");
        check(variable, "=x", "invalid environment variable: =x");
    }

    #[test]
    fn cpus_in_billionths() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".25"), Ok(250_000_000));
        assert_eq!(parse_cpus("-1"), Ok(-1_000_000_000));
        assert_eq!(parse_cpus("1.2345678901"), Err("value is too precise".to_owned()));
        assert_eq!(parse_cpus("x"), Err("failed to parse x as a rational number".to_owned()));
    }

    #[test]
    fn ulimits() {
        assert_eq!(parse_ulimit("nofile=10:20"), Ok(("nofile".to_owned(), 10, 20)));
        assert_eq!(parse_ulimit("core=-1"), Ok(("core".to_owned(), -1, -1)));
        check(ulimit, "x", "invalid ulimit argument: x");
        check(ulimit, "foo=5", "invalid ulimit type: foo");
        check(ulimit, "nofile=10:5", "ulimit soft limit must be less than or equal to hard limit: 10 > 5");
        check(ulimit, "nofile=a", "strconv.ParseInt: parsing \"a\": invalid syntax");
    }
}

//! Durations in Go's notation (`1m30s`) and in Docker's words (`About a minute`).

use crate::ErrorKind;

/// A text that is no Go duration; the texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not a number with a unit, or out of range.
    #[error("time: invalid duration {0:?}")]
    Format(String),
    /// A number without unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that Go doesn't know.
    #[error("time: unknown unit {0:?} in duration {1:?}")]
    UnknownUnit(String, String),
}

impl InvalidDuration {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// How long ago something was, as Docker's tables say it.
pub fn human_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => return format!("{seconds} seconds"),
        60..120 => return "About a minute".to_owned(),
        120..3600 => return format!("{minutes} minutes"),
        _ => {}
    }
    const DAY: u64 = 24;
    match hours {
        0 | 1 => "About an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / DAY),
        336..1440 => format!("{} weeks", hours / DAY / 7),
        1440..17520 => format!("{} months", hours / DAY / 30),
        _ => format!("{} years", seconds / 3600 / DAY / 365),
    }
}

/// Reads a Go duration such as `1h2m3.5s` or `-300ms` into nanoseconds.
pub fn parse_go_duration(text: &str) -> Result<i64, InvalidDuration> {
    let invalid = || InvalidDuration::Format(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_component(text, rest)?;
        total += nanos;
        if total > i128::from(i64::MAX) + 1 {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// One number with its unit from the front of `rest`.
fn parse_component<'a>(text: &str, rest: &'a str) -> Result<(i128, &'a str), InvalidDuration> {
    let invalid = || InvalidDuration::Format(text.to_owned());
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, mut after) = rest.split_at(digits(rest));
    let mut fraction = "";
    if let Some(behind_dot) = after.strip_prefix('.') {
        (fraction, after) = behind_dot.split_at(digits(behind_dot));
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_end);
    let scale: i128 = match unit {
        "" => return Err(InvalidDuration::MissingUnit(text.to_owned())),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(InvalidDuration::UnknownUnit(unit.to_owned(), text.to_owned())),
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())?.into() };
    // More digits than this can't change the result by a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        _ => fraction.parse::<i128>().map_err(|_| invalid())? * scale / 10i128.pow(fraction.len() as u32),
    };
    Ok((whole * scale + part, after))
}

/// Prints nanoseconds as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let body = match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => format!("{}µs", with_fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", with_fraction(magnitude, 1_000_000)),
        _ => {
            let seconds = magnitude / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = with_fraction(magnitude - (hours * 3600 + minutes * 60) * 1_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, _) => format!("{minutes}m{rest}s"),
                _ => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    };
    format!("{sign}{body}")
}

/// `value / unit` with no trailing zeros; `unit` is a power of ten.
fn with_fraction(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn docker_words() {
        let check = |seconds: u64, expect: &str| assert_eq!(human_duration(Duration::from_secs(seconds)), expect);
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        assert_eq!(human_duration(Duration::from_millis(999)), "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(119, "About a minute");
        check(120, "2 minutes");
        check(59 * 60 + 59, "59 minutes");
        check(HOUR, "About an hour");
        check(HOUR + 1799, "About an hour");
        check(HOUR + 1800, "2 hours");
        check(47 * HOUR, "47 hours");
        check(2 * DAY, "2 days");
        check(13 * DAY, "13 days");
        check(14 * DAY, "2 weeks");
        check(59 * DAY, "8 weeks");
        check(60 * DAY, "2 months");
        check(729 * DAY, "24 months");
        check(2 * 365 * DAY, "2 years");
    }

    #[test]
    fn go_durations() {
        let check = |text: &str, nanos: i64| assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        check("0", 0);
        check("-0", 0);
        check("1m30s", 90_000_000_000);
        check("1.5h", 5_400_000_000_000);
        check(".5s", 500_000_000);
        check("1.s", 1_000_000_000);
        check("-10ms", -10_000_000);
        check("1h2m3.5s", 3_723_500_000_000);
        check("1µs", 1_000);
        check("9223372036854775807ns", i64::MAX);
        check("-9223372036854775808ns", i64::MIN);
        let fails = |text: &str, expect: &str| {
            assert_eq!(parse_go_duration(text).unwrap_err().to_string(), expect, "{text}");
        };
        fails("", "time: invalid duration \"\"");
        fails("1", "time: missing unit in duration \"1\"");
        fails("1x", "time: unknown unit \"x\" in duration \"1x\"");
        fails("s", "time: invalid duration \"s\"");
        fails("-", "time: invalid duration \"-\"");
        fails("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\"");
        fails("3000000h", "time: invalid duration \"3000000h\"");
    }

    #[test]
    fn go_prints() {
        for (nanos, expect) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_000_000_000, "-1m30s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_go_duration(nanos), expect);
            assert_eq!(parse_go_duration(expect), Ok(nanos));
        }
    }
}

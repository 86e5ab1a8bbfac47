//! Points in time as Docker prints and reads them: RFC 3339 in UTC with nanoseconds, and Unix seconds with a fraction.

use crate::ErrorKind;
use crate::units::parse_go_duration;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How Go prints a time that was never set.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A text that is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {0:?}")]
pub struct InvalidTime(pub String);

impl InvalidTime {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// RFC 3339 with as many fractional digits as needed, at most nine: `2026-11-21T01:02:03.1234Z`.
pub fn rfc3339_nano(time: SystemTime) -> String {
    let fixed = rfc3339_nano_fixed(time);
    let trimmed = fixed.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{trimmed}Z")
}

/// RFC 3339 with exactly nine fractional digits, as log lines carry it.
pub fn rfc3339_nano_fixed(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(timestamp) => format!("{timestamp:.9}"),
        Err(_) => ZERO_TIME.to_owned(),
    }
}

/// RFC 3339 with whole seconds.
pub fn rfc3339(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(timestamp) => format!("{timestamp:.0}"),
        Err(_) => ZERO_TIME.to_owned(),
    }
}

/// Reads RFC 3339 with any offset and fraction.
pub fn parse_rfc3339(text: &str) -> Result<SystemTime, InvalidTime> {
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| InvalidTime(text.to_owned()))?;
    Ok(timestamp.into())
}

/// Nanoseconds since 1970; negative before.
pub fn unix_nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Whole seconds since 1970; negative before.
pub fn unix_seconds(time: SystemTime) -> i64 {
    unix_nanos(time).div_euclid(1_000_000_000)
}

/// The time so many nanoseconds after 1970.
pub fn from_unix_nanos(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// Reads Unix seconds with an optional fraction of up to nine digits, `1136073600.000000001`, as the API's `since` and
/// `until` carry it.
pub fn parse_unix(text: &str) -> Result<SystemTime, InvalidTime> {
    let invalid = || InvalidTime(text.to_owned());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let digits = seconds.strip_prefix('-').unwrap_or(seconds);
    if digits.is_empty() || !is_number(digits) || !is_number(fraction) || fraction.len() > 9 {
        return Err(invalid());
    }
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    // What lies beyond the year 2262 is as good as never.
    Ok(from_unix_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

/// Reads what `--since` and `--until` take: a Go duration back from `now`, RFC 3339 or its beginnings (UTC where no
/// offset is given), or Unix seconds with a fraction.
pub fn parse_since(text: &str, now: SystemTime) -> Result<SystemTime, InvalidTime> {
    let invalid = || InvalidTime(text.to_owned());
    // Docker reads a bare `0` as the epoch, though it is a Go duration too.
    if let Ok(nanos) = parse_go_duration(text)
        && text != "0"
    {
        let then = unix_nanos(now).checked_sub(nanos).ok_or_else(invalid)?;
        return Ok(from_unix_nanos(then));
    }
    parse_unix(text).or_else(|_| parse_rfc3339(text)).or_else(|_| parse_partial(text)).map_err(|_| invalid())
}

/// A date, or date and time without offset, down to the minute or hour.
fn parse_partial(text: &str) -> Result<SystemTime, InvalidTime> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let complete = match text.len() {
        7 => format!("{text}-01T00:00:00Z"),
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    };
    parse_rfc3339(&complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOS: i64 = 1_795_224_123_120_000_000;

    #[test]
    fn prints() {
        let time = from_unix_nanos(NANOS);
        assert_eq!(rfc3339_nano(time), "2026-11-21T01:22:03.12Z");
        assert_eq!(rfc3339_nano_fixed(time), "2026-11-21T01:22:03.120000000Z");
        assert_eq!(rfc3339(time), "2026-11-21T01:22:03Z");
        assert_eq!(rfc3339_nano(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(parse_rfc3339(ZERO_TIME).unwrap()), ZERO_TIME);
    }

    #[test]
    fn reads() {
        let now = from_unix_nanos(NANOS);
        let check = |text: &str, nanos: i64| assert_eq!(unix_nanos(parse_since(text, now).unwrap()), nanos, "{text}");
        check("2026-11-21T01:22:03.12Z", NANOS);
        check("2026-11-21T02:22:03.12+01:00", NANOS);
        check("1795224123.12", NANOS);
        check("10s", NANOS - 10_000_000_000);
        check("0", 0);
        check("1970-01-02", 86_400_000_000_000);
        check("1970-01-02T01:00", 90_000_000_000_000);
        check("1970-01-02T01", 90_000_000_000_000);
        check("1970-01-01T00:00:01", 1_000_000_000);
        for text in ["", "x", "-", "1.x", "1.1234567890", "yesterday", "2026-13-01", "99999999999999999999"] {
            assert!(parse_since(text, now).is_err(), "{text}");
        }
    }
}

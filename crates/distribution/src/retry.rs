//! When to ask again, and how long to wait before.

use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime};

/// The longest that a registry may have us wait. Beyond it the error is the answer.
const LONGEST: Duration = Duration::from_secs(60);

/// So much progress of a blob, down or up, makes up for earlier failures.
pub(crate) const FORGIVEN: u64 = 1 << 20;

/// Where in a series of tries a request is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    /// The number of this one; the first is 1.
    pub attempt: u32,
    /// How many there may be.
    pub most: u32,
    /// The wait before the second.
    pub first: Duration,
}

/// Whether the same request may be answered otherwise a moment later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long to wait before the next try, or nothing if this answer is final.
pub(crate) fn after_status(status: StatusCode, headers: &HeaderMap, tries: Tries, now: SystemTime) -> Option<Duration> {
    let Tries { attempt, most, first } = tries;
    if !is_transient(status) || attempt >= most {
        return None;
    }
    match asked(headers, now) {
        Asked::Wait(delay) => Some(delay),
        Asked::TooMuch => None,
        // Without a word on when, a rate limit is tried once more only.
        Asked::Nothing if status == StatusCode::TOO_MANY_REQUESTS && attempt > 1 => None,
        Asked::Nothing => Some(back_off(attempt, first)),
    }
}

/// What an answer says on when to come again.
pub(crate) enum Asked {
    Nothing,
    Wait(Duration),
    /// More than anybody waits, or nothing that makes sense.
    TooMuch,
}

/// Reads `Retry-After`.
pub(crate) fn asked(headers: &HeaderMap, now: SystemTime) -> Asked {
    let Some(text) = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Asked::Nothing;
    };
    retry_after(text, now).filter(|&delay| delay <= LONGEST).map_or(Asked::TooMuch, Asked::Wait)
}

/// `first`, doubled each time, with a part that differs between clients.
pub(crate) fn back_off(attempt: u32, first: Duration) -> Duration {
    let full = first * (1 << attempt.saturating_sub(1).min(5));
    let mut byte = [0];
    // Without randomness the delay is merely the same for all.
    let _ = getrandom::fill(&mut byte);
    full / 2 + full / 2 * u32::from(byte[0]) / 255
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);

    fn headers(value: &str) -> HeaderMap {
        [(http::header::RETRY_AFTER, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn what_is_tried_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |status: u16, value: Option<&str>, attempt, expect: Option<u64>| {
            let headers = value.map(headers).unwrap_or_default();
            let tries = Tries { attempt, most: 5, first: FIRST };
            let delay = after_status(StatusCode::from_u16(status).unwrap(), &headers, tries, now);
            assert_eq!(delay.map(|delay| delay.as_secs()), expect, "{status} {value:?} {attempt}");
        };
        check(404, None, 1, None);
        check(200, Some("1"), 1, None);
        check(503, Some("7"), 1, Some(7));
        check(503, Some("Sun, 06 Nov 1994 08:49:47 GMT"), 1, Some(10));
        check(503, Some("Sun, 06 Nov 1994 08:49:07 GMT"), 1, Some(0));
        check(503, Some("3600"), 1, None);
        check(503, Some("never"), 1, None);
        check(503, Some("7"), 5, None);
        check(429, None, 1, Some(0));
        check(429, None, 2, None);
    }

    #[test]
    fn back_off_grows() {
        for attempt in 1..20 {
            let most = Duration::from_millis(500 << (attempt - 1).min(5));
            let delay = back_off(attempt, FIRST);
            assert!(delay >= most / 2 && delay <= most, "{attempt}: {delay:?}");
        }
    }
}

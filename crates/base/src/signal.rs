//! Linux signals by name and number, with Docker's error texts.

use crate::ErrorKind;

/// `SIGHUP`
pub const SIGHUP: i32 = 1;
/// `SIGINT`
pub const SIGINT: i32 = 2;
/// `SIGKILL`
pub const SIGKILL: i32 = 9;
/// `SIGTERM`
pub const SIGTERM: i32 = 15;
/// `SIGCHLD`
pub const SIGCHLD: i32 = 17;
/// `SIGWINCH`
pub const SIGWINCH: i32 = 28;
/// The lowest real-time signal that glibc leaves to programs.
pub const SIGRTMIN: i32 = 34;
/// The highest signal.
pub const SIGRTMAX: i32 = 64;

/// A text that is no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

impl InvalidSignal {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Names without `SIG`; of several names for a number, the first is the one shown.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

/// Reads `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
pub fn parse(text: &str) -> Result<i32, InvalidSignal> {
    let invalid = || InvalidSignal(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=SIGRTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    real_time(name).ok_or_else(invalid)
}

/// `RTMIN`, `RTMIN+1`..`RTMIN+15`, `RTMAX-14`..`RTMAX`, as Docker knows them.
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char, most: i32| match rest.strip_prefix(sign) {
        Some(digits) => {
            digits.parse::<i32>().ok().filter(|n| (1..=most).contains(n) && !digits.starts_with(['+', '0']))
        }
        None => rest.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+', 15).map(|n| SIGRTMIN + n);
    }
    name.strip_prefix("RTMAX").and_then(|rest| offset(rest, '-', 14)).map(|n| SIGRTMAX - n)
}

/// The name with `SIG`, or the number where there is no name.
pub fn name(signal: i32) -> String {
    if let Some((name, _)) = SIGNALS.iter().find(|(_, number)| *number == signal) {
        return format!("SIG{name}");
    }
    match signal {
        SIGRTMIN => "SIGRTMIN".to_owned(),
        SIGRTMAX => "SIGRTMAX".to_owned(),
        35..=49 => format!("SIGRTMIN+{}", signal - SIGRTMIN),
        50..=63 => format!("SIGRTMAX-{}", SIGRTMAX - signal),
        _ => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("KILL", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
            ("rtmax", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for number in 1..=64 {
            if number != 32 && number != 33 {
                assert_eq!(parse(&name(number)).unwrap(), number);
            }
        }
    }

    #[test]
    fn refuses() {
        for text in ["", "0", "-1", "65", "FOO", "SIG", "SIGRTMIN+16", "RTMIN+", "RTMIN-1", "TERM ", "RTMIN++1"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
    }
}

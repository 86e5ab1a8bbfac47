//! Sizes and durations as Docker prints and reads them.
//!
//! Sizes are printed with a number of significant digits (four, in some tables three) and no trailing zeros; decimal
//! units for what is stored (`1.23MB`), binary ones for memory (`1.5GiB`).

pub use crate::duration::{InvalidDuration, format_go_duration, human_duration, parse_go_duration};

use crate::ErrorKind;

/// A text that is no size; the texts are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// No digits, or negative.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// An unknown unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
    /// The number itself.
    #[error("strconv.ParseFloat: parsing {0:?}: invalid syntax")]
    Number(String),
}

impl InvalidSize {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Decimal units, four significant digits: `1.234MB`.
pub fn human_size(size: u64) -> String {
    human_size_with_precision(size as f64, 4)
}

/// Decimal units with a chosen number of significant digits; image lists use three.
pub fn human_size_with_precision(size: f64, precision: usize) -> String {
    scaled(size, 1000.0, &DECIMAL, precision)
}

/// Binary units, four significant digits: `1.5GiB`.
pub fn bytes_size(size: f64) -> String {
    scaled(size, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str], precision: usize) -> String {
    let mut unit = 0;
    while size >= base && unit < units.len() - 1 {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, precision), units[unit])
}

/// Go's `%.<n>g`.
fn significant(value: f64, precision: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` always prints an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` prints a decimal exponent");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{value:.*}", (precision as i32 - 1 - exponent) as usize))
}

/// Reads a size in binary units, `512m` or `1.5GiB`: what Docker's memory options take.
pub fn parse_ram(text: &str) -> Result<i64, InvalidSize> {
    parse_scaled(text, 1024.0)
}

/// Reads a size in decimal units, `1.5GB`.
pub fn parse_size(text: &str) -> Result<i64, InvalidSize> {
    parse_scaled(text, 1000.0)
}

fn parse_scaled(text: &str, base: f64) -> Result<i64, InvalidSize> {
    let separator = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(|| InvalidSize::Size(text.to_owned()))?;
    let suffix = &text[separator + 1..];
    let number = if text.as_bytes()[separator] == b' ' { &text[..separator] } else { &text[..=separator] };
    let is_number = number.bytes().any(|b| b.is_ascii_digit())
        && number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let value: f64 = match number.parse() {
        Ok(value) if is_number => value,
        _ => return Err(InvalidSize::Number(number.to_owned())),
    };
    if value < 0.0 {
        return Err(InvalidSize::Size(text.to_owned()));
    }
    let suffix = suffix.to_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(InvalidSize::Suffix(suffix)),
    };
    Ok((value * base.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal() {
        for (size, expect) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.024kB"),
            (1_000_000, "1MB"),
            (1_048_576, "1.049MB"),
            (2 * 1_048_576, "2.097MB"),
            (1_234_567, "1.235MB"),
            (999_999, "1000kB"),
            (3_420_000_000_000, "3.42TB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(human_size(size), expect);
        }
        assert_eq!(human_size_with_precision(123_456_789.0, 3), "123MB");
        assert_eq!(human_size_with_precision(4_261_550.0, 3), "4.26MB");
        assert_eq!(human_size_with_precision(999_900.0, 3), "1e+03kB");
    }

    #[test]
    fn binary() {
        for (size, expect) in [
            (0.0, "0B"),
            (1023.0, "1023B"),
            (1024.0, "1KiB"),
            (1_048_576.0, "1MiB"),
            (1.5 * 1_073_741_824.0, "1.5GiB"),
            (2.3 * 1024.0, "2.3KiB"),
        ] {
            assert_eq!(bytes_size(size), expect);
        }
    }

    #[test]
    fn reads() {
        for (text, expect) in [
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32 KiB", 32 << 10),
            ("512m", 512 << 20),
            ("1.5G", 3 << 29),
            ("0.3 K", 307),
            ("2tb", 2 << 40),
        ] {
            assert_eq!(parse_ram(text), Ok(expect), "{text}");
        }
        assert_eq!(parse_size("32kb"), Ok(32_000));
        let fails = |text: &str, expect: &str| assert_eq!(parse_ram(text).unwrap_err().to_string(), expect);
        fails("", "invalid size: ''");
        fails("hello", "invalid size: 'hello'");
        fails("-32", "invalid size: '-32'");
        fails("32bb", "invalid suffix: 'bb'");
        fails("32 x", "invalid suffix: 'x'");
        fails("1024mbx", "invalid suffix: 'mbx'");
        fails(" 32", "strconv.ParseFloat: parsing \" 32\": invalid syntax");
        fails("nan0", "strconv.ParseFloat: parsing \"nan0\": invalid syntax");
    }
}

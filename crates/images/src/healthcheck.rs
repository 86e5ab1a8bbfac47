//! The HEALTHCHECK instruction.

use corten_base::units::parse_go_duration;

use crate::config::Healthcheck;
use crate::{Error, Result};

/// Reads `NONE`, or `CMD` with its flags in front; texts are Docker's.
pub(crate) fn parse(mut text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    while text.starts_with("--") {
        let (flag, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        set(&mut check, flag)?;
        text = rest.trim_start();
    }
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    check.test = match word.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".into()],
        "NONE" => return Err(Error::Change("HEALTHCHECK NONE takes no arguments".into())),
        "CMD" if rest.is_empty() => return Err(Error::Change("Missing command after HEALTHCHECK CMD".into())),
        "CMD" => match serde_json::from_str::<Vec<String>>(rest) {
            Ok(list) => [vec!["CMD".to_owned()], list].concat(),
            Err(_) => vec!["CMD-SHELL".into(), rest.into()],
        },
        other => return Err(Error::Change(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

fn set(check: &mut Healthcheck, flag: &str) -> Result<()> {
    let (name, value) = flag[2..].split_once('=').unwrap_or((&flag[2..], ""));
    let place = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        "retries" => {
            let retries: i64 = value
                .parse()
                .map_err(|_| Error::Change(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))?;
            if retries < 0 {
                return Err(Error::Change(format!("--retries cannot be negative ({retries})")));
            }
            check.retries = retries;
            return Ok(());
        }
        _ => return Err(Error::Change(format!("unknown flag: --{name}"))),
    };
    let nanoseconds = nanoseconds(value)?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(Error::Change(format!("Interval {name:?} cannot be less than 1ms")));
    }
    *place = nanoseconds;
    Ok(())
}

fn nanoseconds(text: &str) -> Result<i64> {
    parse_go_duration(text).map_err(|error| Error::Change(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        let check = parse("--interval=5s --retries=3 CMD curl -f http://localhost/").unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f http://localhost/"]);
        assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
        assert_eq!(parse(r#"cmd ["a", "b"]"#).unwrap().test, ["CMD", "a", "b"]);
        assert_eq!(parse("NONE").unwrap().test, ["NONE"]);
    }

    #[test]
    fn mistakes_are_told() {
        let check = |text: &str, expect: &str| assert_eq!(parse(text).unwrap_err().to_string(), expect);
        check("FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)");
        check("CMD", "Missing command after HEALTHCHECK CMD");
        check("NONE x", "HEALTHCHECK NONE takes no arguments");
        check("--foo=1 CMD x", "unknown flag: --foo");
        check("--interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms");
        check("--interval=x CMD x", "time: invalid duration \"x\"");
    }
}

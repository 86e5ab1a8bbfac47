//! The `--health-*` flags.

use corten_base::units;
use serde_json::{Map, Value, json};

use crate::matches::Matches;

const DURATIONS: [(&str, &str); 4] = [
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
];

/// `Healthcheck` of the request, or nothing when no flag speaks of it.
pub(super) fn parse(matches: &Matches) -> Result<Option<Value>, String> {
    let durations: Vec<(&str, &str, i64)> = DURATIONS
        .iter()
        .map(|(flag, field)| (*flag, *field, units::parse_go_duration(matches.text(flag)).unwrap_or_default()))
        .collect();
    let retries = matches.number("health-retries");
    let command = matches.text("health-cmd");
    let any = !command.is_empty() || retries != 0 || durations.iter().any(|(_, _, nanos)| *nanos != 0);
    if matches.is_on("no-healthcheck") {
        return match any {
            true => Err("--no-healthcheck conflicts with --health-* options".to_owned()),
            false => Ok(Some(json!({ "Test": ["NONE"] }))),
        };
    }
    if !any {
        return Ok(None);
    }
    let mut health = Map::new();
    if !command.is_empty() {
        health.insert("Test".to_owned(), json!(["CMD-SHELL", command]));
    }
    for (flag, field, nanos) in durations {
        if nanos < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
        if nanos > 0 {
            health.insert(field.to_owned(), nanos.into());
        }
    }
    if retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    if retries > 0 {
        health.insert("Retries".to_owned(), retries.into());
    }
    Ok(Some(Value::Object(health)))
}

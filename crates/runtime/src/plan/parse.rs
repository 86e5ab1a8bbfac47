//! Reads a `config.json`.

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::Error;

/// Names of scheduler flags: the runtime spec's, and what the library that reads it expects instead.
const FLAG_NAMES: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// The runtime spec in `text`. What it does not know is ignored, as the spec demands.
pub fn parse_spec(text: &[u8]) -> Result<Spec, Error> {
    let malformed = |error: serde_json::Error| Error::Invalid { what: "config.json", value: error.to_string() };
    let mut value: Value = serde_json::from_slice(text).map_err(malformed)?;
    let flags = value.pointer_mut("/process/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let known = FLAG_NAMES.iter().find(|(name, _)| flag.as_str() == Some(name));
        if let Some((_, read_as)) = known {
            *flag = (*read_as).into();
        }
    }
    serde_json::from_value(value).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_own_names_of_flags() {
        let text = r#"{"ociVersion": "1.3.0", "unheard": {"of": 1}, "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
            "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}}}"#;
        let spec = parse_spec(text.as_bytes()).expect("a spec");
        let scheduler = spec.process().as_ref().and_then(|process| process.scheduler().clone()).expect("a scheduler");
        assert_eq!(super::super::scheduling::scheduler(&scheduler).expect("a plan").flags, 5);
        assert!(parse_spec(b"{").is_err());
    }
}

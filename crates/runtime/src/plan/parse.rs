//! Reads a `config.json`.

use oci_spec::runtime::{Capability, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;

/// Names of scheduler flags: the runtime spec's, and what the library that reads it expects instead.
const FLAG_NAMES: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// The runtime spec in `text`. What it does not know is ignored, as the spec demands.
pub fn parse_spec(text: &[u8]) -> Result<Spec, Error> {
    parse_spec_telling(text).map(|(spec, _)| spec)
}

/// The same, with the names of capabilities that are not among the kernel's: they cannot be given, which is to be told.
pub fn parse_spec_telling(text: &[u8]) -> Result<(Spec, Vec<String>), Error> {
    let mut unknown = Vec::new();
    let spec = read(text, "config.json", |value| {
        unknown = value.get_mut("process").map(prepare).unwrap_or_default();
    })?;
    unknown.sort_unstable();
    unknown.dedup();
    Ok((spec, unknown))
}

/// One process as `exec --process` has it, likewise.
pub fn parse_process(text: &[u8]) -> Result<Process, Error> {
    read(text, "process", |value| drop(prepare(value)))
}

fn read<T: DeserializeOwned>(text: &[u8], what: &'static str, prepare: impl FnOnce(&mut Value)) -> Result<T, Error> {
    let malformed = |error: serde_json::Error| Error::Invalid { what, value: error.to_string() };
    let mut value: Value = serde_json::from_slice(text).map_err(malformed)?;
    prepare(&mut value);
    serde_json::from_value(value).map_err(malformed)
}

/// Makes a process readable for a library with names of its own, and with no room for capabilities that it does not know:
/// returns those.
fn prepare(process: &mut Value) -> Vec<String> {
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let known = FLAG_NAMES.iter().find(|(name, _)| flag.as_str() == Some(name));
        if let Some((_, read_as)) = known {
            *flag = (*read_as).into();
        }
    }
    retain_known(process)
}

fn retain_known(process: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = name.is_string() && serde_json::from_value::<Capability>(name.clone()).is_ok();
            if let (false, Some(name)) = (known, name.as_str()) {
                unknown.push(name.to_owned());
            }
            known || !name.is_string()
        });
    }
    unknown
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

    #[test]
    fn unknown_capabilities_are_left_out_and_named() {
        let process = r#"{"cwd": "/", "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_NOPE"], "effective": ["CAP_NOPE", "nope"]}}"#;
        let text = format!(r#"{{"ociVersion": "1.3.0", "process": {process}}}"#);
        let (spec, unknown) = parse_spec_telling(text.as_bytes()).expect("a spec");
        assert_eq!(unknown, ["CAP_NOPE", "nope"]);
        assert_eq!(spec.process().clone(), Some(parse_process(process.as_bytes()).expect("a process")));
        let sets = spec.process().as_ref().and_then(|process| process.capabilities().clone()).expect("capabilities");
        assert_eq!(sets.bounding().clone().map(|set| set.len()), Some(1));
        assert_eq!(sets.effective().clone().map(|set| set.len()), Some(0));
    }
}

//! `runtimes` of daemon.json and `--add-runtime`: other programs that make containers.
//!
//! ```json
//! {"runtimes": {"crun": {"path": "/usr/bin/crun", "runtimeArgs": ["--debug"]},
//!               "youki": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/youki"}}}}
//! ```
//!
//! The second form names containerd's shim for OCI runtimes, which means the runtime in its options. Other shims of containerd's
//! are refused: there is no containerd to start them.

use corten_engine::ExternalRuntime;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::settings::Settings;

/// containerd's shim for programs with runc's command line.
const OCI_SHIM: &str = "io.containerd.runc.v2";

/// A runtime as daemon.json describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Entry {
    path: String,
    runtime_args: Vec<String>,
    runtime_type: String,
    options: Map<String, Value>,
}

/// Takes runtimes, each `name=path` as the flag has it, or `name={..}` from the file.
pub(super) fn add(settings: &mut Settings, values: &[String]) -> Result<(), String> {
    for value in values {
        let invalid = || format!("invalid runtime argument: {value}");
        let (name, rest) = value.split_once('=').ok_or_else(invalid)?;
        let (name, runtime) = match rest.starts_with('{') {
            true => (name.to_owned(), described(name, rest)?),
            // dockerd takes the flag's names in lower case.
            false => (name.trim().to_lowercase(), ExternalRuntime { path: rest.trim().into(), ..Default::default() }),
        };
        if name.is_empty() || runtime.path.is_empty() {
            return Err(invalid());
        }
        if runtime.path.contains('/') && !runtime.path.starts_with('/') {
            return Err(format!(
                "runtime {name}: the path {:?} is neither absolute nor the name of a program",
                runtime.path
            ));
        }
        let known = &mut settings.engine.runtimes.external;
        if known.insert(name.clone(), runtime).is_some() {
            return Err(format!("runtime '{name}' was already defined"));
        }
    }
    Ok(())
}

/// An entry of the file, with dockerd's texts for what contradicts itself.
fn described(name: &str, text: &str) -> Result<ExternalRuntime, String> {
    let entry: Entry = serde_json::from_str(text).map_err(|error| format!("runtime {name}: {error}"))?;
    let refuse = |why: &str| Err(format!("runtime {name}: {why}"));
    match (entry.path.is_empty(), entry.runtime_type.is_empty()) {
        (true, true) => refuse("either a runtimeType or a path must be configured"),
        (false, false) => refuse("cannot configure both path and runtimeType"),
        (false, true) if !entry.options.is_empty() => refuse("options cannot be used with a path runtime"),
        (false, true) => Ok(ExternalRuntime { path: entry.path, arguments: entry.runtime_args }),
        (true, false) if !entry.runtime_args.is_empty() => refuse("args cannot be used with a runtimeType runtime"),
        (true, false) if entry.runtime_type != OCI_SHIM => refuse(&format!(
            "containerd's shims cannot be used ({}); give the path of a program with runc's command line",
            entry.runtime_type
        )),
        (true, false) => in_options(name, entry.options),
    }
}

/// The runtime that the options of containerd's shim name.
fn in_options(name: &str, mut options: Map<String, Value>) -> Result<ExternalRuntime, String> {
    let path = options.remove("BinaryName");
    // What is so anyway.
    options.retain(|_, value| !matches!(value, Value::Bool(false) | Value::Null) && value.as_str() != Some(""));
    options.remove("TypeUrl");
    if let Some(key) = options.keys().next() {
        return Err(format!("runtime {name}: the option {key} is not implemented"));
    }
    match path {
        Some(Value::String(path)) if !path.is_empty() => Ok(ExternalRuntime { path, ..Default::default() }),
        _ => Err(format!("runtime {name}: the options have to name the runtime's program (BinaryName)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(values: &[&str]) -> Result<String, String> {
        let mut settings = Settings::default();
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        add(&mut settings, &values)?;
        let known = settings.engine.runtimes.external.into_iter();
        let line = |(name, runtime): (String, ExternalRuntime)| {
            [&[name, runtime.path], runtime.arguments.as_slice()].concat().join(" ")
        };
        Ok(known.map(line).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn runtimes_are_taken() {
        let check = |values: &[&str], expect: &str| assert_eq!(added(values).as_deref(), Ok(expect));
        check(&["crun=/usr/bin/crun", "Youki = youki "], "crun /usr/bin/crun; youki youki");
        check(&[r#"c={"path":"/c","runtimeArgs":["--a","b c"]}"#], "c /c --a b c");
        check(
            &[r#"c={"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/c","SystemdCgroup":false}}"#],
            "c /c",
        );
    }

    #[test]
    fn runtimes_are_refused() {
        let check = |values: &[&str], expect: &str| assert_eq!(added(values).unwrap_err(), expect);
        check(&["crun"], "invalid runtime argument: crun");
        check(&["=x"], "invalid runtime argument: =x");
        check(&["crun= "], "invalid runtime argument: crun= ");
        check(&["c=/a", "C=/b"], "runtime 'c' was already defined");
        check(&["c=bin/c"], "runtime c: the path \"bin/c\" is neither absolute nor the name of a program");
        check(&["c={}"], "runtime c: either a runtimeType or a path must be configured");
        check(
            &[r#"c={"path":"/c","runtimeType":"io.containerd.runc.v2"}"#],
            "runtime c: cannot configure both path and runtimeType",
        );
        check(&[r#"c={"path":"/c","options":{"a":1}}"#], "runtime c: options cannot be used with a path runtime");
        check(
            &[r#"c={"runtimeType":"io.containerd.runc.v2","runtimeArgs":["a"]}"#],
            "runtime c: args cannot be used with a runtimeType runtime",
        );
        check(
            &[r#"k={"runtimeType":"io.containerd.kata.v2"}"#],
            "runtime k: containerd's shims cannot be used (io.containerd.kata.v2); give the path of a program with runc's \
             command line",
        );
        check(
            &[r#"c={"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/c","SystemdCgroup":true}}"#],
            "runtime c: the option SystemdCgroup is not implemented",
        );
        check(
            &[r#"c={"runtimeType":"io.containerd.runc.v2"}"#],
            "runtime c: the options have to name the runtime's program (BinaryName)",
        );
        let unknown = added(&[r#"c={"paht":"/c"}"#]).unwrap_err();
        assert!(unknown.starts_with("runtime c: unknown field `paht`"), "{unknown}");
    }
}

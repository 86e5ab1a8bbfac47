//! `--mount`, `-v` and `--tmpfs`.

use std::path::Path;

use corten_base::units;
use serde_json::{Map, Value, json};

use super::csv;
use crate::matches::parse_bool;

/// Checks a `--mount` value.
pub(super) fn mount(text: &str) -> Result<(), String> {
    parse_mount(text).map(drop)
}

#[derive(Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    readonly: bool,
    consistency: String,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    volume_labels: Map<String, Value>,
    volume_options: Map<String, Value>,
    volume_driver: String,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
}

/// One element of the request's `Mounts`.
pub(super) fn parse_mount(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        mount.set(&field)?;
    }
    mount.finish()
}

impl Mount {
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.to_ascii_lowercase();
        let switches = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"];
        let Some(value) = value.or_else(|| switches.contains(&key.as_str()).then_some("true")) else {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        };
        let on = || parse_bool(value).map_err(|_| format!("invalid value for {key}: {value}"));
        match key.as_str() {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.source = absolute(value),
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            "readonly" | "ro" => self.readonly = on()?,
            "consistency" => self.consistency = value.to_ascii_lowercase(),
            "bind-propagation" => put(&mut self.bind, "Propagation", value.to_ascii_lowercase()),
            "bind-nonrecursive" => put(&mut self.bind, "NonRecursive", on()?),
            "bind-create-src" => put(&mut self.bind, "CreateMountpoint", on()?),
            "bind-recursive" => self.set_recursive(value)?,
            "volume-subpath" => put(&mut self.volume, "Subpath", value),
            "volume-nocopy" => put(&mut self.volume, "NoCopy", on()?),
            "volume-label" => put_pair(&mut self.volume_labels, value),
            "volume-driver" => self.volume_driver = value.to_owned(),
            "volume-opt" => put_pair(&mut self.volume_options, value),
            "image-subpath" => put(&mut self.image, "Subpath", value),
            "tmpfs-size" => {
                let size = units::parse_ram(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                put(&mut self.tmpfs, "SizeBytes", size);
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
                put(&mut self.tmpfs, "Mode", mode);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn set_recursive(&mut self, value: &str) -> Result<(), String> {
        match value {
            "enabled" => {}
            "disabled" => put(&mut self.bind, "NonRecursive", true),
            "writable" => put(&mut self.bind, "ReadOnlyNonRecursive", true),
            "readonly" => put(&mut self.bind, "ReadOnlyForceRecursive", true),
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Value, String> {
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        self.check_kind()?;
        self.check_recursive()?;
        let mut mount = Map::new();
        put(&mut mount, "Type", self.kind);
        if !self.source.is_empty() {
            put(&mut mount, "Source", self.source);
        }
        put(&mut mount, "Target", self.target);
        if self.readonly {
            put(&mut mount, "ReadOnly", true);
        }
        if !self.consistency.is_empty() {
            put(&mut mount, "Consistency", self.consistency);
        }
        if !self.volume_labels.is_empty() {
            put(&mut self.volume, "Labels", self.volume_labels);
        }
        if !self.volume_driver.is_empty() || !self.volume_options.is_empty() {
            let mut driver = Map::new();
            if !self.volume_driver.is_empty() {
                put(&mut driver, "Name", self.volume_driver);
            }
            if !self.volume_options.is_empty() {
                put(&mut driver, "Options", self.volume_options);
            }
            put(&mut self.volume, "DriverConfig", driver);
        }
        let groups = [
            ("BindOptions", self.bind),
            ("VolumeOptions", self.volume),
            ("TmpfsOptions", self.tmpfs),
            ("ImageOptions", self.image),
        ];
        for (name, options) in groups {
            if !options.is_empty() {
                put(&mut mount, name, options);
            }
        }
        Ok(Value::Object(mount))
    }

    /// Options of one kind do not belong to another.
    fn check_kind(&self) -> Result<(), String> {
        let volume = !self.volume.is_empty()
            || !self.volume_labels.is_empty()
            || !self.volume_options.is_empty()
            || !self.volume_driver.is_empty();
        let groups = [
            ("volume", volume),
            ("bind", !self.bind.is_empty()),
            ("tmpfs", !self.tmpfs.is_empty()),
            ("image", !self.image.is_empty()),
        ];
        match groups.iter().find(|(kind, used)| *used && *kind != self.kind) {
            Some((kind, _)) => Err(format!("cannot mix '{kind}-*' options with mount type '{}'", self.kind)),
            None => Ok(()),
        }
    }

    fn check_recursive(&self) -> Result<(), String> {
        let writable = self.bind.contains_key("ReadOnlyNonRecursive");
        let forced = self.bind.contains_key("ReadOnlyForceRecursive");
        if (writable || forced) && !self.readonly {
            let value = if writable { "writable" } else { "readonly" };
            return Err(format!("option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"));
        }
        if forced && self.bind.get("Propagation") != Some(&json!("rprivate")) {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.insert(key.to_owned(), value.into());
}

fn put_pair(map: &mut Map<String, Value>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    put(map, key, value);
}

/// What the `-v` flags ask for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Volumes {
    pub binds: Vec<String>,
    pub anonymous: Map<String, Value>,
}

/// Sorts `-v` values into anonymous volumes and binds. Paths beginning with a dot are taken from the current directory.
pub(super) fn parse_volumes<'a>(specs: impl Iterator<Item = &'a str>) -> Result<Volumes, String> {
    let mut volumes = Volumes::default();
    for spec in specs {
        if spec.is_empty() {
            return Err("invalid empty volume spec".to_owned());
        }
        let mut sections = spec.splitn(2, ':');
        let source = sections.next().unwrap_or_default();
        match sections.next() {
            None | Some("") => {
                volumes.anonymous.insert(spec.to_owned(), json!({}));
            }
            Some(rest) => {
                if source.is_empty() || rest.split(':').any(str::is_empty) {
                    return Err(format!("invalid spec: {spec}: empty section between colons"));
                }
                volumes.binds.push(format!("{}:{rest}", absolute(source)));
            }
        }
    }
    Ok(volumes)
}

fn absolute(path: &str) -> String {
    if !path.starts_with('.') {
        return path.to_owned();
    }
    // Lexically, as the shell's user means it: the path need not exist.
    let Ok(current) = std::env::current_dir() else { return path.to_owned() };
    let mut clean = std::path::PathBuf::new();
    for part in current.join(Path::new(path)).components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}

/// `Tmpfs` of the request: target to options.
pub(super) fn parse_tmpfs<'a>(specs: impl Iterator<Item = &'a str>) -> Map<String, Value> {
    specs
        .map(|spec| {
            let (target, options) = spec.split_once(':').unwrap_or((spec, ""));
            (target.to_owned(), options.into())
        })
        .collect()
}

/// `--volumes-from`, `--link` and others are lists that the request carries as they are, or null when empty.
pub(super) fn list_or_null(items: Vec<String>) -> Value {
    if items.is_empty() { Value::Null } else { items.into() }
}

/// The error of a `--storage-opt` without a value.
pub(super) fn storage_options(items: &[String]) -> Result<Map<String, Value>, String> {
    items
        .iter()
        .map(|item| match item.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.into())),
            None => Err("invalid storage option".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(parse_mount(text).map_or_else(|error| error, |mount| mount.to_string()), expect, "{text}");
    }

    #[test]
    fn mounts() {
        check(
            "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave",
            r#"{"BindOptions":{"Propagation":"rslave"},"ReadOnly":true,"Source":"/a","Target":"/b","Type":"bind"}"#,
        );
        check(
            "type=volume,src=v,dst=/v,volume-nocopy,volume-opt=o=1,volume-label=l=2",
            r#"{"Source":"v","Target":"/v","Type":"volume","VolumeOptions":{"DriverConfig":{"Options":{"o":"1"}},"Labels":{"l":"2"},"NoCopy":true}}"#,
        );
        check(
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700",
            r#"{"Target":"/t","TmpfsOptions":{"Mode":448,"SizeBytes":1048576},"Type":"tmpfs"}"#,
        );
        check("dst=/v", r#"{"Target":"/v","Type":"volume"}"#);
    }

    #[test]
    fn mount_errors() {
        check("x", "invalid field 'x' must be a key=value pair");
        check("type=bind", "target is required");
        check("type=bind,src=/x,dst=/y,foo=1", "unexpected key 'foo' in 'foo=1'");
        check("type=volume,bind-propagation=private,dst=/x", "cannot mix 'bind-*' options with mount type 'volume'");
        check("type=bind,src=/x,dst=/y,readonly=z", "invalid value for readonly: z");
        check("type=tmpfs,dst=/x,tmpfs-size=z", "invalid value for tmpfs-size: z");
        check(
            "type=bind,src=/a,dst=/x,bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
        );
    }

    #[test]
    fn volumes() {
        let volumes = parse_volumes(["/x:/y:ro", "named:/z", "/anon"].into_iter()).expect("valid");
        assert_eq!(volumes.binds, ["/x:/y:ro", "named:/z"]);
        assert_eq!(volumes.anonymous.keys().collect::<Vec<_>>(), ["/anon"]);
        let relative = parse_volumes(["./sub/../q:/y"].into_iter()).expect("valid");
        assert_eq!(relative.binds, [format!("{}/q:/y", std::env::current_dir().expect("cwd").display())]);
        assert_eq!(
            parse_volumes([":/x"].into_iter()),
            Err("invalid spec: :/x: empty section between colons".to_owned())
        );
        assert_eq!(parse_volumes([""].into_iter()), Err("invalid empty volume spec".to_owned()));
    }
}

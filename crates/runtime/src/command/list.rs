//! `state`, `list` and `ps`: what there is, as JSON or tables.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::store::{Container, Status};
use super::{Context, SPEC_VERSION};

pub(super) const LIST_FLAGS: &[Flag] = &[Flag::value("format", "f"), Flag::switch("quiet", "q")];
pub(super) const PS_FLAGS: &[Flag] = &[Flag::value("format", "f")];

/// Prints a container's state.
pub(super) fn state(context: &Context, parsed: &Parsed) -> Result<u8> {
    print_json(&describe(&Container::load(context, parsed.id())?)?)
}

/// The state's JSON as runc prints it, the runtime specification's fields and some more.
fn describe(container: &Container) -> Result<Value> {
    let (record, status) = (&container.record, container.status());
    let mut value = json!({
        "ociVersion": SPEC_VERSION,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.pid },
        "status": status.as_str(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": "",
    });
    if let Some(annotations) = container.spec()?.annotations() {
        value["annotations"] = json!(annotations);
    }
    Ok(value)
}

/// The same with the owner, whom only the list names.
fn owned(container: &Container) -> Result<Value> {
    let mut value = describe(container)?;
    let uid = std::fs::metadata(&container.directory).map_err(Error::doing("cannot find the owner"))?.uid();
    value["owner"] = if uid == 0 { json!("root") } else { json!(format!("#{uid}")) };
    Ok(value)
}

/// Lists all containers.
pub(super) fn list(context: &Context, parsed: &Parsed) -> Result<u8> {
    let containers = Container::all(context)?;
    if parsed.is_set("quiet") {
        containers.iter().for_each(|container| println!("{}", container.record.id));
        return Ok(0);
    }
    let states = containers.iter().map(owned).collect::<Result<Vec<_>>>()?;
    match parsed.value("format").unwrap_or("table") {
        "json" if states.is_empty() => println!("null"),
        "json" => println!("{}", Value::from(states)),
        "table" => print!("{}", table(&states)),
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

fn table(states: &[Value]) -> String {
    const COLUMNS: [&str; 6] = ["id", "pid", "status", "bundle", "created", "owner"];
    let text = |state: &Value, column: &str| match &state[column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let heading = COLUMNS.map(str::to_uppercase);
    let rows: Vec<[String; 6]> =
        [heading].into_iter().chain(states.iter().map(|state| COLUMNS.map(|column| text(state, column)))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(9) + 3;
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", cells.collect::<String>().trim_end());
    }
    out
}

/// Lists a container's processes: their ids, or the lines of `ps` about them.
pub(super) fn ps(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    let pids = container.group()?.procs().map_err(Error::doing("cannot list the container's processes"))?;
    match parsed.value("format").unwrap_or("table") {
        "json" => println!("{}", json!(pids)),
        "table" => {
            let options = if parsed.rest.len() > 1 { parsed.rest[1..].to_vec() } else { vec!["-ef".to_owned()] };
            let output = Command::new("ps").args(options).output().map_err(Error::doing("cannot run ps"))?;
            if !output.status.success() {
                return Err(Error::new(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim_end())));
            }
            print!("{}", lines_of(&String::from_utf8_lossy(&output.stdout), &pids)?);
        }
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

/// The heading of ps's output and the lines of these processes.
fn lines_of(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok([heading].into_iter().chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

pub(super) fn print_json(value: &Value) -> Result<u8> {
    println!("{}", serde_json::to_string_pretty(value).map_err(Error::doing("JSON"))?);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines() {
        let output = "UID  PID CMD\nroot 1 init\nroot 12 sh -c 1\n";
        assert_eq!(lines_of(output, &[12]).unwrap(), "UID  PID CMD\nroot 12 sh -c 1\n");
        assert!(lines_of("USER CMD\n", &[1]).is_err());
    }
}

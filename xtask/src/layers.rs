//! Holds the dependencies between our crates against the table "Rooms" of ARCHITECTURE.md.
//!
//! The table's last column says what a crate may use: crate names, layer numbers (every crate of that layer), `all`, or `-`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::metadata::Package;

struct Room {
    layer: String,
    may_use: Vec<String>,
}

/// Fails with every dependency that the table does not allow, and with every crate that only one of the two knows.
pub fn check(packages: &[Package]) -> Result<()> {
    let text = std::fs::read_to_string("ARCHITECTURE.md").context("reading ARCHITECTURE.md")?;
    let wrong = violations(&rooms(&text), packages);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("ARCHITECTURE.md's table and the crates disagree:\n  {}", wrong.join("\n  "))
}

fn rooms(text: &str) -> BTreeMap<String, Room> {
    let mut layer = String::new();
    let mut rooms = BTreeMap::new();
    for line in text.lines().skip_while(|line| !line.starts_with("| layer | crate ")).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [first, crates, _, uses] = cells[..] else { break };
        if !first.is_empty() {
            layer = first.split_whitespace().next().unwrap_or_default().to_owned();
        }
        let may_use: Vec<String> =
            uses.split(',').map(|word| word.trim().trim_matches('`').to_owned()).filter(|word| word != "-").collect();
        for name in crates.split(',').map(|name| name.trim().trim_matches('`')) {
            rooms.insert(name.to_owned(), Room { layer: layer.clone(), may_use: may_use.clone() });
        }
    }
    rooms
}

fn violations(rooms: &BTreeMap<String, Room>, packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    let members: Vec<&Package> = packages.iter().filter(|package| package.member).collect();
    let known: BTreeSet<&str> = members.iter().map(|package| short(&package.name)).collect();
    wrong.extend(rooms.keys().filter(|room| !known.contains(room.as_str())).map(|room| format!("{room} is no crate")));
    for package in &members {
        let name = short(&package.name);
        let Some(room) = rooms.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package.dependencies.iter().map(|name| short(name)).filter(|name| known.contains(name)) {
            let layer = rooms.get(dependency).map(|room| room.layer.as_str()).unwrap_or_default();
            if !room.may_use.iter().any(|allowed| allowed == dependency || allowed == layer || allowed == "all") {
                wrong.push(format!("{name} uses {dependency}"));
            }
        }
    }
    wrong
}

fn short(name: &str) -> &str {
    name.strip_prefix("corten-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| layer | crate | one sentence | may use |\n|---|---|---|---|\n| 0 pure | `base` | ids | - |\n\
                         | 1 | `sys` | kernel | base |\n| 2 | `images` | images | 0, `sys` |\n";

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: format!("corten-{name}"),
            version: String::new(),
            licence: None,
            manifest: "".into(),
            member: true,
            dependencies: dependencies.iter().map(|name| format!("corten-{name}")).collect(),
        }
    }

    #[track_caller]
    fn check(sys: &[&str], images: &[&str], expect: &[&str]) {
        let packages = [package("base", &[]), package("sys", sys), package("images", images)];
        assert_eq!(violations(&rooms(TABLE), &packages), expect);
    }

    #[test]
    fn allowed_by_name_and_by_layer() {
        check(&["base"], &["base", "sys"], &[]);
    }

    #[test]
    fn upward_use_is_named() {
        check(&["images"], &[], &["sys uses images"]);
    }

    #[test]
    fn a_missing_crate_is_named() {
        let wrong = violations(&rooms(TABLE), &[package("base", &[]), package("new", &[])]);
        assert_eq!(wrong, ["images is no crate", "sys is no crate", "new is not in the table"]);
    }
}

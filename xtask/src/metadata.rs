//! What `cargo metadata` says of the workspace, in the few facts the checks need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One package of the dependency graph.
pub struct Package {
    /// Its name, as in Cargo.toml.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its SPDX licence expression, where it states one.
    pub licence: Option<String>,
    /// Its Cargo.toml.
    pub manifest: PathBuf,
    /// Whether it is a member of this workspace.
    pub member: bool,
    /// The names of the packages it needs outside tests.
    pub dependencies: Vec<String>,
}

/// Every package that the workspace's lock file names for this machine's platform.
pub fn packages() -> Result<Vec<Package>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", env_target()])
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata's answer")?;
    let members: Vec<&str> = strings(&document["workspace_members"]).collect();
    let reached: Vec<&str> =
        document["resolve"]["nodes"].as_array().into_iter().flatten().filter_map(|node| node["id"].as_str()).collect();
    let all = document["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(all
        .iter()
        .filter(|package| reached.iter().any(|id| package["id"] == *id))
        .map(|package| read_package(package, &members))
        .collect())
}

fn read_package(package: &Value, members: &[&str]) -> Package {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    Package {
        name: text("name"),
        version: text("version"),
        licence: package["license"].as_str().map(str::to_owned),
        manifest: Path::new(&text("manifest_path")).to_owned(),
        member: members.iter().any(|id| package["id"] == *id),
        dependencies: dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect(),
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn env_target() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
}

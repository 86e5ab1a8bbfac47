//! crun of Debian sid on an equal bundle, inside the root that `./x peers` made.
//!
//! Only the v1 controllers are shown to it: it refuses a hybrid layout. Its root file system is the plain directory, read-only,
//! where the engine pays for an overlay.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::contender::Contender;

/// The namespaces, default mounts, capabilities and masked paths of an engine's container, for `/bin/true` without a terminal.
const CONFIG: &str = include_str!("../../crun-config.json");

/// Starts the coprocess; nothing, and a line that says so, where the root has not been made. `place` holds `rootfs`.
pub fn contender(place: &Path) -> Result<Option<Contender>> {
    if !is_made("crun") {
        return Ok(None);
    }
    bundle(place, "bundle", true)?;
    let command = ["crun", "run", "corten-bench"];
    Contender::start("crun of Debian sid: crun run", inside(place, "bundle", &command)?).map(Some)
}

/// Whether the root is there with a peer in it; says so if not.
pub fn is_made(peer: &str) -> bool {
    let root = runtimes();
    let made = root.join(".complete").exists() && root.join("usr/bin").join(peer).exists();
    if !made {
        println!("no figure for {peer}: ./x peers makes the root that it runs in");
    }
    made
}

/// Writes a bundle below `place`, with or without a network namespace of its own.
pub fn bundle(place: &Path, name: &str, network: bool) -> Result<()> {
    let mut config: Value = serde_json::from_str(CONFIG)?;
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut().filter(|_| !network) {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    std::fs::create_dir(place.join(name))?;
    Ok(std::fs::write(place.join(name).join("config.json"), config.to_string())?)
}

/// The coprocess that times `words` in the bundle `name`, inside the root, where `place` is `/bench`.
pub fn inside(place: &Path, name: &str, words: &[&str]) -> Result<Command> {
    let lap = place.join("lap");
    if !lap.exists() {
        std::fs::copy(std::env::current_exe()?, lap)?;
    }
    let mut inside = corten_testkit::peers::enter(&runtimes(), place, &[]);
    inside
        .args(["sh", "-eu", "-c", r#"cd "/bench/$1"; shift; exec /bench/lap bench lap "$@""#, "sh", name])
        .args(words);
    Ok(inside)
}

fn runtimes() -> PathBuf {
    corten_testkit::workspace().join("target/peers/sid")
}

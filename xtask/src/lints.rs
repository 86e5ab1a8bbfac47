//! Every crate inherits the workspace's lints (no unsafe code, documented items); `sys`, the one crate with unsafe code, states its own.

use anyhow::{Context, Result, bail};

use crate::metadata::Package;

/// Fails with each member that opts out.
pub fn check(packages: &[Package]) -> Result<()> {
    for package in packages.iter().filter(|package| package.member) {
        let manifest = std::fs::read_to_string(&package.manifest)
            .with_context(|| format!("reading {}", package.manifest.display()))?;
        let inherits = manifest.contains("[lints]\nworkspace = true");
        if !inherits && package.name != "corten-sys" {
            bail!("{} does not inherit the workspace's lints", package.name);
        }
    }
    Ok(())
}

//! `test`: everything that continuous integration runs, step by step, the cheap ones first.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cases::{self, Shown};
use crate::{defences, layers, licences, lints, metadata, oci, parity};

/// Runs all steps, or with arguments only the tests, the arguments handed to `cargo test`.
pub fn test(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return cargo("tests", &[&["test", "--workspace"], &borrow(arguments)[..]].concat());
    }
    cargo("format", &["fmt", "--all", "--check"])?;
    step("layers, licences, lints", check_repository)?;
    cargo("clippy", &["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    cargo("documentation", &["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items", "--locked"])?;
    let mut shown = Shown::default();
    step("tests", || {
        let mut command = program();
        let words = ["test", "--workspace", "--locked", "--no-fail-fast", "--", "--show-output"];
        let (status, run) = cases::run(command.args(words))?;
        shown = run;
        ensure!(status.success(), "tests: cargo {} failed", words.join(" "));
        Ok(())
    })?;
    step("cases of the OCI fields", || oci::shown(&shown))?;
    step("parity table", || parity::run(&["--check".to_owned()]))
}

/// The checks of the repository itself: layers against ARCHITECTURE.md, licences, lints, the list of defences, the table of OCI fields.
pub fn check_repository() -> Result<()> {
    let packages = metadata::packages()?;
    layers::check(&packages)?;
    licences::check(&packages)?;
    lints::check(&packages)?;
    defences::check()?;
    oci::run(&["--check".to_owned()])
}

fn cargo(name: &str, arguments: &[&str]) -> Result<()> {
    step(name, || {
        let status = program()
            .args(arguments)
            .env("RUSTDOCFLAGS", "-D warnings")
            .status()
            .with_context(|| format!("running cargo {}", arguments.join(" ")))?;
        ensure!(status.success(), "{name}: cargo {} failed", arguments.join(" "));
        Ok(())
    })
}

fn program() -> Command {
    Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {name}");
    let begin = Instant::now();
    run()?;
    eprintln!("    {name}: {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn borrow(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

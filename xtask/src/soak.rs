//! `soak`: kill -9 again and again, and a check of the store each time.

use anyhow::{Result, bail, ensure};
use corten_testkit::soak;

use crate::bench;

/// `soak images [--kills N] [--seed S]`
pub fn run(arguments: &[String]) -> Result<()> {
    let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    if arguments.first().map(String::as_str) != Some("images") {
        bail!("what to soak: images [--kills N] [--seed S]");
    }
    let kills = bench::option(&rest, "--kills")?.unwrap_or(300);
    let seed = bench::option(&rest, "--seed")?.unwrap_or(1) as u64;
    let executable = bench::executable()?.display().to_string();
    let report = soak::images(&executable, kills, seed, |round, line| eprintln!("{:>4}: {line}", round + 1));
    let met: Vec<String> = report.met.iter().map(|(name, count)| format!("{count} {name}")).collect();
    println!(
        "{} kills (seed {seed}): {} operations had ended, {} were met ({}); {} checks found something wrong",
        report.kills,
        report.ended,
        report.met.values().sum::<usize>(),
        met.join(", "),
        report.failures.len()
    );
    ensure!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    Ok(())
}

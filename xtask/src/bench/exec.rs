//! `bench exec [--rounds N]`: `true` in a running container through the API, beside a floor that joins it by pidfd.

use std::process::Command;

use anyhow::{Context, Result};

use super::contender::Contender;
use super::start::{engine, executable, floor_program, lap, option};

/// Prints the medians and their ratio.
pub fn run(arguments: &[&str]) -> Result<()> {
    let rounds = option(arguments, "--rounds")?.unwrap_or(200);
    let place =
        tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp").context("making a directory")?;
    let engine = engine(&executable()?)?;
    let id = engine.corten(&["run", "-d", "--network", "none", "busybox", "sleep", "100000"]).ok().to_owned();
    let pid = engine.corten(&["inspect", "-f", "{{.State.Pid}}", id.trim()]).ok().to_owned();

    let mut joining = Command::new(floor_program(place.path(), "exec", &[])?);
    joining.arg(pid.trim());
    let mut calling = lap("lap-exec")?;
    calling.args([&engine.host(), id.trim()]);
    let mut contenders =
        [Contender::start("floor: joins by pidfd", joining)?, Contender::start("API exec create+start+end", calling)?];
    for round in 0..rounds + 3 {
        for contender in &mut contenders {
            contender.lap(round >= 3)?;
        }
    }
    println!("{rounds} rounds, taken in turn; milliseconds\n| what | median | p90 | x floor |\n|---|---|---|---|");
    let floor = contenders[0].sample().median();
    for contender in &contenders {
        let (name, sample) = (&contender.name, contender.sample());
        let (median, late) = (sample.median(), sample.quantile(0.9));
        println!("| {name} | {:.2} | {:.2} | {:.2} |", median / 1000.0, late / 1000.0, median / floor);
    }
    drop(contenders);
    engine.corten(&["rm", "-f", id.trim()]).ok();
    engine.finish();
    Ok(())
}

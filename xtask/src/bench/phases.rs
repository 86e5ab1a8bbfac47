//! `bench phases [--rounds N]`: which step of a container's life through the API takes how long.

use std::time::Instant;

use anyhow::Result;
use corten_client::{Client, Endpoint};

use super::lap::{STEPS, container};
use super::start::{engine, executable, option};
use super::statistics::Sample;

/// Prints the median and the spread of each step, without a network and on the bridge.
pub fn run(arguments: &[&str]) -> Result<()> {
    let rounds = option(arguments, "--rounds")?.unwrap_or(200);
    let engine = engine(&executable()?)?;
    let client = Client::new(Endpoint::parse(&engine.host())?);
    println!(
        "{rounds} rounds; milliseconds\n| step | none: median | p90 | bridge: median | p90 |\n|---|---|---|---|---|"
    );
    let none = steps(&client, "none", rounds)?;
    let bridge = steps(&client, "bridge", rounds)?;
    for (step, (none, bridge)) in STEPS.iter().zip(none.iter().zip(&bridge)) {
        let ms = |sample: &Sample, fraction| sample.quantile(fraction) / 1000.0;
        println!(
            "| {step} | {:.2} | {:.2} | {:.2} | {:.2} |",
            ms(none, 0.5),
            ms(none, 0.9),
            ms(bridge, 0.5),
            ms(bridge, 0.9)
        );
    }
    engine.finish();
    Ok(())
}

fn steps(client: &Client, network: &str, rounds: usize) -> Result<Vec<Sample>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); STEPS.len()];
    for _ in 0..rounds {
        let mut before = Instant::now();
        for (step, after) in times.iter_mut().zip(container(client, network)?) {
            step.push((after - before).as_secs_f64() * 1e6);
            before = after;
        }
    }
    Ok(times.into_iter().map(Sample::new).collect())
}

//! `bench`: speed as ratios with the kernel's floor and with peers, all of them taken in turn within one run.

mod contender;
mod crun;
mod disk;
mod exec;
mod images;
mod lap;
mod many;
mod memory;
mod peers;
mod phases;
mod runtime;
mod start;
mod statistics;
mod throughput;
mod until;

use anyhow::{Result, bail};

pub use start::{executable, option};

/// Runs the bench named by the first argument. `lap`, `lap-api`, `lap-exec`, `lap-sync` and `lap-until` are the coprocesses that benches time with.
pub fn run(arguments: &[String]) -> Result<()> {
    let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments.first().map(String::as_str) {
        Some("start") => start::run(&rest),
        Some("phases") => phases::run(&rest),
        Some("runtime") => runtime::run(&rest),
        Some("exec") => exec::run(&rest),
        Some("throughput") => throughput::run(&rest),
        Some("many") => many::run(&rest),
        Some("images") => images::run(&rest),
        Some("lap") => lap::processes(&rest),
        Some("lap-api") => lap::containers(&rest),
        Some("lap-exec") => lap::execs(&rest),
        Some("lap-sync") => lap::writes(&rest),
        Some("lap-until") => until::run(&rest),
        other => bail!("unknown bench {other:?}; benches are: start, phases, runtime, exec, throughput, many, images"),
    }
}

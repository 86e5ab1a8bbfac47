//! `bench throughput [--flights N] [--rounds N]`: containers per second with N in flight, the pool's refill included, beside as many
//! floor programs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use corten_client::{Client, Endpoint};

use super::lap::container;
use super::start::{engine, executable, floor, option, unpack_busybox};

/// Prints both rates and their ratio, in turn three times.
pub fn run(arguments: &[&str]) -> Result<()> {
    let flights = option(arguments, "--flights")?.unwrap_or(8);
    let rounds = option(arguments, "--rounds")?.unwrap_or(25);
    let place =
        tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp").context("making a directory")?;
    let rootfs = unpack_busybox(place.path())?;
    let engine = engine(&executable()?)?;
    let host = engine.host();
    println!("{flights} in flight, {rounds} containers each; containers per second\n| floor | API | of the floor |");
    println!("|---|---|---|");
    for _ in 0..3 {
        let floors = together(flights, |_| {
            let mut floor = floor(place.path(), &rootfs, "floor", &["net", "cgroups"])?;
            floor.lap(false)?;
            Ok(move || (0..rounds).try_for_each(|_| floor.lap(false)))
        })?;
        let engines = together(flights, |_| {
            let client = Client::new(Endpoint::parse(&host)?);
            Ok(move || (0..rounds).try_for_each(|_| container(&client, "none").map(drop)))
        })?;
        let rate = |time: Duration| (flights * rounds) as f64 / time.as_secs_f64();
        println!("| {:.0} | {:.0} | {:.2} |", rate(floors), rate(engines), rate(engines) / rate(floors));
    }
    engine.finish();
    Ok(())
}

/// Runs what `make` made on a thread each, all at once; how long it took until the last had ended.
fn together<W>(count: usize, make: impl Fn(usize) -> Result<W>) -> Result<Duration>
where
    W: FnMut() -> Result<()> + Send,
{
    let workers = (0..count).map(make).collect::<Result<Vec<W>>>()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let running: Vec<_> = workers.into_iter().map(|work| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    Ok(begin.elapsed())
}

//! `bench images [--rounds N] [--megabytes M] [--only pulled|loaded|list] [--without docker|podman] [--here]`: pull, load, save and push
//! of a made-up image of six layers, beside docker and podman of Debian sid where `./x peers engines` has made their root; and a list
//! of 500 images through the API.
//!
//! All take turns within one run, with one registry on the loopback of one network namespace, their data on one fresh file system
//! ([`disk`]; with `--here` on the machine's own). The image and the registry's copy of it are kept below `target/bench` for the
//! next run.

mod cost;
mod keeper;
mod list;
mod made;

use std::fs;

use anyhow::{Context, Result, ensure};
use corten_testkit::TestEngine;
use corten_testkit::registry::Registry;

use super::disk::{self, Medium};
use super::peers::Peers;
use super::start::{executable, option};
use cost::Cost;
use keeper::Keeper;
use made::Made;

/// What is pushed to is emptied before each push.
const EMPTIED: &str = "127.0.0.1:5001";
/// The image's name in the archive, and where it is pushed.
const PUSHED: &str = "127.0.0.1:5001/bench:1";
/// The image's name where it is pulled from.
const PULLED: &str = "127.0.0.1:5000/bench:1";

/// One line of operations, each timed.
struct Course {
    name: &'static str,
    steps: [&'static str; 4],
}

const COURSES: [Course; 2] = [
    Course { name: "pulled", steps: ["pull", "save", "push", "push again"] },
    Course { name: "loaded", steps: ["load", "save", "push", "push again"] },
];

/// Prints a table for each course, then the list.
pub fn run(arguments: &[&str]) -> Result<()> {
    if !arguments.contains(&disk::HERE) {
        return disk::again("images", arguments, Medium::Disk);
    }
    let rounds = option(arguments, "--rounds")?.unwrap_or(3);
    let megabytes = option(arguments, "--megabytes")?.unwrap_or(500) as u64;
    let only = words(arguments, "--only");
    let without = words(arguments, "--without");
    let is_wanted = |name: &str| only.is_empty() || only.contains(&name);
    let executable = executable()?;
    let engine = TestEngine::start_as_installed(&executable.to_string_lossy());
    if is_wanted("list") {
        list::run(&engine)?;
    }
    if COURSES.iter().any(|course| is_wanted(course.name)) {
        let made = Made::new(&engine, megabytes)?;
        let bench = tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp")?;
        fs::hard_link(made.archive(), bench.path().join(keeper::ARCHIVE))
            .or_else(|_| fs::copy(made.archive(), bench.path().join(keeper::ARCHIVE)).map(drop))?;
        let registry = Registry::start_at(&engine, &made.registry(), Registry::HOST);
        let peers = Peers::start(bench.path(), &engine)?;
        let mut keepers = vec![keeper::corten(&engine, &executable, bench.path())];
        keepers.extend(
            peers.iter().flat_map(|peers| [keeper::docker(peers, bench.path()), keeper::podman(peers, bench.path())]),
        );
        keepers.retain(|keeper| !without.iter().any(|name| keeper.name.starts_with(name)));
        for course in COURSES.iter().filter(|course| is_wanted(course.name)) {
            compare(course, &mut keepers, &engine, rounds)?;
        }
        drop((keepers, peers, registry));
    }
    engine.finish();
    Ok(())
}

/// Runs one course with all keepers in turn, and prints its table.
fn compare(course: &Course, keepers: &mut [Keeper], engine: &TestEngine, rounds: usize) -> Result<()> {
    let mut laps: Vec<Vec<[Cost; 4]>> = keepers.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (keeper, laps) in keepers.iter_mut().zip(&mut laps) {
            let lap = lap(course, keeper, engine).with_context(|| format!("{}, round {round}", keeper.name))?;
            laps.push(lap);
        }
    }
    println!("\n{} image, {rounds} rounds: medians of seconds, CPU seconds, largest memory in MB\n", course.name);
    print!("| |");
    course.steps.iter().for_each(|step| print!(" {step} | CPU | MB | x corten | CPU x |"));
    println!("\n|---|{}", "---|---|---|---|---|".repeat(course.steps.len()));
    let first: Vec<Cost> = (0..course.steps.len()).map(|step| cost::median(&laps[0], step)).collect();
    for (keeper, laps) in keepers.iter().zip(&laps) {
        print!("| {} |", keeper.name);
        for (step, first) in first.iter().enumerate() {
            let Cost { seconds, cpu, memory } = cost::median(laps, step);
            let (slower, dearer) = (seconds / first.seconds, cpu / first.cpu);
            print!(" {seconds:.3} | {cpu:.2} | {memory:.0} | {slower:.1} | {dearer:.1} |");
        }
        println!();
    }
    Ok(())
}

/// The image comes, is saved, pushed to an empty registry and once more, and goes.
fn lap(course: &Course, keeper: &Keeper, engine: &TestEngine) -> Result<[Cost; 4]> {
    let come = match course.steps[0] {
        "pull" => keeper.pull(PULLED)?,
        _ => keeper.load()?,
    };
    if course.steps[0] == "pull" {
        keeper.tag(PULLED, PUSHED)?;
    }
    let save = keeper.save(PUSHED)?;
    let storage = engine.path().join("emptied");
    let registry = Registry::start_at(engine, &storage, EMPTIED);
    let push = keeper.push(PUSHED)?;
    let again = keeper.push(PUSHED)?;
    drop(registry);
    fs::remove_dir_all(&storage).context("nothing was pushed")?;
    let names: &[&str] = if course.steps[0] == "pull" { &[PUSHED, PULLED] } else { &[PUSHED] };
    keeper.remove(names)?;
    ensure!(!keeper.has(PUSHED)?, "the image is still there");
    Ok([come, save, push, again])
}

/// The values of an option that may be given several times.
fn words<'a>(arguments: &[&'a str], name: &str) -> Vec<&'a str> {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs.filter(|(option, _)| **option == name).map(|(_, value)| *value).collect()
}

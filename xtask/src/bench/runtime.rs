//! `bench runtime [--rounds N]`: `corten runtime run` beside crun and runc, on the same bundle in the same root, with and without
//! a network namespace of its own, and the kernel's floor.

use anyhow::{Context, Result};

use super::contender::Contender;
use super::crun;
use super::start::{executable, floor, option, unpack_busybox};

/// Prints the table of medians, as ratios with corten's of the same kind.
pub fn run(arguments: &[&str]) -> Result<()> {
    let rounds = option(arguments, "--rounds")?.unwrap_or(100);
    let place =
        tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp").context("making a directory")?;
    let place = place.path();
    let rootfs = unpack_busybox(place)?;
    std::fs::copy(executable()?, place.join("corten"))?;
    let mut contenders = Vec::new();
    for (network, kind) in [(true, "new network namespace"), (false, "host's network")] {
        let bundle = if network { "with" } else { "without" };
        crun::bundle(place, bundle, network)?;
        let id = format!("corten-bench-{bundle}");
        let words: &[&str] = if network { &["net", "cgroups"] } else { &["cgroups"] };
        contenders.push(floor(place, &rootfs, &format!("floor, {kind}"), words)?);
        let ours = ["/bench/corten", "runtime", "run", &format!("{id}-corten")];
        for (peer, command) in [
            ("crun", &ours[..]),
            ("crun", &["crun", "run", &format!("{id}-crun")]),
            ("runc", &["runc", "run", &format!("{id}-runc")]),
        ] {
            if crun::is_made(peer) {
                let name = format!("{} run, {kind}", command[0].trim_start_matches("/bench/"));
                contenders.push(Contender::start(&name, crun::inside(place, bundle, command)?)?);
            }
        }
    }
    for round in 0..rounds + 3 {
        for contender in &mut contenders {
            contender.lap(round >= 3)?;
        }
    }
    print_table(&contenders, rounds);
    Ok(())
}

fn print_table(contenders: &[Contender], rounds: usize) {
    println!("{rounds} rounds, taken in turn; milliseconds");
    println!("| what | median | p10 | p90 | x corten | x floor |\n|---|---|---|---|---|---|");
    let first = |kind: &str, name: &str| {
        let same = |other: &&Contender| other.name.starts_with(name) && other.name.ends_with(kind);
        contenders.iter().find(same).map_or(1.0, |found| found.sample().median())
    };
    for contender in contenders {
        let sample = contender.sample();
        let kind = contender.name.split(", ").last().unwrap_or_default();
        let (floor, corten) = (first(kind, "floor"), first(kind, "corten"));
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            contender.name,
            sample.median() / 1000.0,
            sample.quantile(0.1) / 1000.0,
            sample.quantile(0.9) / 1000.0,
            sample.median() / corten,
            sample.median() / floor,
        );
    }
}

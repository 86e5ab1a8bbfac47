//! `./x fuzz [TARGET] [--seconds N] [--seed S] [--runs N]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use corten_fuzz::drive::{Limits, drive};
use corten_fuzz::{TARGETS, Target};

const USAGE: &str = "usage: fuzz [TARGET] [--seconds N] [--seed S] [--runs N]";
const SECONDS: u64 = 10;

struct Options {
    target: Option<String>,
    seed: u64,
    limits: Limits,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{USAGE}\ntargets: {}", names().join(", "));
            return ExitCode::from(2);
        }
    };
    let chosen = |target: &&Target| options.target.as_ref().is_none_or(|name| name == target.name);
    // A finding in one target does not keep the others from their turn.
    let findings = TARGETS.iter().filter(chosen).filter(|target| !run(target, &options)).count();
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { target: None, seed: 1, limits: Limits::default() };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().ok_or(format!("{argument} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{argument}: {text:?} is no number"))
        };
        match argument.as_str() {
            "--seconds" => options.limits.time = Some(Duration::from_secs(number()?)),
            "--seed" => options.seed = number()?,
            "--runs" => options.limits.runs = Some(number()?),
            name if names().contains(&name) => options.target = Some(name.to_owned()),
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    if options.limits.time.is_none() && options.limits.runs.is_none() {
        options.limits.time = Some(Duration::from_secs(SECONDS));
    }
    Ok(options)
}

/// True if nothing was found.
fn run(target: &Target, options: &Options) -> bool {
    let begin = Instant::now();
    match drive(target, options.seed, options.limits) {
        Ok(runs) => {
            println!("{}: {runs} runs in {:.1} s, seed {}", target.name, begin.elapsed().as_secs_f64(), options.seed);
            true
        }
        Err(finding) => {
            println!(
                "{}: found, repeat with --seed {} --runs 1\n{}",
                target.name,
                finding.seed,
                finding.input.escape_ascii()
            );
            false
        }
    }
}

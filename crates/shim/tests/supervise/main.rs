//! The shim as its daemon sees it: started, attached to, executed into, killed, adopted. Needs root.
//!
//! The program is its own shim: started with `shim` as its argument it plays that role. Everything happens in a mount
//! namespace of its own, and it ends with a look for what was left behind.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

mod attacks;
mod cgroups;
mod filters;
mod latency;
mod life;
mod newcomers;
mod streams;
mod support;
mod users;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use support::World;

type Case = (&'static str, fn(&World));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "shim") {
        corten_shim::main(&arguments[1..]);
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let world = match World::new() {
        Ok(world) => world,
        Err(error) => {
            println!("skipped: {error}");
            return ExitCode::SUCCESS;
        }
    };
    let cases = [
        life::CASES,
        streams::CASES,
        attacks::CASES,
        newcomers::CASES,
        cgroups::CASES,
        filters::CASES,
        users::CASES,
        latency::CASES,
    ]
    .concat();
    let mut failed = 0;
    for (name, case) in cases.into_iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(&**filter))) {
        let before = support::Traces::take();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            case(&world);
            before.expect_same();
        }));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(outcome.is_err());
    }
    println!("\n{failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

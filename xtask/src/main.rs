//! The repository's own jobs: `./x` calls them through `cargo xtask JOB`.

mod bench;
mod cases;
mod defences;
mod layers;
mod licences;
mod lints;
mod metadata;
mod oci;
mod parity;
mod soak;
mod steps;
mod vm;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let job = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match job.as_str() {
        "test" => steps::test(&rest),
        "check" => steps::check_repository(),
        "bench" => bench::run(&rest),
        "oci" => oci::run(&rest),
        "parity" => parity::run(&rest),
        "defences" => defences::run(&rest),
        "vm-test" => vm::run(&rest),
        "soak" => soak::run(&rest),
        other => bail!("unknown job {other:?}; jobs are: test, check, bench, oci, parity, defences, vm-test, soak"),
    }
}

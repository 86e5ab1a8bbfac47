//! A small sample of every target, the same each time.

use corten_fuzz::TARGETS;
use corten_fuzz::drive::{Limits, drive};

#[test]
fn targets_hold_on_a_sample() {
    for target in TARGETS {
        let runs = drive(target, 1, Limits { runs: Some(200), time: None });
        assert_eq!(runs, Ok(200), "{}", target.name);
    }
}

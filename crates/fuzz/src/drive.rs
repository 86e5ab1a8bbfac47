//! The driver: inputs one after the other until the time is up, the runs are done, or something is found.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::Target;
use crate::mutate::input;
use crate::random::Random;

/// When to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// After so many runs.
    pub runs: Option<u64>,
    /// After so much time.
    pub time: Option<Duration>,
}

/// An input that made its target panic.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The seed that makes this input in its first run.
    pub seed: u64,
    /// The input.
    pub input: Vec<u8>,
}

/// Runs a target on inputs that follow from `seed`, `seed + 1` and so on; how many there were.
pub fn drive(target: &Target, seed: u64, limits: Limits) -> Result<u64, Finding> {
    let begin = Instant::now();
    let mut done = 0;
    let more =
        |done| limits.runs.is_none_or(|runs| done < runs) && limits.time.is_none_or(|time| begin.elapsed() < time);
    while more(done) {
        let seed = seed.wrapping_add(done);
        let input = input(target, &mut Random::new(seed));
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            return Err(Finding { seed, input });
        }
        done += 1;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, TARGETS};

    fn picky(input: &[u8]) {
        assert!(!input.starts_with(b"7"), "found");
    }

    #[test]
    fn a_finding_is_repeated_by_its_seed() {
        let target = Target { name: "picky", form: Form::Bytes, samples: &[""], words: &[], run: picky };
        let limits = Limits { runs: Some(100_000), time: None };
        let found = drive(&target, 1, limits).unwrap_err();
        assert_eq!(drive(&target, found.seed, Limits { runs: Some(1), time: None }), Err(found));
    }

    /// Without these a target would only ever see what its parser refuses.
    #[test]
    fn samples_are_of_their_form() {
        for target in TARGETS.iter().filter(|target| target.form == Form::Json) {
            for sample in target.samples {
                assert!(serde_json::from_str::<serde_json::Value>(sample).is_ok(), "{}", target.name);
            }
        }
    }
}

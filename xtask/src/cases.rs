//! What a test run has shown: which cases passed, and which only said why they could not be tried.
//!
//! libtest prints `test path::name ... ok` for each, and with `--show-output` what a case said below `---- path::name stdout ----`.
//! The programs with a main of their own print the same lines, and what a case says just before. A case that does
//! nothing begins a line with `skipped`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Names of cases, without their modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Left out, with a reason: not on this machine.
    skipped: BTreeSet<String>,
    /// Whose output is being read.
    speaker: Option<String>,
    /// A line outside of such output says that the next case is left out.
    skips: bool,
}

impl Shown {
    /// Whether a case of this name passed, and none failed or was left out.
    pub fn has(&self, name: &str) -> bool {
        self.passed.contains(name) && !self.failed.contains(name) && !self.skipped.contains(name)
    }

    /// Whether a case of this name said why it can't be tried here, and none failed.
    pub fn has_skipped(&self, name: &str) -> bool {
        self.skipped.contains(name) && !self.failed.contains(name)
    }

    fn take(&mut self, line: &str) {
        let name = |path: &str| path.rsplit("::").next().unwrap_or(path).to_owned();
        if let Some((path, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let skips = std::mem::take(&mut self.skips);
            let cases = match result {
                "ok" if skips => &mut self.skipped,
                "ok" => &mut self.passed,
                _ => &mut self.failed,
            };
            cases.insert(name(path));
        } else if let Some(path) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.speaker = Some(name(path));
        } else if line.starts_with("successes:") || line.starts_with("failures:") || line.starts_with("running ") {
            (self.speaker, self.skips) = (None, false);
        } else if line.starts_with("skipped") {
            match &self.speaker {
                Some(speaker) => drop(self.skipped.insert(speaker.clone())),
                None => self.skips = true,
            }
        }
    }
}

/// What a run has printed, such as the virtual machine's console.
pub fn read(text: &str) -> Shown {
    let mut shown = Shown::default();
    text.lines().for_each(|line| shown.take(line));
    shown
}

/// Runs a test command to its end, printing what it prints.
pub fn run(command: &mut Command) -> Result<(ExitStatus, Shown)> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("running {command:?}"))?;
    let mut shown = Shown::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        shown.take(&line);
    }
    Ok((child.wait()?, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passed_is_shown() {
        let run = read(
            "running 3 tests\ntest a::one ... ok\ntest a::two ... ok\ntest three ... FAILED\n\nsuccesses:\n\n\
             ---- a::two stdout ----\nskipped: no python\n\n\nsuccesses:\n    a::one\n    a::two\n",
        );
        assert!(run.has("one") && !run.has("two") && !run.has("three") && !run.has("four"));
        assert!(run.has_skipped("two") && !run.has_skipped("one") && !run.has_skipped("three"));
    }

    #[test]
    fn programs_with_a_main_of_their_own() {
        let run = read("test one ... ok\nskipped: no module\ntest two ... ok\ntest three ... ok\n");
        assert!(run.has("one") && !run.has("two") && run.has("three"));
        // Of two of the same name both have to be shown.
        assert!(!read("test a::one ... ok\ntest b::one ... FAILED\n").has("one"));
    }
}

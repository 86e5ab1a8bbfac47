//! One thing that is measured: a coprocess that does its work once for each line it is given and answers with the microseconds.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::statistics::Sample;

/// A named coprocess and what it has measured so far.
pub struct Contender {
    /// What stands in the table.
    pub name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    laps: Vec<f64>,
}

impl Contender {
    /// Starts the coprocess.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let stdin = child.stdin.take().context("the coprocess has no input")?;
        let stdout = BufReader::new(child.stdout.take().context("the coprocess has no output")?);
        Ok(Self { name: name.to_owned(), child, stdin, stdout, laps: Vec::new() })
    }

    /// Does the work once; counts it when `counted`.
    pub fn lap(&mut self, counted: bool) -> Result<()> {
        self.stdin.write_all(b"\n").with_context(|| format!("{}: the coprocess ended", self.name))?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "{}: the coprocess ended", self.name);
        let lap: f64 = line.trim().parse().with_context(|| format!("{}: {line:?}", self.name))?;
        if counted {
            self.laps.push(lap);
        }
        Ok(())
    }

    /// What it took, over all counted laps.
    pub fn sample(&self) -> Sample {
        Sample::new(self.laps.clone())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Only a coprocess that has nothing left to do is ended: its container, if any, is gone by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

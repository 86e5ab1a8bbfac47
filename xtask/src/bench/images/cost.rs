//! What an operation costs: time, processor time of all that works for it, memory.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::memory;
use crate::bench::statistics::Sample;

/// Memory is looked at this often: to look at it costs well under a hundredth of that.
const LOOK: Duration = Duration::from_millis(50);

/// Of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub seconds: f64,
    /// Of client and daemons, with the children that they have waited for.
    pub cpu: f64,
    /// Proportional, in megabytes: the most that the daemons and their children had at once; without daemons, the client.
    pub memory: f64,
}

/// The medians of time and processor time of one step, and the largest memory.
pub fn median(laps: &[[Cost; 4]], step: usize) -> Cost {
    let of = |value: fn(&Cost) -> f64| Sample::new(laps.iter().map(|lap| value(&lap[step])).collect());
    Cost {
        seconds: of(|cost| cost.seconds).median(),
        cpu: of(|cost| cost.cpu).median(),
        memory: of(|cost| cost.memory).quantile(1.0),
    }
}

/// Runs a client to its end.
pub fn timed(command: &mut Command, daemons: &[u32]) -> Result<Cost> {
    // What others have left to write is not this one's to wait for.
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let before = cpu_of(daemons)? + cpu_of_children()?;
    let begin = Instant::now();
    let mut client = command.spawn().with_context(|| format!("running {command:?}"))?;
    let watched = if daemons.is_empty() { vec![client.id()] } else { daemons.to_vec() };
    let (status, seconds, memory) = thread::scope(|scope| {
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watcher = scope.spawn(move || largest(&watched, &ended));
        let status = client.wait();
        let seconds = begin.elapsed().as_secs_f64();
        drop(done);
        (status, seconds, watcher.join().unwrap_or_default())
    });
    ensure!(status?.success(), "{command:?}: {}", said(&mut client));
    let cpu = cpu_of(daemons)? + cpu_of_children()? - before;
    Ok(Cost { seconds, cpu, memory })
}

/// Waits until processes have stopped working.
pub fn settle(daemons: &[u32]) -> Result<()> {
    let mut before = cpu_of(daemons)?;
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = cpu_of(daemons)?;
        if now - before < 0.015 {
            return Ok(());
        }
        before = now;
    }
}

fn said(client: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = &mut client.stderr {
        let _ = std::io::Read::read_to_string(stderr, &mut text);
    }
    text
}

/// The most memory that processes and their children have together until the channel closes.
fn largest(processes: &[u32], ended: &std::sync::mpsc::Receiver<()>) -> f64 {
    let mut most = 0;
    loop {
        let all = processes.iter().flat_map(|&pid| std::iter::once(pid).chain(memory::descendants(pid)));
        // One of them may have ended meanwhile.
        most = most.max(all.filter_map(|pid| memory::proportional(pid).ok()).sum());
        if ended.recv_timeout(LOOK) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            return most as f64 * 1024.0 / 1e6;
        }
    }
}

/// Seconds of processor time that processes and the children that they have waited for have had.
fn cpu_of(processes: &[u32]) -> Result<f64> {
    processes.iter().map(|pid| ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?, 11..15)).sum()
}

/// The same of this process' children that have ended.
fn cpu_of_children() -> Result<f64> {
    ticks(&fs::read_to_string("/proc/self/stat")?, 13..15)
}

/// Sums fields of a `stat` file, counted behind the command's name, in seconds: the kernel shows hundredths (proc_pid_stat(5)).
fn ticks(stat: &str, fields: std::ops::Range<usize>) -> Result<f64> {
    let (_, rest) = stat.rsplit_once(") ").context("an odd stat file")?;
    let values = rest.split(' ').skip(fields.start).take(fields.len()).map(str::parse::<f64>);
    Ok(values.sum::<Result<f64, _>>()? / 100.0)
}

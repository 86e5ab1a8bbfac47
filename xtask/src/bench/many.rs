//! `bench many [--count N]`: what idle containers cost: their supervisors' memory, and the starts of the last beside the first.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corten_client::{Client, Endpoint};
use serde_json::{Value, json};

use super::memory;
use super::start::{engine, executable, option};
use super::statistics::Sample;

/// Starts of which a median is taken at either end.
const EDGE: usize = 20;

/// Starts containers until there are as many as asked for, then weighs their supervisors.
pub fn run(arguments: &[&str]) -> Result<()> {
    let count = option(arguments, "--count")?.unwrap_or(1000);
    ensure!(count >= 2 * EDGE, "--count is at least {}", 2 * EDGE);
    let engine = engine(&executable()?)?;
    let client = Client::new(Endpoint::parse(&engine.host())?);
    let (mut ids, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let body = json!({"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}});
        let created: Value = client.post("/containers/create").json(&body).send()?.json()?;
        let id = created["Id"].as_str().context("no Id in the answer to create")?.to_owned();
        let begin = Instant::now();
        client.post(&format!("/containers/{id}/start")).send()?.discard()?;
        starts.push(begin.elapsed().as_secs_f64() * 1e6);
        ids.push(id);
    }
    let mut supervisors = Vec::new();
    for id in &ids {
        let state: Value = client.get(&format!("/containers/{id}/json")).send()?.json()?;
        let pid = state["State"]["Pid"].as_u64().context("no Pid in the answer to inspect")?;
        supervisors.push(memory::proportional(parent(pid)?)? as f64);
    }
    let mean = supervisors.iter().sum::<f64>() / count as f64;
    let median = |starts: &[f64]| Sample::new(starts.to_vec()).median() / 1000.0;
    let (first, last) = (median(&starts[..EDGE]), median(&starts[count - EDGE..]));
    println!("{count} idle containers: {:.3} MB proportional for each supervisor", mean * 1024.0 / 1e6);
    println!("start of the first {EDGE}: {first:.2} ms, of the last {EDGE}: {last:.2} ms ({:.2} times)", last / first);
    for id in &ids {
        client.delete(&format!("/containers/{id}?force=1")).send()?.discard()?;
    }
    engine.finish();
    Ok(())
}

/// The parent of a process: the supervisor of a container's first one.
pub fn parent(pid: u64) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no PPid")?;
    Ok(line.trim().parse()?)
}

//! The coprocesses: each does its work once for each line on standard input and prints the microseconds it took.

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten_client::{Client, Endpoint};
use serde_json::{Value, json};

/// Bytes of one page of a database.
const PAGE: usize = 4096;

/// `lap PROGRAM [ARGUMENT...]`: the program's life as its caller sees it, from spawn to exit.
pub fn processes(arguments: &[&str]) -> Result<()> {
    let (program, arguments) = arguments.split_first().context("lap: no program named")?;
    timed_laps(|| {
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("running {program}"))?;
        ensure!(status.success(), "{program} failed: {status}");
        Ok(())
    })
}

/// `lap-api HOST NETWORK`: create, start, wait and delete of busybox's `true`, on one kept connection.
pub fn containers(arguments: &[&str]) -> Result<()> {
    let [host, network] = arguments else { anyhow::bail!("lap-api: HOST NETWORK") };
    let client = Client::new(Endpoint::parse(host)?);
    timed_laps(|| container(&client, network).map(drop))
}

/// `lap-exec HOST CONTAINER`: an exec of `true` from its creation until its end is known, on one kept connection.
pub fn execs(arguments: &[&str]) -> Result<()> {
    let [host, container] = arguments else { anyhow::bail!("lap-exec: HOST CONTAINER") };
    let client = Client::new(Endpoint::parse(host)?);
    timed_laps(|| {
        let created = client.post(&format!("/containers/{container}/exec")).json(&json!({"Cmd": ["true"]}));
        let created: Value = created.send()?.json()?;
        let id = created["Id"].as_str().context("no Id in the answer to exec")?;
        client.post(&format!("/exec/{id}/start")).json(&json!({"Detach": true})).send()?.discard()?;
        loop {
            let state: Value = client.get(&format!("/exec/{id}/json")).send()?.json()?;
            if state["Running"] == false {
                ensure!(state["ExitCode"] == 0, "the exec failed: {state}");
                return Ok(());
            }
        }
    })
}

/// `lap-sync FILE`: a page written to the file's end and synchronised, as a database does for one small transaction.
pub fn writes(arguments: &[&str]) -> Result<()> {
    let [path] = arguments else { anyhow::bail!("lap-sync: FILE") };
    let mut file =
        OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {path}"))?;
    timed_laps(|| {
        file.write_all(&[0x5a; PAGE])?;
        Ok(file.sync_data()?)
    })
}

/// The steps of one container's life through the API.
pub const STEPS: [&str; 4] = ["create", "start", "wait", "delete"];

/// One container's life through the API; gives the time at which each step of [`STEPS`] had been answered.
pub fn container(client: &Client, network: &str) -> Result<[Instant; 4]> {
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}});
    let created: Value = client.post("/containers/create").json(&body).send()?.json()?;
    let id = created["Id"].as_str().context("no Id in the answer to create")?;
    let created = Instant::now();
    client.post(&format!("/containers/{id}/start")).send()?.discard()?;
    let started = Instant::now();
    let ended: Value = client.post(&format!("/containers/{id}/wait")).send()?.json()?;
    ensure!(ended["StatusCode"] == 0, "the container failed: {ended}");
    let waited = Instant::now();
    client.delete(&format!("/containers/{id}")).send()?.discard()?;
    Ok([created, started, waited, Instant::now()])
}

fn timed_laps(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    laps(|| {
        let begin = Instant::now();
        work()?;
        Ok(begin.elapsed())
    })
}

/// Answers each line with what `work` says it took.
pub fn laps(mut work: impl FnMut() -> Result<Duration>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(output, "{:.1}", work()?.as_secs_f64() * 1e6)?;
        output.flush()?;
    }
    Ok(())
}

//! `lap-until exec|exit HOST`: how long after a start's request its process had executed the program, and its exit was reported.
//!
//! The container's program is `xtask/floor/stamp.c`, whose first act is to read the clock; what it prints is looked up in the
//! container's log afterwards. The exit is reported when a wait that was there before the start is answered, on a connection of
//! its own: that is the moment at which `docker run` learns of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corten_client::{Client, Endpoint};
use corten_testkit::TestEngine;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::contender::Contender;
use super::lap::laps;
use super::start::{floor_program, lap};

/// The image that has nothing but the program.
const IMAGE: &str = "stamp";

/// The two contenders, against an engine that gets their image. The program is compiled in `place`.
pub fn contenders(engine: &TestEngine, place: &Path) -> Result<[Contender; 2]> {
    let program = floor_program(place, "stamp", &["-nostdlib", "-fno-stack-protector"])?;
    let archive = place.join("stamp.tar");
    let status = Command::new("tar").arg("-C").arg(place).arg("-cf").arg(&archive).arg("stamp").status()?;
    ensure!(status.success(), "packing {}: {status}", program.display());
    engine.corten(&["import", &archive.to_string_lossy(), IMAGE]).ok();
    let contender = |name: &str, moment: &str| {
        let mut command = lap("lap-until")?;
        command.args([moment, &engine.host()]);
        Contender::start(name, command)
    };
    Ok([contender("start request to exec, none", "exec")?, contender("start request to reported exit, none", "exit")?])
}

/// The coprocess.
pub fn run(arguments: &[&str]) -> Result<()> {
    let [moment, host] = arguments else { bail!("lap-until: exec|exit HOST") };
    let client = Client::new(Endpoint::parse(host)?);
    laps(|| {
        let (exec, exit) = moments(&client)?;
        Ok(if *moment == "exec" { exec } else { exit })
    })
}

fn moments(client: &Client) -> Result<(Duration, Duration)> {
    let body = json!({"Image": IMAGE, "Cmd": ["/stamp"], "HostConfig": {"NetworkMode": "none"}});
    let created: Value = client.post("/containers/create").json(&body).send()?.json()?;
    let id = created["Id"].as_str().context("no Id in the answer to create")?;
    // The head of its answer comes when the wait has begun.
    let waiting = client.post(&format!("/containers/{id}/wait")).query("condition", "next-exit").send()?;
    let begin = now();
    client.post(&format!("/containers/{id}/start")).send()?.discard()?;
    let ended: Value = waiting.json()?;
    let exit = now();
    ensure!(ended["StatusCode"] == 0, "the container failed: {ended}");
    let log = client.get(&format!("/containers/{id}/logs")).query("stdout", "1").send()?.bytes()?;
    // One frame: eight bytes of head, then the line.
    let text = log.get(8..).and_then(|line| std::str::from_utf8(line).ok()).context("the program printed nothing")?;
    let exec = Duration::from_nanos(text.trim().parse().with_context(|| format!("a time: {text:?}"))?);
    client.delete(&format!("/containers/{id}")).send()?.discard()?;
    Ok((exec.saturating_sub(begin), exit.saturating_sub(begin)))
}

/// The clock that the program reads.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

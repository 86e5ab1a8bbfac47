//! A list of many images through the API.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use corten_client::Endpoint;
use corten_testkit::TestEngine;
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};

use crate::bench::statistics::Sample;

const LISTED: usize = 500;

/// Loads many small images and times the list of them.
pub fn run(engine: &TestEngine) -> Result<()> {
    let images: Vec<TestImage> = (0..LISTED)
        .map(|number| {
            TestImage::new(&format!("listed/image-{number}:1"), [tar(&[("n", number.to_string().as_bytes())])])
        })
        .collect();
    let archive = engine.path().join("many.tar");
    fs::write(&archive, docker_archive_bytes(&images, Packing::Plain))?;
    engine.corten(&["load", "-qi", &archive.display().to_string()]).ok();
    let client = corten_client::Client::new(Endpoint::parse(&engine.host())?);
    let mut laps = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        let body = client.get("/images/json").send()?.bytes()?;
        laps.push(begin.elapsed().as_secs_f64() * 1e6);
        ensure!(body.len() > LISTED * 100, "the list is short");
    }
    let sample = Sample::new(laps);
    let (median, slow) = (sample.median() / 1000.0, sample.quantile(0.9) / 1000.0);
    println!("list of {LISTED} images through the API: {median:.2} ms median, {slow:.2} ms p90");
    Ok(())
}

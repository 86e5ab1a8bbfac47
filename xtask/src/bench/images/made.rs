//! The made-up image: six layers of text in files of 16 KB on average, as in a distribution's packages.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::image::docker_archive;
use corten_testkit::registry::Registry;
use corten_testkit::{TestEngine, workspace};

use super::PUSHED;

const LAYERS: u64 = 6;

/// An archive of the image, and a registry's storage that has it.
pub struct Made {
    folder: PathBuf,
}

impl Made {
    /// Makes both, unless an earlier run has.
    pub fn new(engine: &TestEngine, megabytes: u64) -> Result<Made> {
        let folder = workspace().join(format!("target/bench/image-{megabytes}"));
        let made = Made { folder };
        if !made.folder.join("complete").exists() {
            fs::create_dir_all(&made.folder)?;
            archive(&made.folder, megabytes)?;
            let registry = Registry::start_at(engine, &made.registry(), Registry::HOST);
            registry.push(engine, &made.archive(), "bench:1");
            fs::write(made.folder.join("complete"), "")?;
        }
        println!(
            "an image of {megabytes} MB in {LAYERS} layers, {} files, {} MB compressed",
            LAYERS * files_of_layer(megabytes),
            size_of(&made.registry())? / 1_000_000
        );
        Ok(made)
    }

    /// What is loaded.
    pub fn archive(&self) -> PathBuf {
        self.folder.join("image.tar")
    }

    /// The storage of the registry that is pulled from.
    pub fn registry(&self) -> PathBuf {
        self.folder.join("registry")
    }
}

fn files_of_layer(megabytes: u64) -> u64 {
    megabytes * 1_000_000 / LAYERS / 16_000
}

fn archive(place: &Path, megabytes: u64) -> Result<()> {
    let mut layers = Vec::new();
    for layer in 0..LAYERS {
        let tree = place.join(format!("layer-{layer}"));
        make_tree(&tree, layer, files_of_layer(megabytes))?;
        let path = place.join(format!("layer-{layer}.tar"));
        let status =
            Command::new("tar").arg("-C").arg(&tree).args(["--sort=name", "-cf"]).arg(&path).arg(".").status()?;
        ensure!(status.success(), "packing a layer: {status}");
        fs::remove_dir_all(&tree)?;
        layers.push(path);
    }
    docker_archive(&place.join("image.tar"), PUSHED, &layers)?;
    Ok(layers.iter().try_for_each(fs::remove_file)?)
}

/// Files of all sizes around the average, of text that packs to about two fifths, the same in each run.
fn make_tree(tree: &Path, layer: u64, files: u64) -> Result<()> {
    let dictionary = fs::read(workspace().join("Cargo.lock")).context("reading some text")?;
    let mut state = layer + 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for file in 0..files {
        let folder = tree.join(format!("srv/d{}/e{}", file % 40, file % 7));
        if file < 280 {
            fs::create_dir_all(&folder)?;
        }
        let mut out = BufWriter::new(File::create(folder.join(format!("l{layer}-f{file}")))?);
        let mut left: usize = [2_000, 6_000, 16_000, 40_000][(random() % 4) as usize];
        while left > 0 {
            let (at, length) = (random() as usize % (dictionary.len() - 64), 8 + random() as usize % 24);
            out.write_all(&dictionary[at..at + length])?;
            out.write_all(&random().to_le_bytes()[..4])?;
            left = left.saturating_sub(length + 4);
        }
        out.flush()?;
    }
    Ok(())
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

//! `bench images [--rounds N] [--megabytes M]`: load and save of a made-up image of six layers, beside docker and podman of Debian sid
//! where `./x peers engines` has made their root; and a list of 500 images through the API.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corten_client::Endpoint;
use corten_testkit::image::{Packing, TestImage, docker_archive, docker_archive_bytes, tar};
use corten_testkit::{TestEngine, workspace};

use super::peers::Peers;
use super::start::{executable, option};
use super::statistics::Sample;

const LAYERS: u64 = 6;
const LISTED: usize = 500;
const NAME: &str = "bench:1";

/// Makes a command of a client from its arguments.
type Client = Box<dyn Fn(&[&str]) -> Command>;

/// Something that keeps images.
struct Keeper {
    name: String,
    /// Makes the command that runs its client.
    client: Client,
    /// Where it sees the bench's folder.
    place: PathBuf,
    /// Processes whose time counts beside the client's.
    daemons: Vec<u32>,
    load: Vec<Measured>,
    save: Vec<Measured>,
}

/// One timed command.
#[derive(Clone, Copy)]
struct Measured {
    seconds: f64,
    /// Of client and daemons.
    cpu: f64,
}

/// Prints the table, then the daemon's memory and the list.
pub fn run(arguments: &[&str]) -> Result<()> {
    let rounds = option(arguments, "--rounds")?.unwrap_or(5);
    let megabytes = option(arguments, "--megabytes")?.unwrap_or(500) as u64;
    let place =
        tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp").context("making a directory")?;
    let archive = image(place.path(), megabytes)?;
    println!("made an image of {megabytes} MB in {LAYERS} layers: {} files", file_count(megabytes));
    let executable = executable()?;
    let engine = TestEngine::start(&executable.to_string_lossy());
    let mut keepers = vec![corten(&engine, &executable, place.path())];
    let peers = Peers::start(place.path())?;
    keepers.extend(peers.iter().flat_map(|peers| [docker(peers), podman(peers)]));
    for round in 0..rounds {
        for keeper in &mut keepers {
            keeper.lap(&archive, place.path()).with_context(|| format!("{}, round {round}", keeper.name))?;
        }
    }
    print_table(&keepers, rounds);
    println!("\nlargest resident memory of the corten daemon: {:.1} MB", peak_memory(engine.pid())?);
    list(&engine)?;
    drop(keepers);
    engine.finish();
    Ok(())
}

fn corten(engine: &TestEngine, executable: &Path, place: &Path) -> Keeper {
    let (host, executable) = (engine.host(), executable.to_owned());
    let client = move |arguments: &[&str]| {
        let mut command = Command::new(&executable);
        command.args(arguments).env("DOCKER_HOST", &host);
        command
    };
    Keeper::new("corten", client, place.into(), vec![engine.pid()])
}

fn docker(peers: &Peers) -> Keeper {
    let peers = peers.clone();
    let daemons = peers.daemons();
    let name = format!("docker {}", peers.version("docker", &["version", "--format", "{{.Server.Version}}"]));
    Keeper::new(&name, move |arguments| peers.command(&[&["docker"], arguments].concat()), "/bench".into(), daemons)
}

fn podman(peers: &Peers) -> Keeper {
    let peers = peers.clone();
    let name = format!("podman {}", peers.version("podman", &["version", "--format", "{{.Version}}"]));
    let root = ["podman", "--root", "/bench/podman", "--runroot", "/run/podman-bench"];
    Keeper::new(&name, move |arguments| peers.command(&[&root, arguments].concat()), "/bench".into(), Vec::new())
}

impl Keeper {
    fn new(name: &str, client: impl Fn(&[&str]) -> Command + 'static, place: PathBuf, daemons: Vec<u32>) -> Keeper {
        Keeper { name: name.into(), client: Box::new(client), place, daemons, load: Vec::new(), save: Vec::new() }
    }

    /// Loads the image, saves it, removes it.
    fn lap(&mut self, archive: &str, outside: &Path) -> Result<()> {
        let inside = |name: &str| self.place.join(name).display().to_string();
        let (archive, saved) = (inside(archive), inside("saved.tar"));
        let load = self.timed(&["load", "-q", "-i", &archive])?;
        let save = self.timed(&["save", "-o", &saved, NAME])?;
        fs::remove_file(outside.join("saved.tar")).context("the archive was not saved")?;
        self.timed(&["rmi", NAME])?;
        self.load.push(load);
        self.save.push(save);
        Ok(())
    }

    fn timed(&self, arguments: &[&str]) -> Result<Measured> {
        // What others have left to write is not this one's to wait for.
        ensure!(Command::new("sync").status()?.success(), "sync failed");
        let mut command = (self.client)(arguments);
        let before = cpu_of(&self.daemons)? + cpu_of_children()?;
        let begin = Instant::now();
        let output = command.output().with_context(|| format!("running {command:?}"))?;
        let seconds = begin.elapsed().as_secs_f64();
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let cpu = cpu_of(&self.daemons)? + cpu_of_children()? - before;
        Ok(Measured { seconds, cpu })
    }
}

fn print_table(keepers: &[Keeper], rounds: usize) {
    println!("\n{rounds} rounds, seconds (medians; CPU seconds of client and daemons)\n");
    println!("| | load | CPU | x corten | save | CPU | x corten |\n|---|---|---|---|---|---|---|");
    let median = |laps: &[Measured], of: fn(&Measured) -> f64| Sample::new(laps.iter().map(of).collect()).median();
    let seconds = |laps: &[Measured]| median(laps, |lap| lap.seconds);
    for keeper in keepers {
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            keeper.name,
            seconds(&keeper.load),
            median(&keeper.load, |lap| lap.cpu),
            seconds(&keeper.load) / seconds(&keepers[0].load),
            seconds(&keeper.save),
            median(&keeper.save, |lap| lap.cpu),
            seconds(&keeper.save) / seconds(&keepers[0].save),
        );
    }
}

/// Loads many small images and times the list of them.
fn list(engine: &TestEngine) -> Result<()> {
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
    println!(
        "list of {LISTED} images through the API: {:.2} ms median, {:.2} ms p90",
        sample.median() / 1000.0,
        sample.quantile(0.9) / 1000.0
    );
    Ok(())
}

fn file_count(megabytes: u64) -> u64 {
    LAYERS * files_of_layer(megabytes)
}

/// Files of 16 KB on average, as in a distribution's packages.
fn files_of_layer(megabytes: u64) -> u64 {
    megabytes * 1_000_000 / LAYERS / 16_000
}

/// Makes the image below `place`; the archive's name.
fn image(place: &Path, megabytes: u64) -> Result<String> {
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
    docker_archive(&place.join("image.tar"), NAME, &layers)?;
    layers.iter().try_for_each(fs::remove_file)?;
    Ok("image.tar".into())
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

/// Seconds of processor time that processes have had.
fn cpu_of(processes: &[u32]) -> Result<f64> {
    processes.iter().map(|pid| ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?, 11..13)).sum()
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

/// The largest resident set that a process has had, in megabytes.
fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1000.0)
}

//! `bench start [--rounds N] [--pause MS] [--busy N] [--memory]`: what one short container costs, beside the kernel's floor and crun, while
//! N other processes keep the processors busy; with all data in memory, if the disk's moods are to be left out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::{TestEngine, debian};

use super::contender::Contender;
use super::crun;
use super::disk::{self, Medium};
use super::memory;
use super::until;

/// After so long nothing is left to be made or removed of the containers before.
const SETTLED: Duration = Duration::from_millis(60);

struct Options {
    rounds: usize,
    pause: Duration,
    busy: usize,
}

/// Prints the table of medians and spreads, then the memory of daemon, pool and one supervisor.
pub fn run(arguments: &[&str]) -> Result<()> {
    if arguments.contains(&"--memory") && !arguments.contains(&disk::HERE) {
        return disk::again("start", arguments, Medium::Memory);
    }
    let options = Options {
        rounds: option(arguments, "--rounds")?.unwrap_or(100),
        pause: Duration::from_millis(option(arguments, "--pause")?.unwrap_or(0) as u64),
        busy: option(arguments, "--busy")?.unwrap_or(0),
    };
    let place =
        tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/var/tmp").context("making a directory")?;
    let rootfs = unpack_busybox(place.path())?;
    let executable = executable()?;
    let engine = engine(&executable)?;

    let mut others = vec![
        floor(place.path(), &rootfs, "floor: net namespace, v1 cgroups", &["net", "cgroups"])?,
        floor(place.path(), &rootfs, "floor: the same and a veth on a bridge", &["veth", "cgroups"])?,
    ];
    others.extend(crun::contender(place.path())?);
    others.push(disk(place.path())?);
    let mut ours = vec![
        api(&engine, "none")?,
        command(&engine, &executable, "none")?,
        api(&engine, "bridge")?,
        command(&engine, &executable, "bridge")?,
    ];
    ours.extend(until::contenders(&engine, place.path())?);

    let busy = Busy::start(options.busy)?;
    for round in 0..options.rounds + 3 {
        if options.pause.is_zero() {
            // The daemon refills its pool behind the last round's containers: that is not to slow the others down. Their first
            // lap after a pause would wait for the kernel, and isn't counted.
            std::thread::sleep(SETTLED);
        }
        for contender in &mut others {
            if options.pause.is_zero() {
                contender.lap(false)?;
            }
            contender.lap(round >= 3)?;
            std::thread::sleep(options.pause);
        }
        for contender in &mut ours {
            contender.lap(round >= 3)?;
            std::thread::sleep(options.pause);
        }
    }
    drop(busy);
    others.extend(ours);
    print_table(&others, &options);
    drop(others);
    print_memory(&engine)?;
    engine.finish();
    Ok(())
}

/// An engine of `executable` that has the image `busybox`.
pub fn engine(executable: &Path) -> Result<TestEngine> {
    let engine = TestEngine::start_as_installed(&executable.to_string_lossy());
    engine.corten(&["import", &debian::busybox_tar().to_string_lossy(), "busybox"]).ok();
    Ok(engine)
}

/// Processes that do nothing but compute, until this is dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Result<Busy> {
        let spawn =
            |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().context("starting a busy process");
        (0..count).map(spawn).collect::<Result<_>>().map(Busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The number after the flag `name`, if it is there.
pub fn option(arguments: &[&str], name: &str) -> Result<Option<usize>> {
    let Some(at) = arguments.iter().position(|&argument| argument == name) else { return Ok(None) };
    let value = arguments.get(at + 1).with_context(|| format!("{name} needs a number"))?;
    value.parse().map(Some).with_context(|| format!("{name} {value}"))
}

/// The release executable that `./x bench` has built.
pub fn executable() -> Result<PathBuf> {
    let target = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .context("xtask lies in a target directory")?
        .to_owned();
    let path = target.join("release/corten");
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

/// Unpacks busybox's image below `place`.
pub fn unpack_busybox(place: &Path) -> Result<PathBuf> {
    let rootfs = place.join("rootfs");
    std::fs::create_dir(&rootfs)?;
    let status = Command::new("tar").arg("-C").arg(&rootfs).arg("-xf").arg(debian::busybox_tar()).status()?;
    ensure!(status.success(), "unpacking busybox: {status}");
    Ok(rootfs)
}

/// Compiles `xtask/floor/NAME.c` with these flags besides into `place`, unless it is there.
pub fn floor_program(place: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let program = place.join(name);
    if !program.exists() {
        let source = corten_testkit::workspace().join(format!("xtask/floor/{name}.c"));
        let status = Command::new("cc")
            .args(["-O2", "-static"])
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg(source)
            .status()
            .context("running cc")?;
        ensure!(status.success(), "compiling {name}.c: {status}");
    }
    Ok(program)
}

/// The floor program with these words, working in a directory of its own.
pub fn floor(place: &Path, rootfs: &Path, name: &str, words: &[&str]) -> Result<Contender> {
    let program = floor_program(place, "floor", &[])?;
    let work = tempfile::Builder::new().prefix("work-").tempdir_in(place)?.keep();
    let mut floor = Command::new("unshare");
    floor.args(["--net", "--"]).arg(program).arg(rootfs).args(words).current_dir(work);
    Contender::start(name, floor)
}

/// A coprocess of this program: one of the jobs of [`super::lap`].
pub fn lap(job: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", job]);
    Ok(command)
}

/// What the disk takes for the one thing that a create waits for.
fn disk(place: &Path) -> Result<Contender> {
    let mut command = lap("lap-sync")?;
    command.arg(place.join("synchronised"));
    Contender::start("the disk: one page written and synchronised", command)
}

fn api(engine: &TestEngine, network: &str) -> Result<Contender> {
    let mut command = lap("lap-api")?;
    command.args([&engine.host(), network]);
    Contender::start(&format!("API create+start+wait+delete, {network}"), command)
}

fn command(engine: &TestEngine, executable: &Path, network: &str) -> Result<Contender> {
    let mut command = lap("lap")?;
    command
        .arg(executable)
        .args(["run", "--rm", "--network", network, "busybox", "true"])
        .env("DOCKER_HOST", engine.host());
    Contender::start(&format!("corten run --rm --network {network}"), command)
}

fn print_table(contenders: &[Contender], options: &Options) {
    let floors: Vec<f64> = contenders.iter().take(2).map(|floor| floor.sample().median()).collect();
    println!(
        "{} rounds, taken in turn, {} ms between laps, {} busy processes; milliseconds",
        options.rounds,
        options.pause.as_millis(),
        options.busy
    );
    println!("| what | median | p10 | p90 | p99 | p99 / median | x floor |\n|---|---|---|---|---|---|---|");
    for contender in contenders {
        let sample = contender.sample();
        let floor = floors[usize::from(contender.name.contains("bridge"))];
        let ms = |fraction| sample.quantile(fraction) / 1000.0;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} |",
            contender.name,
            ms(0.5),
            ms(0.1),
            ms(0.9),
            ms(0.99),
            ms(0.99) / ms(0.5),
            sample.median() / floor
        );
    }
}

fn print_memory(engine: &TestEngine) -> Result<()> {
    let daemon = memory::proportional(engine.pid())?;
    let pool: Vec<u64> =
        memory::descendants(engine.pid()).into_iter().map(memory::proportional).collect::<Result<_>>()?;
    println!(
        "\nidle daemon after these runs: {:.1} MB proportional; its pool: {} processes, {:.1} MB",
        mb(daemon),
        pool.len(),
        mb(pool.iter().sum())
    );
    println!("together: {:.1} MB", mb(daemon + pool.iter().sum::<u64>()));
    let before = memory::descendants(engine.pid());
    engine.corten(&["run", "-d", "--name", "sleeper", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let sleeper: u64 = engine.corten(&["inspect", "-f", "{{.State.Pid}}", "sleeper"]).ok().parse()?;
    let supervisor = super::many::parent(sleeper)?;
    println!("supervisor of a running container: {:.2} MB proportional", mb(memory::proportional(supervisor)?));
    engine.corten(&["rm", "-f", "sleeper"]).ok();
    ensure!(!before.is_empty(), "the daemon keeps no pool");
    Ok(())
}

fn mb(kilobytes: u64) -> f64 {
    kilobytes as f64 * 1024.0 / 1e6
}

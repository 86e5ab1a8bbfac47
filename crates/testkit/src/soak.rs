//! kill -9 at random points of operations on images; after each, a check that must find nothing wrong.
//!
//! In a round two or three clients of Corten's own do one operation after the other, the daemon is killed at a random time within
//! that, started again and made to check its store. Which operations and when follows from the seed; where in its work the kill meets
//! the daemon doesn't, which is the point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::TestEngine;
use crate::image::{
    Packing, TestImage, docker_archive_bytes, oci_archive_bytes, oci_attested_archive_bytes, pack, tar,
};
use crate::registry::Registry;

/// The longest time between the operations' start and the kill, in milliseconds.
const LONGEST: u64 = 600;
/// More operations than one client comes to within that.
const ENOUGH: usize = 200;
/// Names that operations work with.
const NAMES: [&str; 4] = ["soak/a:1", "soak/b:1", "soak/c:1", "soak/d:2"];
/// Architectures of the image for several platforms; the first ones may be this machine's.
const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "386", "s390x"];

/// What a soak did.
#[derive(Debug, Default)]
pub struct Report {
    /// How often the daemon was killed.
    pub kills: usize,
    /// Operations that had ended before the kill.
    pub ended: usize,
    /// Operations that it met, by their names.
    pub met: BTreeMap<String, usize>,
    /// Checks that found something wrong, with what they said.
    pub failures: Vec<String>,
}

/// Kills the daemon of `executable` so often; `progress` is told of each round.
pub fn images(executable: &str, kills: usize, seed: u64, mut progress: impl FnMut(usize, &str)) -> Report {
    let mut engine = TestEngine::start_with(executable, &["--insecure-registry", Registry::HOST]);
    let registry = Registry::start(&engine);
    let place = engine.path().join("soak");
    std::fs::create_dir(&place).expect("making a folder for the archives");
    let archives = archives(&place);
    registry.push(&engine, &archives[0], "pulled:1");
    registry.push(&engine, &archives[1], "pulled:2");
    registry.push_layout(&engine, archives.last().expect("there are some"), "multi:1");
    let mut random = Random(seed);
    let mut report = Report::default();
    for round in 0..kills {
        let count = 2 + random.below(2);
        let mut operations = || (0..ENOUGH).map(|_| operation(&mut random, &archives, &place)).collect::<Vec<_>>();
        let plans: Vec<Vec<Vec<String>>> = (0..count).map(|_| operations()).collect();
        let met =
            kill_within(&mut engine, executable, &plans, Duration::from_millis(random.below(LONGEST)), &mut report);
        engine.start_daemon();
        let check = engine.corten(&["system", "check"]);
        if check.code != 0 {
            report.failures.push(format!("round {round} ({}):\n{}{}", met.join("; "), check.stdout, check.stderr));
        }
        progress(round, check.stdout.lines().last().unwrap_or_default());
    }
    report.failures.extend(leftovers(&engine, &registry));
    drop(registry);
    engine.finish();
    report
}

/// Has clients work on their plans and kills the daemon after some time; what it met.
fn kill_within(
    engine: &mut TestEngine,
    executable: &str,
    plans: &[Vec<Vec<String>>],
    after: Duration,
    report: &mut Report,
) -> Vec<String> {
    let killed = AtomicBool::new(false);
    let (host, config) = (engine.host(), engine.path().join("config"));
    let mut met = Vec::new();
    thread::scope(|scope| {
        let work = |plan: &[Vec<String>]| {
            for (ended, arguments) in plan.iter().enumerate() {
                client(executable, arguments, &host, &config);
                if killed.load(Ordering::SeqCst) {
                    return (ended, Some(arguments.clone()));
                }
            }
            (plan.len(), None)
        };
        let clients: Vec<_> = plans.iter().map(|plan| scope.spawn(move || work(plan))).collect();
        // Not to wait for anything: this is when the kill comes.
        thread::sleep(after);
        killed.store(true, Ordering::SeqCst);
        engine.kill_daemon();
        report.kills += 1;
        for client in clients {
            let (ended, arguments) = client.join().expect("a client's thread ends");
            report.ended += ended;
            if let Some(arguments) = arguments {
                let name = called(&arguments);
                *report.met.entry(name).or_default() += 1;
                met.push(arguments.join(" "));
            }
        }
    });
    met
}

/// An operation's name in the report.
fn called(arguments: &[String]) -> String {
    let is_for_one = arguments.iter().any(|argument| argument == "--platform");
    match arguments[0].as_str() {
        "image" => arguments[..2].join(" "),
        command if is_for_one => format!("{command} --platform"),
        command => command.to_owned(),
    }
}

/// What was interrupted can be continued; with all images gone nothing of them may be left.
fn leftovers(engine: &TestEngine, registry: &Registry) -> Option<String> {
    let platforms = ARCHITECTURES.map(|architecture| format!("linux/{architecture}"));
    let multi = platforms.iter().map(|platform| ("multi:1", Some(platform)));
    for (name, platform) in [("pulled:1", None), ("pulled:2", None)].into_iter().chain(multi) {
        let name = format!("{}/{name}", Registry::HOST);
        let platform: Vec<&str> = platform.iter().flat_map(|platform| ["--platform", platform]).collect();
        let pulled = engine.corten(&[&["pull", "-q"], &platform[..], &[&name]].concat());
        if pulled.code != 0 {
            return Some(format!("an interrupted pull can't be continued: {}", pulled.stderr));
        }
    }
    // All of it is here: it can be pushed whole, and what the registry has then is what was pulled.
    let [multi, whole] = ["multi:1", "whole:1"].map(|name| format!("{}/{name}", Registry::HOST));
    engine.corten(&["tag", &multi, &whole]);
    let pushed = engine.corten(&["push", "-q", &whole]);
    if pushed.code != 0 || registry.manifest(engine, "whole:1") != registry.manifest(engine, "multi:1") {
        return Some(format!("the image for several platforms isn't handed on as it came: {pushed:?}"));
    }
    engine.corten(&["image", "prune", "-af"]);
    let data = engine.path().join("data");
    let count = |name: &str| std::fs::read_dir(data.join(name)).map_or(0, Iterator::count);
    // One folder is `empty`. Nothing is repaired before: what leaks has to be seen.
    let left = || {
        let folders = ["content/blobs/sha256", "content/blobs/sha512", "content/ingest"].map(count);
        [count("snapshots") - 1, folders[0], folders[1], folders[2]]
    };
    let images = engine.corten(&["images", "-aq"]).stdout;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while left()[0] > 0 && std::time::Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    (left != [0; 4] || !images.is_empty()).then(|| format!("{left:?} layers, blobs, parts are left; images:\n{images}"))
}

/// Archives of images that share layers, packed in several ways.
fn archives(place: &Path) -> Vec<PathBuf> {
    let layer = |number: u8| {
        let text: Vec<u8> = (0..600_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ number).collect();
        let small: Vec<(String, Vec<u8>)> = (0..60).map(|at| (format!("d{at}/f{number}"), vec![number; 900])).collect();
        let mut files: Vec<(&str, &[u8])> = vec![("big", &text), ("etc/", b""), ("etc/.wh.gone", b"")];
        files.extend(small.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        tar(&files)
    };
    let layers: Vec<Vec<u8>> = (1..=4).map(layer).collect();
    let image = |name: &str, numbers: &[usize]| TestImage {
        created: format!("2026-11-2{}T00:00:00Z", numbers.len()),
        ..TestImage::new(name, numbers.iter().map(|&at| layers[at].clone()))
    };
    let [a, b] = [image(NAMES[0], &[0, 1]), image(NAMES[1], &[0, 1, 2])];
    let [c, d] = [image(NAMES[2], &[0, 3]), image(NAMES[3], &[3, 2, 1, 0])];
    let platforms = ARCHITECTURES.map(|architecture| TestImage {
        architecture: architecture.to_owned(),
        ..TestImage::new("soak/multi:1", [layers[1].clone(), tar(&[("platform", architecture.as_bytes())])])
    });
    let contents = [
        docker_archive_bytes(std::slice::from_ref(&a), Packing::Gzip),
        docker_archive_bytes(std::slice::from_ref(&d), Packing::Plain),
        docker_archive_bytes(&[b.clone(), d.clone()], Packing::Plain),
        oci_archive_bytes(&[c, a], Packing::Zstd, true),
        pack(&oci_archive_bytes(&[d, b], Packing::Plain, false), Packing::Gzip),
        oci_attested_archive_bytes(&platforms, Packing::Gzip),
    ];
    let write = |(number, bytes): (usize, &Vec<u8>)| {
        let path = place.join(format!("{number}.tar"));
        std::fs::write(&path, bytes).expect("writing an archive");
        path
    };
    contents.iter().enumerate().map(write).collect()
}

/// One command line.
fn operation(random: &mut Random, archives: &[PathBuf], place: &Path) -> Vec<String> {
    let name = NAMES[random.below(NAMES.len() as u64) as usize];
    let archive = archives[random.below(archives.len() as u64) as usize].display().to_string();
    let pulled = format!("{}/pulled:{}", Registry::HOST, 1 + random.below(2));
    let saved = place.join("saved.tar").display().to_string();
    let pushed = format!("{}/pushed:{}", Registry::HOST, random.below(3));
    let remote = format!("{}/multi:1", Registry::HOST);
    let multi = if random.below(4) == 0 { "soak/multi:1" } else { &remote };
    let platform = format!("linux/{}", ARCHITECTURES[random.below(ARCHITECTURES.len() as u64) as usize]);
    let words: &[&str] = match random.below(20) {
        0..=2 => &["load", "-qi", &archive],
        3 | 4 => &["pull", "-q", &pulled],
        5 => &["rmi", "-f", name],
        6 => &["rmi", "-f", &pulled],
        7 => &["image", "prune", "-af"],
        8 => &["save", "-o", &saved, name],
        9 => &["tag", name, &pushed],
        10 | 11 => &["push", "-q", &pushed],
        12 => &["pull", "-q", &remote],
        13..=15 => &["pull", "-q", "--platform", &platform, &remote],
        16 => &["rmi", "-f", "--platform", &platform, multi],
        17 => &["rmi", "-f", multi],
        18 => &["tag", multi, &pushed],
        _ => &["push", "-q", "--platform", &platform, &pushed],
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// One operation from its start to its end, however it ends.
fn client(executable: &str, arguments: &[String], host: &str, config: &Path) -> ExitStatus {
    let mut command = Command::new(executable);
    command.args(arguments).env("DOCKER_HOST", host).env("DOCKER_CONFIG", config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the client starts")
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

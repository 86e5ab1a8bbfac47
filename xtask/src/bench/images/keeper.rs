//! Those that keep images: Corten, docker and podman, by their clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::TestEngine;

use super::cost::{Cost, settle, timed};
use crate::bench::peers::Peers;

/// The archive in the bench's folder.
pub const ARCHIVE: &str = "image.tar";
/// What `save` writes there.
const SAVED: &str = "saved.tar";

/// Makes a command of a client from its arguments.
type Client = Box<dyn Fn(&[&str]) -> Command>;

/// Something that keeps images.
pub struct Keeper {
    pub name: String,
    /// Makes the command that runs its client.
    client: Client,
    /// Where it sees the bench's folder.
    place: PathBuf,
    /// That folder.
    outside: PathBuf,
    /// Processes that work for it beside the client.
    daemons: Vec<u32>,
    /// What its client needs to be told of a registry without TLS.
    plain_http: &'static [&'static str],
}

/// Corten, with the daemon of a test's engine.
pub fn corten(engine: &TestEngine, executable: &Path, place: &Path) -> Keeper {
    let (host, executable) = (engine.host(), executable.to_owned());
    let client = move |arguments: &[&str]| {
        let mut command = Command::new(&executable);
        command.args(arguments).env("DOCKER_HOST", &host);
        command
    };
    Keeper {
        name: "corten".into(),
        client: Box::new(client),
        place: place.into(),
        outside: place.into(),
        daemons: vec![engine.pid()],
        plain_http: &[],
    }
}

/// The peers' docker; `place` is their `/bench`.
pub fn docker(peers: &Peers, place: &Path) -> Keeper {
    let name = format!("docker {}", peers.version("docker", &["version", "--format", "{{.Server.Version}}"]));
    let daemons = peers.daemons();
    let peers = peers.clone();
    let client = move |arguments: &[&str]| peers.command(&[&["docker"], arguments].concat());
    Keeper { name, client: Box::new(client), place: "/bench".into(), outside: place.into(), daemons, plain_http: &[] }
}

/// The peers' podman; `place` is their `/bench`.
pub fn podman(peers: &Peers, place: &Path) -> Keeper {
    let name = format!("podman {}", peers.version("podman", &["version", "--format", "{{.Version}}"]));
    let peers = peers.clone();
    let root = ["podman", "--root", "/bench/podman", "--runroot", "/run/podman-bench"];
    let client = move |arguments: &[&str]| peers.command(&[&root, arguments].concat());
    Keeper {
        name,
        client: Box::new(client),
        place: "/bench".into(),
        outside: place.into(),
        daemons: Vec::new(),
        plain_http: &["--tls-verify=false"],
    }
}

impl Keeper {
    /// Pulls an image that isn't there.
    pub fn pull(&self, name: &str) -> Result<Cost> {
        self.timed(&[&["pull", "-q"], self.plain_http, &[name]].concat())
    }

    /// Loads the archive.
    pub fn load(&self) -> Result<Cost> {
        self.timed(&["load", "-q", "-i", &self.inside(ARCHIVE)])
    }

    /// Saves an image to a file, which is removed.
    pub fn save(&self, name: &str) -> Result<Cost> {
        let cost = self.timed(&["save", "-o", &self.inside(SAVED), name])?;
        fs::remove_file(self.outside.join(SAVED)).context("the archive was not saved")?;
        Ok(cost)
    }

    /// Pushes an image.
    pub fn push(&self, name: &str) -> Result<Cost> {
        self.timed(&[&["push", "-q"], self.plain_http, &[name]].concat())
    }

    /// Gives an image another name.
    pub fn tag(&self, from: &str, to: &str) -> Result<()> {
        self.timed(&["tag", from, to]).map(drop)
    }

    /// Removes an image's names, and waits until its files have gone.
    pub fn remove(&self, names: &[&str]) -> Result<()> {
        self.timed(&[&["rmi"], names].concat())?;
        settle(&self.daemons)
    }

    /// Whether an image of this name is there.
    pub fn has(&self, name: &str) -> Result<bool> {
        let output = (self.client)(&["images", "-q", name]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(!output.stdout.is_empty())
    }

    fn inside(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }

    fn timed(&self, arguments: &[&str]) -> Result<Cost> {
        timed(&mut (self.client)(arguments), &self.daemons)
    }
}

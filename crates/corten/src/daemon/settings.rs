//! What the options add up to.

use std::path::PathBuf;

use corten_engine::Config;

/// The daemon's settings: the engine's, and those about the process and its listeners.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The engine's part.
    pub engine: Config,
    /// `--host`, in order; empty is the default.
    pub hosts: Vec<String>,
    /// `--group` of the socket; empty is none.
    pub group: String,
    /// Also listen on `/run/docker.sock` when nobody else does and no `--host` is given.
    pub docker_socket: bool,
    /// `--tls=false`: TCP on addresses that others reach, without TLS.
    pub plain_tcp: bool,
    /// `--pidfile`; empty is below the exec root.
    pub pidfile: String,
    /// `--log-level`.
    pub log_level: String,
    /// `--raw-logs`.
    pub raw_logs: bool,
    /// Leave the session of whoever started it.
    pub background: bool,
    /// Check the settings and end.
    pub validate: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            engine: Config::default(),
            hosts: Vec::new(),
            group: "docker".into(),
            docker_socket: true,
            plain_tcp: false,
            pidfile: String::new(),
            log_level: "info".into(),
            raw_logs: false,
            background: false,
            validate: false,
        }
    }
}

impl Settings {
    /// Where the pid is written.
    pub(super) fn pidfile(&self) -> PathBuf {
        match self.pidfile.as_str() {
            "" => self.engine.exec_root.join("corten.pid"),
            path => path.into(),
        }
    }
}

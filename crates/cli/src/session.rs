//! What a command knows of the world: global flags, the configuration file and the daemon, each looked up when needed.

use std::cell::OnceCell;
use std::path::PathBuf;

use corten_client::{Client, ConfigFile, EndpointSource, Resolved, resolve_endpoint};

use crate::args::report;
use crate::daemon;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;

/// One invocation of the program.
pub(crate) struct Session {
    config_directory: Option<PathBuf>,
    host: Option<String>,
    context: Option<String>,
    /// The spelling the command was called by.
    pub spelling: &'static str,
    config: OnceCell<ConfigFile>,
    client: OnceCell<Client>,
}

impl Session {
    pub fn new(globals: &Matches, spelling: &'static str) -> Session {
        Session {
            config_directory: globals.get("config").map(PathBuf::from),
            host: globals.get("host").map(str::to_owned),
            context: globals.get("context").map(str::to_owned),
            spelling,
            config: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// The user's configuration file.
    pub fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            let directory = self.config_directory.clone().unwrap_or_else(default_config_directory);
            ConfigFile::load(&directory).unwrap_or_else(|error| {
                report(&format!("WARNING: {error}"));
                ConfigFile::empty(directory)
            })
        })
    }

    /// Where the daemon is.
    pub fn endpoint(&self) -> Outcome<Resolved> {
        let source = EndpointSource {
            host: self.host.clone(),
            context: self.context.clone(),
            env_host: environment("CORTEN_HOST").or_else(|| environment("DOCKER_HOST")),
            env_context: environment("DOCKER_CONTEXT"),
        };
        resolve_endpoint(&source, self.config())
            .map_err(|error| Failure::message(format!("Failed to initialize: {error}")))
    }

    /// The client, connected. Root gets a daemon started when nobody named one and none runs.
    pub fn client(&self) -> Outcome<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let resolved = self.endpoint()?;
        let client = self.unconnected(&resolved);
        match client.connect() {
            Ok(()) => {}
            Err(error) if resolved.is_builtin => daemon::start_or_explain(&client, error)?,
            Err(error) => return Err(error.into()),
        }
        Ok(self.client.get_or_init(|| client))
    }

    /// A client that has not tried to connect, for commands that also work without a daemon.
    pub fn unconnected(&self, resolved: &Resolved) -> Client {
        let client = Client::new(resolved.endpoint.clone()).with_config(self.config());
        match environment("DOCKER_API_VERSION") {
            Some(version) => client.with_version(&version),
            None => client,
        }
    }

    /// The message of a usage error found after parsing, in the style of Docker's `run` and `create`.
    pub fn with_help_hint(&self, text: impl std::fmt::Display) -> String {
        format!("{0}: {text}\n\nRun '{0} {1} --help' for more information", crate::help::PROGRAM, self.spelling)
    }
}

/// An environment variable that is set and not empty.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_config_directory() -> PathBuf {
    match environment("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(environment("HOME").unwrap_or_else(|| "/root".to_owned())).join(".docker"),
    }
}

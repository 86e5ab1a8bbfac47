//! The OCI runtime command line: `corten runtime COMMAND`, flags, exit codes, files and messages as runc 1.3 has them.
//!
//! The process that a user starts reads the bundle, makes the control group, clones the container's init and answers its
//! notes (`launch`); the init applies the same plan with the same code as a shim's. There is one clone for a start
//! and no thread. What outlives the commands is in one directory per container (`store`).

mod bundle;
mod control;
mod create;
mod error;
mod events;
mod exec;
mod exec_process;
mod features;
mod figures;
mod flags;
mod launch;
mod list;
mod log;
mod own_binary;
mod store;
mod template;
mod terminal;
mod update;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use error::{Error, Result};
use flags::{Flag, Parsed};
use log::Log;

/// The version of the runtime specification that is implemented.
const SPEC_VERSION: &str = "1.3.0";

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// Directory of the containers' directories.
    root: PathBuf,
    log: Log,
}

const GLOBAL: &[Flag] = &[
    Flag::value("root", ""),
    Flag::value("log", ""),
    Flag::value("log-format", ""),
    Flag::value("rootless", ""),
    Flag::value("criu", ""),
    Flag::switch("debug", ""),
    Flag::switch("systemd-cgroup", ""),
    Flag::switch("help", "h"),
    Flag::switch("version", "v"),
];

type Run = fn(&Context, &Parsed) -> Result<u8>;

/// Name, what follows it, flags, and the function.
const COMMANDS: &[(&str, &str, &[Flag], Run)] = &[
    ("create", "CONTAINER", create::CREATE_FLAGS, create::create),
    ("delete", "CONTAINER", control::DELETE_FLAGS, control::delete),
    ("events", "CONTAINER", events::FLAGS, events::events),
    ("exec", "CONTAINER COMMAND [ARG...]", exec::FLAGS, exec::exec),
    ("features", "", &[], features::features),
    ("kill", "CONTAINER [SIGNAL]", control::KILL_FLAGS, control::kill),
    ("list", "", list::LIST_FLAGS, list::list),
    ("pause", "CONTAINER", &[], control::pause),
    ("ps", "CONTAINER [PS OPTION...]", list::PS_FLAGS, list::ps),
    ("resume", "CONTAINER", &[], control::resume),
    ("run", "CONTAINER", create::RUN_FLAGS, create::run),
    ("spec", "", template::FLAGS, template::spec),
    ("start", "CONTAINER", &[], control::start),
    ("state", "CONTAINER", &[], list::state),
    ("update", "CONTAINER", update::FLAGS, update::update),
];

/// Runs the command line; `arguments` follow the role's name.
pub fn main(arguments: &[String]) -> ExitCode {
    let mut log = Log::default();
    match dispatch(arguments, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.fatal(&error.message);
            ExitCode::from(error.code)
        }
    }
}

fn dispatch(arguments: &[String], log: &mut Log) -> Result<u8> {
    let global = Parsed::parse(GLOBAL, arguments)?;
    *log = Log::open(global.value("log"), global.value("log-format").unwrap_or("text"), global.is_set("debug"))?;
    if global.is_set("version") {
        println!("corten-runtime version {}\nspec: {SPEC_VERSION}", env!("CARGO_PKG_VERSION"));
        return Ok(0);
    }
    let Some(name) = global.rest.first().filter(|name| !global.is_set("help") && *name != "help") else {
        print_help();
        return Ok(0);
    };
    if let Some(word) = global.value("rootless")
        && !matches!(word, "auto" | "true" | "false")
    {
        return Err(Error::new(format!("invalid value {word:?} for flag -rootless: it is true, false or auto")));
    }
    if global.is_set("systemd-cgroup") {
        return Err(Error::new(
            "--systemd-cgroup is not supported: this runtime manages control groups by itself (cgroupfs)",
        ));
    }
    let Some((_, operands, flags, run)) = COMMANDS.iter().find(|command| command.0 == name) else {
        return Err(Error::new(format!("no such command: {name:?}")));
    };
    let mut parsed = Parsed::parse(flags, &global.rest[1..])?;
    if parsed.is_set("help") {
        println!("usage: corten runtime {name} [OPTION...] {operands}");
        flags.iter().for_each(|flag| println!("  {flag}"));
        return Ok(0);
    }
    if operands.starts_with("CONTAINER") && parsed.rest.is_empty() {
        return Err(Error::new(format!("{name}: a container id is required")));
    }
    if matches!(*operands, "" | "CONTAINER") && parsed.rest.len() > usize::from(!operands.is_empty()) {
        return Err(Error::new(format!("{name}: too many arguments")));
    }
    parsed.command = (*name).clone();
    let root = PathBuf::from(global.value("root").unwrap_or("/run/corten-runtime"));
    run(&Context { root, log: log.clone() }, &parsed)
}

fn print_help() {
    println!("usage: corten runtime [OPTION...] COMMAND [ARGUMENT...]\n\nAn OCI container runtime.\n\nOptions:");
    GLOBAL.iter().for_each(|flag| println!("  {flag}"));
    println!("\nCommands:");
    COMMANDS.iter().for_each(|(name, operands, ..)| println!("  {name} {operands}"));
}

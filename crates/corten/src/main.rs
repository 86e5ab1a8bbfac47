//! Chooses the role that the command line asks for: the daemon, a container's supervisor, the OCI
//! runtime (also under the name `corten-runtime`), or the client.
//!
//! The choice is made on the first word alone, before anything is set up: every role must start fast, and the shim must
//! stay small.

mod daemon;
mod init;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Every word that this program knows is UTF-8; others end up in messages about unknown ones, or in a container's
    // arguments, which travel as JSON and can be nothing else.
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let arguments: Vec<String> = words.collect();
    if init::is_wanted(&program) {
        init::main(&arguments);
    }
    if Path::new(&program).file_name() == Some("corten-runtime".as_ref()) {
        return corten_runtime::command::main(&arguments);
    }
    match arguments.first().map(String::as_str) {
        Some("shim") => corten_shim::main(&arguments[1..]),
        Some("runtime") => corten_runtime::command::main(&arguments[1..]),
        Some("daemon") if arguments.get(1).map(String::as_str) != Some("stop") => daemon::main(arguments[1..].to_vec()),
        Some("-d") => daemon::main(arguments[1..].to_vec()),
        _ => corten_cli::main(arguments),
    }
}

//! The client alone, as a program, for the tests beside it; users get it as a role of the one executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    corten_cli::main(std::env::args().skip(1).collect())
}

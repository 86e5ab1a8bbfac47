//! The `corten` command line: one file per command, Docker's grammar, output and exit codes.
//!
//! Each command is a `static` `Command` in its own file below `commands/`: its spellings, flags and help stand
//! there once. `matches` parses a command line by pflag's grammar, `tree` finds the command, `session` knows the
//! daemon. Nothing is initialised before a command needs it, since this program's start is part of every `corten run`.

mod args;
mod command;
mod commands;
mod container;
mod daemon;
mod failure;
mod filters;
mod foreground;
mod format;
mod help;
mod json;
mod json_text;
mod matches;
mod omitted;
mod progress;
mod session;
mod signals;
mod streams;
mod table;
mod template;
mod terminal;
mod tree;

pub use args::main;

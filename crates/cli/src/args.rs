//! From the process's arguments to a command's exit status.

use std::io::Write as _;
use std::process::ExitCode;

use crate::command::{Arguments, Command, Flag, switch, value};
use crate::failure::Failure;
use crate::help::{self, PROGRAM};
use crate::matches::{Matches, ParseError};
use crate::session::Session;
use crate::terminal;
use crate::tree::{self, Found};

static GLOBAL_FLAGS: &[Flag] = &[
    value("config", "string", "Directory of the client's configuration").default("\"~/.docker\""),
    value("context", "string", "Context to connect to the daemon with, instead of the one in use").short('c'),
    switch("debug", "Turn on debug mode").short('D'),
    value("host", "list", "Socket of the daemon to connect to").short('H'),
    value("log-level", "string", "How much to log: \"debug\", \"info\", \"warn\", \"error\" or \"fatal\"")
        .short('l')
        .default("\"info\""),
    switch("version", "Print the version and quit").short('v'),
];

/// Exit status of a command line that can't be parsed, as Docker's.
const BAD_FLAG: u8 = 125;

/// Runs the command that `arguments` (without the program's own name) ask for.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let status = match dispatch(&arguments) {
        Ok(()) => 0,
        Err(Failure::Status(status)) => status,
        Err(Failure::Message { text, status }) => {
            report(&text);
            status
        }
        Err(Failure::Client(error)) => {
            report(&error.to_string());
            1
        }
    };
    ExitCode::from(status)
}

/// Writes a line to stderr; when even that fails there is nobody left to tell.
pub(crate) fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end_matches('\n'));
}

fn dispatch(words: &[String]) -> Result<(), Failure> {
    let flags: Vec<&Flag> = GLOBAL_FLAGS.iter().collect();
    let globals = match Matches::parse(&flags, false, words) {
        Ok(globals) => globals,
        Err(ParseError::Help) => return print(&help::root_page(&flags, terminal::help_width())),
        Err(ParseError::Bad(message)) => {
            report(&format!(
                "{message}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]\n\nRun '{PROGRAM} --help' for more information"
            ));
            return Err(Failure::Status(BAD_FLAG));
        }
    };
    if globals.is_on("version") {
        return print(&format!("Corten version {}\n", env!("CARGO_PKG_VERSION")));
    }
    // `corten help run` is `corten run --help`.
    let rest = match globals.arguments.split_first() {
        Some((first, path)) if first == "help" => {
            let mut words = path.to_vec();
            words.push("--help".to_owned());
            words
        }
        _ => globals.arguments.clone(),
    };
    match tree::find(&rest) {
        Found::Command(command, spelling, words) => run(command, spelling, words, &globals),
        Found::Group(group, about, words) => show_group(group, about, words),
        Found::Unknown => match rest.first() {
            None => explain(&help::root_page(&flags, terminal::help_width())),
            Some(word) if word == "--help" || word == "-h" => print(&help::root_page(&flags, terminal::help_width())),
            Some(word) => Err(Failure::message(format!(
                "{PROGRAM}: unknown command: {PROGRAM} {word}\n\nRun '{PROGRAM} --help' for more information"
            ))),
        },
    }
}

fn print(text: &str) -> Result<(), Failure> {
    // A reader that has gone away, as in `corten --help | head`, is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Help that nobody asked for: what stood on the command line was not enough.
fn explain(text: &str) -> Result<(), Failure> {
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}

fn show_group(group: &str, about: &str, words: &[String]) -> Result<(), Failure> {
    match words.first() {
        None => explain(&help::group_page(group, about)),
        Some(word) if word == "--help" || word == "-h" => print(&help::group_page(group, about)),
        Some(word) if word.starts_with('-') => {
            let message = match word.strip_prefix("--") {
                Some(name) => format!("unknown flag: --{}", name.split('=').next().unwrap_or_default()),
                None => format!("unknown shorthand flag: '{}' in {word}", word.chars().nth(1).unwrap_or('-')),
            };
            report(&format!(
                "{message}\n\nUsage:  {PROGRAM} {group}\n\nRun '{PROGRAM} {group} --help' for more information"
            ));
            Err(Failure::Status(BAD_FLAG))
        }
        Some(word) => Err(Failure::message(format!(
            "{PROGRAM}: unknown command: {PROGRAM} {group} {word}\n\nUsage:  {PROGRAM} {group}\n\nRun '{PROGRAM} {group} --help' for more information"
        ))),
    }
}

fn run(command: &'static Command, spelling: &'static str, words: &[String], globals: &Matches) -> Result<(), Failure> {
    let flags: Vec<&Flag> = command.flags().collect();
    let usage = help::usage_line(command, spelling);
    let matches = match Matches::parse(&flags, command.interspersed, words) {
        Ok(matches) => matches,
        Err(ParseError::Help) => return print(&help::command_page(command, spelling, terminal::help_width())),
        Err(ParseError::Bad(message)) => {
            report(&format!("{message}\n\nUsage:  {usage}\n\nRun '{PROGRAM} {spelling} --help' for more information"));
            return Err(Failure::Status(BAD_FLAG));
        }
    };
    if let Some(complaint) = count_complaint(command.arguments, matches.arguments.len()) {
        let hint = if matches!(command.arguments, Arguments::AtLeast(_)) { "See" } else { "Run" };
        return Err(Failure::message(format!(
            "{PROGRAM}: '{PROGRAM} {spelling}' {complaint}\n\nUsage:  {usage}\n\n{hint} '{PROGRAM} {spelling} --help' for more information"
        )));
    }
    (command.run)(&Session::new(globals, spelling), &matches)
}

fn count_complaint(expected: Arguments, count: usize) -> Option<String> {
    let plural = |number: usize| if number == 1 { "argument" } else { "arguments" };
    match expected {
        Arguments::None if count > 0 => Some("accepts no arguments".to_owned()),
        Arguments::Exactly(number) if count != number => Some(format!("requires {number} {}", plural(number))),
        Arguments::AtLeast(number) if count < number => Some(format!("requires at least {number} {}", plural(number))),
        Arguments::AtMost(number) if count > number => Some(format!("requires at most {number} {}", plural(number))),
        Arguments::Between(low, high) if !(low..=high).contains(&count) => {
            Some(format!("requires at least {low} and at most {high} {}", plural(high)))
        }
        _ => None,
    }
}

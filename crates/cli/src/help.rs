//! Usage lines and help pages in Docker's layout, wrapped to the terminal.

use std::fmt::Write as _;

use crate::command::{Command, Flag};
use crate::tree::{self, GROUPS};

/// The program's name in every message.
pub(crate) const PROGRAM: &str = "corten";

/// The help page of a command under the spelling it was called by.
pub(crate) fn command_page(command: &Command, spelling: &str, width: usize) -> String {
    let mut page = format!("Usage:  {}\n\n{}\n", usage_line(command, spelling), command.about);
    if command.spellings.len() > 1 {
        let all: Vec<String> = command.spellings.iter().map(|path| format!("{PROGRAM} {path}")).collect();
        let _ = write!(page, "\nAliases:\n  {}\n", all.join(", "));
    }
    let mut flags: Vec<&Flag> = command.flags().filter(|flag| !flag.is_hidden).collect();
    if !flags.is_empty() {
        flags.sort_by_key(|flag| flag.long);
        let _ = write!(page, "\nOptions:\n{}", flag_lines(&flags, width));
    }
    page
}

/// `corten run [OPTIONS] IMAGE [COMMAND] [ARG...]`
pub(crate) fn usage_line(command: &Command, spelling: &str) -> String {
    format!("{PROGRAM} {spelling} {}", command.usage).trim_end().to_owned()
}

/// The help page of a group such as `container`.
pub(crate) fn group_page(group: &str, about: &str) -> String {
    let entries: Vec<(&str, &str)> = tree::commands_of(group);
    format!(
        "Usage:  {PROGRAM} {group} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{PROGRAM} {group} COMMAND --help' for more information on a command.\n",
        name_lines(&entries)
    )
}

/// The help page of the program itself.
pub(crate) fn root_page(global_flags: &[&Flag], width: usize) -> String {
    let mut page = format!("Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nA container engine that speaks Docker's language\n");
    let common: Vec<(&str, &str)> = tree::COMMON.iter().filter_map(|name| tree::top_level(name)).collect();
    let others: Vec<(&str, &str)> =
        tree::all_top_level().into_iter().filter(|(name, _)| !tree::COMMON.contains(name)).collect();
    let _ = write!(page, "\nCommon Commands:\n{}", name_lines(&common));
    let _ = write!(page, "\nManagement Commands:\n{}", name_lines(GROUPS));
    let _ = write!(page, "\nCommands:\n{}", name_lines(&others));
    let mut flags = global_flags.to_vec();
    flags.sort_by_key(|flag| flag.long);
    let _ = write!(page, "\nGlobal Options:\n{}", flag_lines(&flags, width));
    let _ = write!(page, "\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n");
    page
}

fn name_lines(entries: &[(&str, &str)]) -> String {
    let column = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(11);
    entries.iter().fold(String::new(), |mut lines, (name, about)| {
        let _ = writeln!(lines, "  {name:column$} {about}");
        lines
    })
}

/// The table of flags: names to the left, help wrapped within its own column.
fn flag_lines(flags: &[&Flag], width: usize) -> String {
    let heads: Vec<String> = flags.iter().map(|flag| flag_head(flag)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or_default() + 3;
    let mut lines = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut about = flag.about.to_owned();
        if !flag.default.is_empty() {
            let _ = write!(about, " (default {})", flag.default);
        }
        let text = wrap(&about, width.saturating_sub(1).saturating_sub(column)).join(&format!("\n{:column$}", ""));
        let _ = writeln!(lines, "{head:column$}{text}");
    }
    lines
}

fn flag_head(flag: &Flag) -> String {
    let name = match flag.short {
        Some(short) => format!("  -{short}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    if flag.is_switch() { name } else { format!("{name} {}", flag.value) }
}

/// Breaks text at spaces. A line is broken five columns early, unless all that is left would fit: no orphan words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    const SLOP: usize = 5;
    let width = width.max(24);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut left = paragraph;
        while left.len() >= width {
            let window = left.floor_char_boundary(width - SLOP);
            match left[..window].rfind(' ') {
                Some(at) if at > 0 => {
                    lines.push(left[..at].to_owned());
                    left = &left[at + 1..];
                }
                _ => break,
            }
        }
        lines.push(left.to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{switch, value};

    #[test]
    fn flags_are_aligned_and_wrapped() {
        static QUIET: Flag = switch("quiet", "Only show ids").short('q');
        static FORMAT: Flag =
            value("format", "string", "A text that is rather long and has to be broken at the right edge")
                .default("\"x\"");
        let shown = flag_lines(&[&QUIET, &FORMAT], 60);
        let expect = "  -q, --quiet           Only show ids
      --format string   A text that is rather long
                        and has to be broken at the
                        right edge (default \"x\")
";
        assert_eq!(shown, expect);
    }
}

//! What a command is: its spellings, flags, argument count and function, stated once in a `static` of its own file.

use crate::failure::Outcome;
use crate::matches::Matches;
use crate::session::Session;

/// A command under all its spellings.
pub(crate) struct Command {
    /// Full paths without the program's name, as `container ls`; the first of a group is the one its help lists.
    pub spellings: &'static [&'static str],
    /// What follows the path in the usage line.
    pub usage: &'static str,
    /// One line for lists of commands and the top of the help.
    pub about: &'static str,
    /// Flags, in tables that several commands may share.
    pub flags: &'static [&'static [Flag]],
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// False when the first argument ends the flags, as for `run` and `exec`.
    pub interspersed: bool,
    /// What it does.
    pub run: fn(&Session, &Matches) -> Outcome,
}

impl Command {
    /// All flags of all tables.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|table| table.iter())
    }
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// A flag's name, value and help.
#[derive(Debug)]
pub(crate) struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    /// The word for the value in the help; empty for a switch.
    pub value: &'static str,
    /// Says what is wrong with a value, in Docker's words.
    pub check: fn(&str) -> Result<(), String>,
    pub about: &'static str,
    /// Shown as `(default ...)`; strings carry their quotes.
    pub default: &'static str,
    pub is_hidden: bool,
    /// The name its values are kept under: another flag's, when this is an older name of it.
    pub key: &'static str,
}

fn accept(_: &str) -> Result<(), String> {
    Ok(())
}

/// A switch: `--name`, `--name=false`.
pub(crate) const fn switch(long: &'static str, about: &'static str) -> Flag {
    value(long, "", about)
}

/// A flag with a value; `value` is the word the help shows for it.
pub(crate) const fn value(long: &'static str, value: &'static str, about: &'static str) -> Flag {
    Flag { long, short: None, value, check: accept, about, default: "", is_hidden: false, key: long }
}

impl Flag {
    pub const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    pub const fn check(mut self, check: fn(&str) -> Result<(), String>) -> Flag {
        self.check = check;
        self
    }

    pub const fn default(mut self, default: &'static str) -> Flag {
        self.default = default;
        self
    }

    pub const fn hidden(mut self) -> Flag {
        self.is_hidden = true;
        self
    }

    /// Makes this an older name of another flag, not shown in the help.
    pub const fn alias_of(mut self, other: &'static str) -> Flag {
        self.key = other;
        self.hidden()
    }

    pub const fn is_switch(&self) -> bool {
        self.value.is_empty()
    }

    /// As error messages name it: `-m, --memory`.
    pub fn full_name(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

//! Flags as runc's parser reads them: `-b x`, `--bundle x`, `--bundle=x`, one dash or two; the first word that is no flag
//! ends them, and so does `--`.

use std::fmt;

use super::error::{Error, Result};

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    name: &'static str,
    short: &'static str,
    takes_value: bool,
}

impl Flag {
    pub(super) const fn value(name: &'static str, short: &'static str) -> Flag {
        Flag { name, short, takes_value: true }
    }

    pub(super) const fn switch(name: &'static str, short: &'static str) -> Flag {
        Flag { name, short, takes_value: false }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "--{}", self.name)?;
        if !self.short.is_empty() {
            write!(formatter, ", -{}", self.short)?;
        }
        if self.takes_value { formatter.write_str(" VALUE") } else { Ok(()) }
    }
}

const HELP: Flag = Flag::switch("help", "h");

/// A command's words, sorted.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The command's own name.
    pub(super) command: String,
    values: Vec<(&'static str, String)>,
    /// What follows the flags.
    pub(super) rest: Vec<String>,
}

impl Parsed {
    pub(super) fn parse(flags: &[Flag], words: &[String]) -> Result<Parsed> {
        let mut parsed = Parsed::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                parsed.rest.push(word.clone());
                break;
            };
            if name == "-" {
                break;
            }
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            let flag = flags
                .iter()
                .chain([&HELP])
                .find(|flag| flag.name == name || (!flag.short.is_empty() && flag.short == name))
                .ok_or_else(|| Error::new(format!("flag provided but not defined: -{name}")))?;
            let value = match (value, flag.takes_value) {
                (Some(value), _) => value.to_owned(),
                (None, false) => "true".to_owned(),
                (None, true) => {
                    words.next().cloned().ok_or_else(|| Error::new(format!("flag needs an argument: -{name}")))?
                }
            };
            parsed.values.push((flag.name, value));
        }
        parsed.rest.extend(words.cloned());
        Ok(parsed)
    }

    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.values.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !matches!(value, "false" | "f" | "F" | "FALSE" | "False" | "0"))
    }

    /// A flag's number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.value(name)
            .map(|value| value.parse().map_err(|_| Error::new(format!("invalid value {value:?} for flag -{name}"))))
            .transpose()
    }

    /// The container's id, which the table of commands demands.
    pub(super) fn id(&self) -> &str {
        self.rest.first().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[Flag::value("bundle", "b"), Flag::switch("detach", "d"), Flag::value("env", "e")];

    fn parse(line: &str) -> Result<Parsed> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Parsed::parse(FLAGS, &words)
    }

    #[test]
    fn flags_in_all_their_forms() {
        for line in ["--bundle x -d id", "-b=x --detach id", "-bundle x --detach=true -- id"] {
            let parsed = parse(line).unwrap();
            assert_eq!(
                (parsed.value("bundle"), parsed.is_set("detach"), parsed.id()),
                (Some("x"), true, "id"),
                "{line}"
            );
        }
        let parsed = parse("-e A=1 -e B=2 --detach=false id -d --bundle y").unwrap();
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert!(!parsed.is_set("detach"));
        assert_eq!(parsed.rest, ["id", "-d", "--bundle", "y"]);
        assert_eq!(parse("--nope id").unwrap_err().message, "flag provided but not defined: -nope");
        assert!(parse("--bundle").is_err());
    }
}

//! The command line's grammar: that of Go's pflag, which Docker's users have in their fingers.
//!
//! `-p80:80`, `-p 80:80`, `-p=80:80`, `-itd=false`, `--flag=value`, `--flag value`, `--switch=false`, `--`. Flags and
//! arguments may be mixed unless the command says that its first argument ends the flags.

use crate::command::Flag;

/// Flags and arguments of one command as given.
#[derive(Debug, Default, Clone)]
pub(crate) struct Matches {
    values: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
}

/// Why a command line can't be parsed, or what it asks for instead of running.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParseError {
    Help,
    Bad(String),
}

fn bad<T>(message: String) -> Result<T, ParseError> {
    Err(ParseError::Bad(message))
}

impl Matches {
    /// Parses `words` by the flags given.
    pub fn parse(flags: &[&'static Flag], interspersed: bool, words: &[String]) -> Result<Matches, ParseError> {
        let mut matches = Matches::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                matches.arguments.extend(words.by_ref().cloned());
            } else if let Some(body) = word.strip_prefix("--") {
                matches.take_long(flags, body, &mut words)?;
            } else if word.len() > 1 && word.starts_with('-') {
                matches.take_short(flags, &word[1..], &mut words)?;
            } else {
                matches.arguments.push(word.clone());
                if !interspersed {
                    matches.arguments.extend(words.by_ref().cloned());
                }
            }
        }
        Ok(matches)
    }

    fn take_long<'a>(
        &mut self,
        flags: &[&'static Flag],
        body: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), ParseError> {
        if body.starts_with(['-', '=']) {
            return bad(format!("bad flag syntax: --{body}"));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = flags.iter().find(|flag| flag.long == name) else {
            return match (name, value.map(parse_bool)) {
                ("help", Some(Ok(false))) => Ok(()),
                ("help", _) => Err(ParseError::Help),
                _ => bad(format!("unknown flag: --{name}")),
            };
        };
        let value = match value {
            Some(value) => value,
            None if flag.is_switch() => "true",
            None => match rest.next() {
                Some(value) => value,
                None => return bad(format!("flag needs an argument: --{name}")),
            },
        };
        self.set(flag, value)
    }

    fn take_short<'a>(
        &mut self,
        flags: &[&'static Flag],
        letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), ParseError> {
        let mut left = letters;
        while let Some(letter) = left.chars().next() {
            let after = &left[letter.len_utf8()..];
            let Some(flag) = flags.iter().find(|flag| flag.short == Some(letter)) else {
                return if letter == 'h' {
                    Err(ParseError::Help)
                } else {
                    bad(format!("unknown shorthand flag: '{letter}' in -{left}"))
                };
            };
            // As in pflag, a lone `=` at the end is a value of its own, not an empty assignment.
            if after.len() > 1 && after.starts_with('=') {
                return self.set(flag, &after[1..]);
            }
            if !flag.is_switch() {
                return match (after.is_empty(), rest.next_if_empty(after)) {
                    (false, _) => self.set(flag, after),
                    (true, Some(value)) => self.set(flag, value),
                    (true, None) => bad(format!("flag needs an argument: '{letter}' in -{left}")),
                };
            }
            self.set(flag, "true")?;
            left = after;
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), ParseError> {
        let checked = if flag.is_switch() {
            parse_bool(value).map(|on| on.to_string())
        } else {
            (flag.check)(value).map(|()| value.to_owned())
        };
        match checked {
            Ok(value) => {
                self.values.push((flag.key, value));
                Ok(())
            }
            Err(reason) => {
                bad(format!("invalid argument {} for \"{}\" flag: {reason}", quote(value), flag.full_name()))
            }
        }
    }

    /// Whether a switch is on; the last mention counts.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// Whether a switch that is on by default has been left on.
    pub fn is_on_by_default(&self, name: &str) -> bool {
        self.get(name) != Some("false")
    }

    /// A flag's last value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(long, _)| *long == name).map(|(_, value)| value.as_str())
    }

    /// A flag's last value, or the empty string.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a repeated flag, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(long, _)| *long == name).map(|(_, value)| value.as_str())
    }

    /// All values of a repeated flag as owned strings.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name).map(str::to_owned).collect()
    }

    /// Whether the flag was given at all.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A number that has passed the flag's check; 0 when absent.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }
}

/// Takes the next word only if nothing follows the letter in its own word.
trait NextIfEmpty<'a> {
    fn next_if_empty(&mut self, after: &str) -> Option<&'a String>;
}

impl<'a, I: Iterator<Item = &'a String>> NextIfEmpty<'a> for I {
    fn next_if_empty(&mut self, after: &str) -> Option<&'a String> {
        if after.is_empty() { self.next() } else { None }
    }
}

/// Go's `strconv.ParseBool`, with its error text.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// Go's `%q` for the texts that occur in messages.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            other if (other as u32) < 0x20 || other as u32 == 0x7f => {
                quoted.push_str(&format!("\\x{:02x}", other as u32))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{switch, value};

    static FLAGS: &[Flag] = &[
        switch("interactive", "").short('i'),
        switch("tty", "").short('t'),
        switch("detach", "").short('d'),
        value("publish", "list", "").short('p'),
        value("memory", "bytes", "").short('m').check(|text| match text {
            "x" => Err("invalid size: 'x'".to_owned()),
            _ => Ok(()),
        }),
        value("name", "string", ""),
    ];

    fn check(interspersed: bool, line: &str, expect: &str) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let flags: Vec<&'static Flag> = FLAGS.iter().collect();
        let shown = match Matches::parse(&flags, interspersed, &words) {
            Ok(matches) => {
                let flags: Vec<String> = matches.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} | {}", flags.join(" "), matches.arguments.join(" "))
            }
            Err(ParseError::Help) => "help".to_owned(),
            Err(ParseError::Bad(message)) => message,
        };
        assert_eq!(shown, expect, "{line}");
    }

    #[test]
    fn pflag_grammar() {
        check(false, "-p80:80 img", "publish=80:80 | img");
        check(false, "-p 80:80 img", "publish=80:80 | img");
        check(false, "-p=80:80 img", "publish=80:80 | img");
        check(false, "-itd=false img", "interactive=true tty=true detach=false | img");
        check(false, "-itp 1 img", "interactive=true tty=true publish=1 | img");
        check(false, "--name=a=b img", "name=a=b | img");
        check(false, "--name a img --rm", "name=a | img --rm");
        check(true, "img --name a", "name=a | img");
        check(true, "img -- --name a", " | img --name a");
        check(false, "--tty=0 img", "tty=false | img");
        check(false, "- img", " | - img");
        check(false, "--name --tty", "name=--tty | ");
        check(false, "--help", "help");
        check(false, "-ih", "interactive=true | ".replace("interactive=true | ", "help").as_str());
    }

    #[test]
    fn pflag_errors() {
        check(false, "--foo", "unknown flag: --foo");
        check(false, "--foo=1", "unknown flag: --foo");
        check(false, "-z", "unknown shorthand flag: 'z' in -z");
        check(false, "-izt", "unknown shorthand flag: 'z' in -zt");
        check(false, "--name", "flag needs an argument: --name");
        check(false, "-p", "flag needs an argument: 'p' in -p");
        check(false, "-ip", "flag needs an argument: 'p' in -p");
        check(false, "---x", "bad flag syntax: ---x");
        check(false, "-m x", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'");
        check(
            false,
            "-i=x",
            "invalid argument \"x\" for \"-i, --interactive\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        );
    }
}

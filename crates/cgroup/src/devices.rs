//! Device rules boiled down to a default and its exceptions, as both versions can express it.
//!
//! v1's own files work just so, and are told of differences only ([`Policy::steps_from`]); on v2 a program is made from it ([`crate::ebpf`]). Rules that would deny a part of what an
//! earlier rule allows as a range (or the reverse) are refused, since v1 can't express them.

use std::fmt;

use crate::limits::{DeviceKind, DeviceRule};
use crate::{Error, Result};

/// Access bits as the kernel numbers them for programs.
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;

/// What is decided about devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The verdict on everything that is no exception.
    pub allow: bool,
    /// Devices with the other verdict.
    pub exceptions: Vec<Exception>,
}

/// Devices and accesses that are decided against the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub block: bool,
    /// `None` is every number.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u8,
}

impl Policy {
    /// Goes through the rules in order, beginning with "everything denied".
    pub(crate) fn new(rules: &[DeviceRule]) -> Result<Self> {
        let mut policy = Self { allow: false, exceptions: Vec::new() };
        for rule in rules {
            policy.take(rule)?;
        }
        Ok(policy)
    }

    /// What v1 shows in `devices.list`: the exceptions where all else is denied, or that all is allowed, whatever the
    /// exceptions from that. `None` for the latter.
    fn parse_list(list: &str) -> Option<Self> {
        let exception = |line: &str| {
            let mut words = line.split(' ');
            let block = match words.next()? {
                "b" => true,
                "c" => false,
                _ => return None,
            };
            let (major, minor) = words.next()?.split_once(':')?;
            let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
            Some(Exception { block, major: number(major)?, minor: number(minor)?, access: access(words.next()?)? })
        };
        let exceptions = list.lines().map(exception).collect::<Option<_>>()?;
        Some(Self { allow: false, exceptions })
    }

    /// The writes to v1's files that make this of what `devices.list` shows. What is allowed before and after is allowed all the
    /// time, unless everything was: that list has no smaller step to a denial.
    pub(crate) fn steps_from(&self, list: &str) -> Vec<(&'static str, String)> {
        let written = |file, exceptions: Vec<Exception>| exceptions.into_iter().map(move |it| (file, it.to_string()));
        match Self::parse_list(list) {
            Some(present) if !self.allow => {
                let added = written("devices.allow", difference(&self.exceptions, &present.exceptions));
                added.chain(written("devices.deny", difference(&present.exceptions, &self.exceptions))).collect()
            }
            // "a" resets the list of exceptions as well.
            _ => {
                let (all, exceptions) =
                    if self.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
                [(all, "a".to_owned())].into_iter().chain(written(exceptions, self.exceptions.clone())).collect()
            }
        }
    }

    fn take(&mut self, rule: &DeviceRule) -> Result<()> {
        // The kernel ignores numbers and accesses with "a"; such a rule forgets all that came before.
        if rule.kind == DeviceKind::All {
            self.allow = rule.allow;
            self.exceptions.clear();
            return Ok(());
        }
        let exception = Exception {
            block: rule.kind == DeviceKind::Block,
            major: rule.major,
            minor: rule.minor,
            access: access(&rule.access).ok_or_else(|| Error::DeviceRules(rule.access.clone()))?,
        };
        if rule.allow == self.allow { self.remove(exception) } else { self.add(exception) }
    }

    fn add(&mut self, new: Exception) -> Result<()> {
        match self.exceptions.iter_mut().find(|known| known.same_devices(&new)) {
            Some(known) => known.access |= new.access,
            None => self.exceptions.push(new),
        }
        Ok(())
    }

    fn remove(&mut self, rule: Exception) -> Result<()> {
        let wider = |known: &&Exception| known.covers(&rule) && !known.same_devices(&rule);
        if let Some(known) = self.exceptions.iter().find(wider).filter(|known| known.access & rule.access != 0) {
            return Err(Error::DeviceRules(format!("{rule} of {known}")));
        }
        for known in self.exceptions.iter_mut().filter(|known| rule.covers(known)) {
            known.access &= !rule.access;
        }
        self.exceptions.retain(|known| known.access != 0);
        Ok(())
    }
}

/// What is in the first list and not in the second.
fn difference(these: &[Exception], those: &[Exception]) -> Vec<Exception> {
    let rest = |this: &Exception| {
        let known = those.iter().find(|that| that.same_devices(this)).map_or(0, |that| that.access);
        Exception { access: this.access & !known, ..*this }
    };
    these.iter().map(rest).filter(|rest| rest.access != 0).collect()
}

impl Exception {
    fn same_devices(&self, other: &Self) -> bool {
        (self.block, self.major, self.minor) == (other.block, other.major, other.minor)
    }

    /// All devices of `other` are among these.
    fn covers(&self, other: &Self) -> bool {
        let within = |mine: Option<u32>, theirs| mine.is_none() || mine == theirs;
        self.block == other.block && within(self.major, other.major) && within(self.minor, other.minor)
    }
}

/// v1's notation.
impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = if self.block { 'b' } else { 'c' };
        write!(formatter, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        letters
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .try_for_each(|(_, letter)| write!(formatter, "{letter}"))
    }
}

fn access(letters: &str) -> Option<u8> {
    letters.bytes().try_fold(0, |bits, letter| match letter {
        b'r' => Some(bits | READ),
        b'w' => Some(bits | WRITE),
        b'm' => Some(bits | MKNOD),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rules from a shorthand: `+c 1:3 rwm`, `-a`.
    pub(crate) fn rules(text: &[&str]) -> Vec<DeviceRule> {
        let rule = |text: &&str| {
            let (sign, rest) = text.split_at(1);
            let mut words = rest.split(' ');
            let kind = match words.next() {
                Some("b") => DeviceKind::Block,
                Some("c") => DeviceKind::Char,
                _ => DeviceKind::All,
            };
            let mut numbers = words.next().unwrap_or("*:*").split(':').map(|number| number.parse().ok());
            DeviceRule {
                allow: sign == "+",
                kind,
                major: numbers.next().unwrap(),
                minor: numbers.next().unwrap(),
                access: words.next().unwrap_or("rwm").to_owned(),
            }
        };
        text.iter().map(rule).collect()
    }

    fn check(text: &[&str], allow: bool, expect: &[&str]) {
        let policy = Policy::new(&rules(text)).unwrap();
        let exceptions: Vec<_> = policy.exceptions.iter().map(ToString::to_string).collect();
        assert_eq!((policy.allow, exceptions.as_slice()), (allow, expect.map_to_strings().as_slice()));
    }

    trait MapToStrings {
        fn map_to_strings(&self) -> Vec<String>;
    }

    impl MapToStrings for [&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn rules_fold() {
        check(&[], false, &[]);
        check(&["-a", "+c 1:3 rwm", "+c 1:3 r", "-c 10:229 rwm"], false, &["c 1:3 rwm"]);
        check(&["-a", "+c 1:3 r", "+c 1:3 w", "+b *:* m"], false, &["c 1:3 rw", "b *:* m"]);
        check(&["+c 1:3", "+a"], true, &[]);
        check(&["+a", "-b 8:0 w"], true, &["b 8:0 w"]);
        check(&["-a", "+c 1:3", "+c 1:5", "-c 1:* w"], false, &["c 1:3 rm", "c 1:5 rm"]);
    }

    #[test]
    fn v1_lists_change_by_their_differences() {
        let check = |list: &str, text: &[&str], expect: &[&str]| {
            let policy = Policy::new(&rules(text)).unwrap();
            let steps = policy.steps_from(list).into_iter();
            let steps: Vec<_> = steps.map(|(file, value)| format!("{}={value}", &file["devices.".len()..])).collect();
            assert_eq!(steps, expect, "{list:?}");
        };
        let usual = ["-a", "+c 1:3 rwm", "+b *:* m"];
        check("c 1:3 rwm\nb *:* m\n", &usual, &[]);
        check("c 1:3 rwm\n", &usual, &["allow=b *:* m"]);
        check("c 1:3 r\nc 1:5 rw\n", &usual, &["allow=c 1:3 wm", "allow=b *:* m", "deny=c 1:5 rw"]);
        check("", &usual, &["allow=c 1:3 rwm", "allow=b *:* m"]);
        check("c 1:3 rwm\n", &["-a"], &["deny=c 1:3 rwm"]);
        check("a *:* rwm\n", &usual, &["deny=a", "allow=c 1:3 rwm", "allow=b *:* m"]);
        check("a *:* rwm\n", &["+a", "-b 8:0 w"], &["allow=a", "deny=b 8:0 w"]);
        check("c 1:3 rwm\n", &["+a"], &["allow=a"]);
        check("something new\n", &["-a"], &["deny=a"]);
    }

    #[test]
    fn holes_are_refused() {
        assert!(Policy::new(&rules(&["-a", "+c *:* rwm", "-c 10:229 rwm"])).is_err());
        assert!(Policy::new(&rules(&["-a", "+c *:* m", "-c 10:229 rw"])).is_ok());
        assert!(Policy::new(&rules(&["+c 1:3 x"])).is_err());
    }
}

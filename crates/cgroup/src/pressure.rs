//! Pressure stall information: how long a group's tasks waited for processors, memory and block devices (Documentation/accounting/psi).
//!
//! v2 only, and apart from the other statistics: few ask, and the kernel sums up when it is read.

use std::os::fd::BorrowedFd;

use crate::detect::Controller;
use crate::{Group, file};

/// What a group waited for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Processors; none where the kernel doesn't say, as with the others.
    pub cpu: Option<Stalls>,
    /// Memory.
    pub memory: Option<Stalls>,
    /// Block devices.
    pub io: Option<Stalls>,
}

/// Time in which some of the tasks waited, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the type says it")]
pub struct Stalls {
    pub some: Stall,
    pub full: Stall,
}

/// Shares of the time in percent over the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the type says it")]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

impl Group {
    /// Reads the pressure; nothing on v1 and on kernels that don't measure it.
    pub fn pressure(&self) -> Pressure {
        let Ok((_, dir)) = self.place(Controller::Core) else { return Pressure::default() };
        Pressure { cpu: read(dir, "cpu.pressure"), memory: read(dir, "memory.pressure"), io: read(dir, "io.pressure") }
    }
}

/// The file may be there and say that nothing is measured (`psi=0`).
fn read(dir: BorrowedFd<'_>, name: &str) -> Option<Stalls> {
    parse(&file::read(dir, name).ok()?)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`, which processors had not before Linux 5.13.
fn parse(text: &str) -> Option<Stalls> {
    let line = |kind: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let share = |key| value(key).and_then(|text| text.parse().ok());
        Some(Stall {
            avg10: share("avg10")?,
            avg60: share("avg60")?,
            avg300: share("avg300")?,
            total: value("total")?.parse().ok()?,
        })
    };
    Some(Stalls { some: line("some")?, full: line("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text =
            "some avg10=1.25 avg60=0.50 avg300=0.10 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let stalls = parse(text).unwrap();
        assert_eq!(stalls.some, Stall { avg10: 1.25, avg60: 0.5, avg300: 0.1, total: 4711 });
        assert_eq!(stalls.full.total, 7);
        assert_eq!(parse(text.lines().next().unwrap()).unwrap().full, Stall::default());
        assert_eq!(parse(""), None);
        assert_eq!(parse("some avg10=x avg60=0 avg300=0 total=1"), None);
    }
}

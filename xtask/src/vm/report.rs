//! What the console says about the tests.
//!
//! The guest prints `@@ begin NAME` and `@@ end NAME CODE` around each suite and `@@ done` at the end; between them stands what
//! the suites print, where `test NAME ... ok` is a test.

use std::fmt;

/// The counts, and what to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    suites: usize,
    passed: usize,
    /// Reasons that tests gave for doing nothing.
    skipped: Vec<String>,
    failed: Vec<String>,
    /// The guest came to its end.
    complete: bool,
}

/// Reads the console's text.
pub fn read(console: &str) -> Report {
    let mut report = Report::default();
    let mut suite = "";
    for line in console.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix("@@ begin ") {
            suite = name;
            report.suites += 1;
        } else if let Some(end) = line.strip_prefix("@@ end ") {
            let known = report.failed.iter().any(|name| name.starts_with(suite));
            if !end.ends_with(" 0") && !known {
                report.failed.push(format!("{suite} (exit code {})", end.rsplit(' ').next().unwrap_or("?")));
            }
        } else if line.starts_with("@@ done") {
            report.complete = true;
        } else if line.starts_with("skipped") {
            report.skipped.push(format!("{suite}: {line}"));
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            report.take(suite, name, result);
        }
    }
    report
}

/// The suites that came to their end, each with what it said.
pub fn suites(console: &str) -> Vec<(String, String)> {
    let mut suites = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in console.lines() {
        if let Some(name) = line.strip_prefix("@@ begin ") {
            open = Some((name.to_owned(), String::new()));
        } else if line.starts_with("@@ end ") {
            suites.extend(open.take());
        } else if let Some((_, text)) = &mut open {
            *text += line;
            text.push('\n');
        }
    }
    suites
}

impl Report {
    fn take(&mut self, suite: &str, name: &str, result: &str) {
        match result {
            "ok" => self.passed += 1,
            result if result.starts_with("ignored") => self.skipped.push(format!("{suite}: {name} {result}")),
            _ => self.failed.push(format!("{suite}: {name}")),
        }
    }

    /// Everything ran, and nothing failed.
    pub fn is_good(&self) -> bool {
        self.complete && self.failed.is_empty() && self.passed > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.failed {
            writeln!(formatter, "FAILED {name}")?;
        }
        for name in &self.skipped {
            writeln!(formatter, "{name}")?;
        }
        if !self.complete {
            writeln!(formatter, "the machine ended before its tests did")?;
        }
        let (suites, passed, failed) = (self.suites, self.passed, self.failed.len());
        writeln!(formatter, "{passed} passed, {failed} failed, {} skipped in {suites} suites", self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(console: &str, expect: &str, good: bool) {
        let report = read(console);
        assert_eq!((report.to_string().as_str(), report.is_good()), (expect, good));
    }

    #[test]
    fn suites_that_ended() {
        let console =
            "boot\r\n@@ begin a/b\r\ntest one ... ok\r\n@@ end a/b 0\r\nnoise\n@@ begin c/d\ntest two ... ok\n";
        assert_eq!(suites(console), [("a/b".to_owned(), "test one ... ok\n".to_owned())]);
    }

    #[test]
    fn consoles() {
        let good = "boot\r\n@@ begin a/b\r\ntest one ... ok\r\nskipped: no swap\r\n@@ end a/b 0\r\n@@ done\r\n";
        check(good, "a/b: skipped: no swap\n1 passed, 0 failed, 1 skipped in 1 suites\n", true);
        let bad =
            "@@ begin a/b\ntest one ... ok\ntest two ... FAILED\n@@ end a/b 101\n@@ begin c\n@@ end c 139\n@@ done";
        check(bad, "FAILED a/b: two\nFAILED c (exit code 139)\n1 passed, 2 failed, 0 skipped in 2 suites\n", false);
        let cut = "@@ begin a/b\ntest one ... ok\nKernel panic";
        check(cut, "the machine ended before its tests did\n1 passed, 0 failed, 0 skipped in 1 suites\n", false);
        check("@@ done", "0 passed, 0 failed, 0 skipped in 0 suites\n", false);
    }
}

//! `oci [--check]`: docs/oci-runtime.md, the table of the runtime spec's fields, from docs/oci/fields.tsv and a test run.
//!
//! A line of the list is `page TAB field TAB file that applies it TAB file:case`, or `later: reason` in the place of the
//! case. `oci` runs the test programs that the list names and writes the page if every case passed: one that failed, was left out
//! or does not exist fails the job. `--check` holds the page against the list without running anything; `cargo xtask test`
//! holds the list against its own run as well ([`shown`]).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::workspace;

use crate::cases::{self, Shown};

const LIST: &str = "docs/oci/fields.tsv";
const PAGE: &str = "docs/oci-runtime.md";
const HEAD: &str = "# The OCI runtime specification 1.3 (Linux)\n\nWritten by `cargo xtask oci`, which runs the cases that docs/oci/fields.tsv names: \
    each field, where it is applied, and the case that\nuses it and passed. `./x test` fails where one of them fails or is missing, and names those that its machine can't show.\n";

/// One line of the list.
struct Row {
    document: String,
    field: String,
    applied: String,
    shown_by: ShownBy,
}

enum ShownBy {
    Case { file: String, name: String },
    Later(String),
}

/// Writes the page after a run, or with `--check` fails when it isn't what the list says.
pub fn run(arguments: &[String]) -> Result<()> {
    let rows = read()?;
    let (page, path) = (page(&rows)?, workspace().join(PAGE));
    if arguments.iter().any(|argument| argument == "--check") {
        ensure!(
            fs::read_to_string(&path).unwrap_or_default() == page,
            "{PAGE} is not what {LIST} says: run cargo xtask oci"
        );
        return Ok(());
    }
    for (package, target) in programs(&rows)? {
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.args(["test", "--quiet", "--package", &package]).args(&target).args([
            "--",
            "--show-output",
            "--format=pretty",
        ]);
        let (status, shown) = cases::run(command.current_dir(workspace()))?;
        ensure!(status.success(), "{package} {target:?}: {status}");
        let of_it =
            |row: &&Row| matches!(row.program(), Ok(Some(program)) if program == (package.clone(), target.clone()));
        rows.iter().filter(of_it).try_for_each(|row| row.is_shown(&shown))?;
    }
    fs::write(&path, page).with_context(|| format!("writing {PAGE}"))
}

/// Every case of the list is among those that a run of all tests has shown, or said why it can't be tried on this machine.
pub fn shown(run: &Shown) -> Result<()> {
    read()?.iter().try_for_each(|row| row.is_shown_or_skipped(run))
}

fn read() -> Result<Vec<Row>> {
    let list = fs::read_to_string(workspace().join(LIST)).with_context(|| format!("reading {LIST}"))?;
    list.lines().map(Row::parse).collect()
}

fn page(rows: &[Row]) -> Result<String> {
    let mut page = String::from(HEAD);
    let mut section = "";
    for row in rows {
        if row.document != section {
            section = &row.document;
            write!(page, "\n## {section}\n\n| field | applied in | shown by |\n|---|---|---|\n")?;
        }
        ensure!(workspace().join(&row.applied).is_file(), "{LIST}: {}: there is no {}", row.field, row.applied);
        let shown_by = match &row.shown_by {
            ShownBy::Case { file, name } => {
                let source = fs::read_to_string(workspace().join(file));
                let source = source.with_context(|| format!("{LIST}: {}: {file}", row.field))?;
                ensure!(source.contains(&format!("fn {name}(")), "{LIST}: {}: {file} has no case {name}", row.field);
                format!("`{name}` in `{file}`")
            }
            ShownBy::Later(reason) => reason.clone(),
        };
        writeln!(page, "| {} | `{}` | {shown_by} |", row.field, row.applied)?;
    }
    Ok(page)
}

/// The test programs of the cases: package, and how cargo is told which.
fn programs(rows: &[Row]) -> Result<BTreeSet<(String, Vec<String>)>> {
    rows.iter().filter_map(|row| row.program().transpose()).collect()
}

impl Row {
    fn parse(line: &str) -> Result<Row> {
        let [document, field, applied, case] = line.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{LIST}: not four columns: {line}");
        };
        let shown_by = match case.split_once(':') {
            Some(("later", _)) => ShownBy::Later(case.to_owned()),
            Some((file, name)) => ShownBy::Case { file: file.to_owned(), name: name.to_owned() },
            None => anyhow::bail!("{LIST}: {field}: no file:case"),
        };
        Ok(Row { document: document.to_owned(), field: field.to_owned(), applied: applied.to_owned(), shown_by })
    }

    /// `crates/X/tests/T.rs` or `crates/X/tests/T/...` is a program of its own, everything else the library's.
    fn program(&self) -> Result<Option<(String, Vec<String>)>> {
        let ShownBy::Case { file, .. } = &self.shown_by else { return Ok(None) };
        let mut parts = file.strip_prefix("crates/").unwrap_or_default().split('/');
        let (package, kind, next) = (parts.next(), parts.next(), parts.next());
        let (Some(package), Some(kind), Some(next)) = (package, kind, next) else {
            anyhow::bail!("{LIST}: {}: {file} is in no crate", self.field);
        };
        let target = match kind {
            "tests" => vec!["--test".to_owned(), next.trim_end_matches(".rs").to_owned()],
            _ => vec!["--lib".to_owned()],
        };
        let package = if package == "corten" { package.to_owned() } else { format!("corten-{package}") };
        Ok(Some((package, target)))
    }

    fn is_shown(&self, run: &Shown) -> Result<()> {
        if let ShownBy::Case { file, name } = &self.shown_by {
            ensure!(run.has(name), "{LIST}: {}: {name} in {file} has not passed", self.field);
        }
        Ok(())
    }

    /// The same on any machine: what this one can't show is said, and no error.
    fn is_shown_or_skipped(&self, run: &Shown) -> Result<()> {
        match &self.shown_by {
            ShownBy::Case { file, name } if run.has_skipped(name) => {
                eprintln!("    not shown on this machine: {}, by {name} in {file}", self.field);
                Ok(())
            }
            _ => self.is_shown(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(file: &str) -> Option<(String, Vec<String>)> {
        Row::parse(&format!("config.md\tx\ty\t{file}:case")).unwrap().program().unwrap()
    }

    #[test]
    fn cases_are_in_programs() {
        let test = |name: &str| vec!["--test".to_owned(), name.to_owned()];
        let expected = [
            ("crates/corten/tests/runtime_command/exec.rs", "corten", test("runtime_command")),
            ("crates/runtime/tests/apply.rs", "corten-runtime", test("apply")),
            ("crates/runtime/src/plan/tests.rs", "corten-runtime", vec!["--lib".to_owned()]),
        ];
        for (file, package, target) in expected {
            assert_eq!(program(file), Some((package.to_owned(), target)), "{file}");
        }
        assert!(Row::parse("config.md\tx\ty\tlater: z").unwrap().program().unwrap().is_none());
        assert!(Row::parse("config.md\tx\ty").is_err() && Row::parse("config.md\tx\ty\tnothing").is_err());
    }
}

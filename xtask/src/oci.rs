//! `oci [--check]`: docs/oci-runtime.md, the table of the runtime spec's fields, from docs/oci/fields.tsv and a test run.
//!
//! A line of the list is `page TAB field TAB files that apply it TAB case`, with further cases behind further tabs, or with
//! `later: reason` in the place of the cases. A case is `file:name`, and where it has passed: `@here+v2` is this machine and the virtual one
//! with that layout of control groups; nothing is this machine alone. `oci` runs the test programs that the list names, reads what each
//! suite said last in the virtual machine (`vm-test`), and writes the page if every case passed: one that
//! failed, was left out or does not exist fails the job. `--check` holds the page against the list without running anything; `cargo xtask test`
//! holds the list against its own run as well ([`shown`]).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::workspace;

use crate::cases::{self, Shown};
use crate::vm::{self, Layout};

const LIST: &str = "docs/oci/fields.tsv";
const PAGE: &str = "docs/oci-runtime.md";
const HEAD: &str = "# The OCI runtime specification 1.3 (Linux)\n\nWritten by `cargo xtask oci`, which runs the cases that docs/oci/fields.tsv names: \
    each field, where it is applied, and the cases that\nuse it and passed. `./x test` fails where one of them fails or is missing, and names those that its machine can't show.\n\
    Behind a case stands where it passed, if that is not just the machine that wrote this page (Linux 6.18, cgroup v1 beside an empty v2 tree):\nv2, v1 and hybrid are the virtual \
    machine of `./x vm-test` with Debian's kernel and that layout of control groups.\nCases in `_files.rs` and `resctrl.rs` work on plain files: no machine of ours has such devices.\n\
    Fields of Windows, Solaris, FreeBSD, z/OS and virtual machines are not Linux's.\n";

/// One line of the list.
struct Row {
    document: String,
    field: String,
    applied: String,
    shown_by: ShownBy,
}

enum ShownBy {
    Cases(Vec<Case>),
    Later(String),
}

/// A case, and where it has to have passed.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    file: String,
    name: String,
    here: bool,
    layouts: Vec<Layout>,
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
    in_virtual_machines(&rows)?;
    for (package, target) in programs(&rows)? {
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.args(["test", "--quiet", "--package", &package]).args(&target).args([
            "--",
            "--show-output",
            "--format=pretty",
        ]);
        let (status, shown) = cases::run(command.current_dir(workspace()))?;
        ensure!(status.success(), "{package} {target:?}: {status}");
        for (row, case) in all(&rows).filter(|(_, case)| case.here) {
            if case.program()? == (package.clone(), target.clone()) {
                case.has_passed(row, &shown)?;
            }
        }
    }
    fs::write(&path, page).with_context(|| format!("writing {PAGE}"))
}

/// Every case of the list is among those that a run of all tests has shown, or said why it can't be tried on this machine.
pub fn shown(run: &Shown) -> Result<()> {
    let rows = read()?;
    for (row, case) in all(&rows) {
        if case.here && !run.has_skipped(&case.name) {
            case.has_passed(row, run)?;
        } else {
            eprintln!("    not shown on this machine: {}, by {} in {}", row.field, case.name, case.file);
        }
    }
    Ok(())
}

/// What the virtual machine said last is good enough: it takes many minutes to say it.
fn in_virtual_machines(rows: &[Row]) -> Result<()> {
    for layout in Layout::ALL {
        let mut there = all(rows).filter(|(_, case)| case.layouts.contains(&layout)).peekable();
        if there.peek().is_some() {
            let shown = cases::read(&vm::said(layout)?);
            let passed = there.try_for_each(|(row, case)| case.has_passed(row, &shown));
            passed.with_context(|| format!("in the virtual machine, {}", layout.name()))?;
        }
    }
    Ok(())
}

fn read() -> Result<Vec<Row>> {
    let list = fs::read_to_string(workspace().join(LIST)).with_context(|| format!("reading {LIST}"))?;
    list.lines().map(Row::parse).collect()
}

/// Every case with its row.
fn all(rows: &[Row]) -> impl Iterator<Item = (&Row, &Case)> {
    rows.iter().flat_map(|row| row.cases().iter().map(move |case| (row, case)))
}

fn page(rows: &[Row]) -> Result<String> {
    let mut page = String::from(HEAD);
    let mut section = "";
    for row in rows {
        if row.document != section {
            section = &row.document;
            write!(page, "\n## {section}\n\n| field | applied in | shown by |\n|---|---|---|\n")?;
        }
        for file in row.applied.split(", ") {
            ensure!(workspace().join(file).is_file(), "{LIST}: {}: there is no {file}", row.field);
        }
        let shown_by = match &row.shown_by {
            ShownBy::Cases(cases) => cases.iter().map(|case| case.shown(row)).collect::<Result<Vec<_>>>()?.join("; "),
            ShownBy::Later(reason) => reason.clone(),
        };
        writeln!(page, "| {} | `{}` | {shown_by} |", row.field, row.applied.replace(", ", "`, `"))?;
    }
    Ok(page)
}

/// The test programs of the cases that pass here: package, and how cargo is told which.
fn programs(rows: &[Row]) -> Result<BTreeSet<(String, Vec<String>)>> {
    all(rows).filter(|(_, case)| case.here).map(|(_, case)| case.program()).collect()
}

impl Row {
    fn parse(line: &str) -> Result<Row> {
        let [document, field, applied, cases @ ..] = &line.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{LIST}: not four columns: {line}");
        };
        let shown_by = match cases {
            [later] if later.starts_with("later: ") => ShownBy::Later((*later).to_owned()),
            [] => anyhow::bail!("{LIST}: {field}: no case"),
            cases => ShownBy::Cases(
                cases
                    .iter()
                    .map(|case| Case::parse(case))
                    .collect::<Result<_>>()
                    .with_context(|| (*field).to_owned())?,
            ),
        };
        Ok(Row { document: (*document).into(), field: (*field).into(), applied: (*applied).into(), shown_by })
    }

    fn cases(&self) -> &[Case] {
        match &self.shown_by {
            ShownBy::Cases(cases) => cases,
            ShownBy::Later(_) => &[],
        }
    }
}

impl Case {
    fn parse(text: &str) -> Result<Case> {
        let (case, places) = text.split_once('@').unwrap_or((text, "here"));
        let (file, name) = case.split_once(':').with_context(|| format!("{LIST}: no file:case: {text}"))?;
        let mut parsed = Case { file: file.to_owned(), name: name.to_owned(), here: false, layouts: Vec::new() };
        for place in places.split('+') {
            match place {
                "here" => parsed.here = true,
                layout => parsed.layouts.push(Layout::parse(layout)?),
            }
        }
        Ok(parsed)
    }

    /// `crates/X/tests/T.rs` or `crates/X/tests/T/...` is a program of its own, everything else the library's.
    fn program(&self) -> Result<(String, Vec<String>)> {
        let mut parts = self.file.strip_prefix("crates/").unwrap_or_default().split('/');
        let (package, kind, next) = (parts.next(), parts.next(), parts.next());
        let (Some(package), Some(kind), Some(next)) = (package, kind, next) else {
            anyhow::bail!("{LIST}: {} is in no crate", self.file);
        };
        let target = match kind {
            "tests" => vec!["--test".to_owned(), next.trim_end_matches(".rs").to_owned()],
            _ => vec!["--lib".to_owned()],
        };
        let package = if package == "corten" { package.to_owned() } else { format!("corten-{package}") };
        Ok((package, target))
    }

    /// As the page has it; a case that its file lacks is an error.
    fn shown(&self, row: &Row) -> Result<String> {
        let Case { file, name, .. } = self;
        let source = fs::read_to_string(workspace().join(file));
        let source = source.with_context(|| format!("{LIST}: {}: {file}", row.field))?;
        ensure!(source.contains(&format!("fn {name}(")), "{LIST}: {}: {file} has no case {name}", row.field);
        let places = self.here.then_some("here").into_iter().chain(self.layouts.iter().map(|layout| layout.name()));
        let places = match self.layouts[..] {
            [] => String::new(),
            _ => format!(" ({})", places.collect::<Vec<_>>().join(", ")),
        };
        Ok(format!("`{name}` in `{file}`{places}"))
    }

    fn has_passed(&self, row: &Row, run: &Shown) -> Result<()> {
        ensure!(run.has(&self.name), "{LIST}: {}: {} in {} has not passed", row.field, self.name, self.file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_in_programs() {
        let program = |file: &str| Case::parse(&format!("{file}:case")).unwrap().program().unwrap();
        let test = |name: &str| vec!["--test".to_owned(), name.to_owned()];
        let expected = [
            ("crates/corten/tests/runtime_command/exec.rs", "corten", test("runtime_command")),
            ("crates/runtime/tests/apply.rs", "corten-runtime", test("apply")),
            ("crates/runtime/src/plan/tests.rs", "corten-runtime", vec!["--lib".to_owned()]),
        ];
        for (file, package, target) in expected {
            assert_eq!(program(file), (package.to_owned(), target), "{file}");
        }
        assert!(Case::parse("x.rs:y").unwrap().program().is_err());
    }

    #[test]
    fn cases_have_passed_in_places() {
        let case = |text: &str| Case::parse(text).map(|case| (case.name, case.here, case.layouts)).ok();
        assert_eq!(case("a.rs:b"), Some(("b".into(), true, vec![])));
        assert_eq!(case("a.rs:b@v1+hybrid"), Some(("b".into(), false, vec![Layout::V1, Layout::Hybrid])));
        assert_eq!(case("a.rs:b@here+v2"), Some(("b".into(), true, vec![Layout::V2])));
        assert_eq!((case("a.rs:b@v3"), case("a.rs")), (None, None));
    }

    #[test]
    fn rows_have_cases_or_a_reason() {
        let cases = |line: &str| Row::parse(line).map(|row| all(&[row]).count()).ok();
        assert_eq!(cases("config.md\tx\ty\ta.rs:b\ta.rs:c@v2"), Some(2));
        assert_eq!(cases("config.md\tx\ty\tlater: z"), Some(0));
        assert_eq!((cases("config.md\tx\ty"), cases("config.md\tx\ty\tnothing")), (None, None));
    }
}

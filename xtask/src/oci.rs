//! `oci [--check]`: writes docs/oci-runtime.md, the table of the runtime spec's fields, from docs/oci/fields.tsv.
//!
//! A line of the list is `page TAB field TAB file that applies it TAB file:test`, or `later: reason` in the place of the
//! test. A file or a test that is not there fails the job; the test run itself tells whether the test passes.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use corten_testkit::workspace;

const LIST: &str = "docs/oci/fields.tsv";
const PAGE: &str = "docs/oci-runtime.md";
const HEAD: &str = "# The OCI runtime specification 1.3 (Linux)\n\nWritten by `cargo xtask oci` from docs/oci/fields.tsv: each field, where it is \
    applied, and the test that uses it; `cargo xtask check` fails where\na test that is named is not there.\n";

/// Writes the page, or with `--check` fails when it isn't what the list says.
pub fn run(arguments: &[String]) -> Result<()> {
    let list = fs::read_to_string(workspace().join(LIST)).with_context(|| format!("reading {LIST}"))?;
    let mut page = String::from(HEAD);
    let mut section = "";
    for line in list.lines() {
        let [document, field, applied, test] = line.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{LIST}: not four columns: {line}");
        };
        if document != section {
            section = document;
            write!(page, "\n## {document}\n\n| field | applied in | shown by |\n|---|---|---|\n")?;
        }
        ensure!(workspace().join(applied).is_file(), "{LIST}: {field}: there is no {applied}");
        writeln!(page, "| {field} | `{applied}` | {} |", shown_by(field, test)?)?;
    }
    let path = workspace().join(PAGE);
    if arguments.iter().any(|argument| argument == "--check") {
        let written = fs::read_to_string(&path).unwrap_or_default();
        ensure!(written == page, "{PAGE} is not what {LIST} says: run cargo xtask oci");
        return Ok(());
    }
    fs::write(&path, page).with_context(|| format!("writing {PAGE}"))
}

/// The test, once it is known to exist, or the reason why there is none.
fn shown_by(field: &str, test: &str) -> Result<String> {
    if test.starts_with("later: ") {
        return Ok(test.to_owned());
    }
    let (file, name) = test.split_once(':').with_context(|| format!("{LIST}: {field}: no file:test"))?;
    let source = fs::read_to_string(workspace().join(file)).with_context(|| format!("{LIST}: {field}: {file}"))?;
    ensure!(source.contains(&format!("fn {name}(")), "{LIST}: {field}: {file} has no test {name}");
    Ok(format!("`{name}` in `{file}`"))
}

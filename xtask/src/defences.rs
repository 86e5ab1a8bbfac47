//! `defences`: is each defence against a known attack held by a test? In a copy of the tree one defence after the other is
//! taken out, and the test that is named for it has to fail. The list makes docs/security.md's table, too.
//!
//! `check` runs with every `./x test`: each defence's text stands in its file exactly once and the page is up to date.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

mod list;

use list::{DEFENCES, Defence};

const PAGE: &str = "docs/security.md";
const BEGIN: &str = "<!-- table: cargo xtask defences --page -->\n";
const END: &str = "<!-- end of table -->";

/// `--page` writes the table, `--check` holds it; else runs all defences, or those whose attack or test contains the argument.
pub fn run(arguments: &[String]) -> Result<()> {
    match arguments.first().map(String::as_str) {
        Some("--check") => check(),
        Some("--page") => Ok(std::fs::write(PAGE, page()?)?),
        filter => prove(filter.unwrap_or_default()),
    }
}

/// Without building anything: the list fits the code and the page.
pub fn check() -> Result<()> {
    for defence in DEFENCES {
        without(defence)?;
    }
    ensure!(std::fs::read_to_string(PAGE)? == page()?, "{PAGE} is not up to date: cargo xtask defences --page");
    Ok(())
}

fn prove(filter: &str) -> Result<()> {
    let copy = Copy::make()?;
    let chosen: Vec<&Defence> =
        DEFENCES.iter().filter(|defence| defence.attack.contains(filter) || defence.test.contains(filter)).collect();
    let mut unproven = 0;
    for defence in &chosen {
        let verdict = copy.try_without(defence)?;
        println!("{:9} {}: {}", verdict.word(), defence.attack, defence.what);
        unproven += usize::from(!matches!(verdict, Verdict::Noticed));
    }
    println!("{} defences, {unproven} without a test that fails when they are taken out", chosen.len());
    ensure!(unproven == 0, "unproven defences");
    Ok(())
}

enum Verdict {
    /// The test failed, as it should.
    Noticed,
    /// It passed.
    Missed,
    /// It fails with the defence, too.
    Broken,
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Verdict::Noticed => "noticed",
            Verdict::Missed => "MISSED",
            Verdict::Broken => "BROKEN",
        }
    }
}

/// The tree's copy, with a target directory of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Copy> {
        let place = std::env::current_dir()?.join("target/defences");
        let (tree, target) = (place.join("tree"), place.join("build"));
        let _ = std::fs::remove_dir_all(&tree);
        let files = Command::new("git").args(["ls-files", "-z"]).output()?;
        ensure!(files.status.success(), "git ls-files: {}", files.status);
        for file in String::from_utf8(files.stdout)?.split_terminator('\0').filter(|file| Path::new(file).is_file()) {
            let to = tree.join(file);
            std::fs::create_dir_all(to.parent().context("a file without a directory")?)?;
            std::fs::copy(file, to).with_context(|| format!("copying {file}"))?;
        }
        std::os::unix::fs::symlink(std::env::current_dir()?.join("target"), tree.join("target"))?;
        Ok(Copy { tree, target })
    }

    fn try_without(&self, defence: &Defence) -> Result<Verdict> {
        let whole = std::fs::read_to_string(defence.file)?;
        let file = self.tree.join(defence.file);
        if !self.test(defence, &[])?.status.success() {
            return Ok(Verdict::Broken);
        }
        std::fs::write(&file, without(defence)?)?;
        let built = self.test(defence, &["--no-run"])?;
        ensure!(built.status.success(), "{}: {}", defence.what, String::from_utf8_lossy(&built.stderr));
        let tested = self.test(defence, &[])?;
        std::fs::write(&file, whole)?;
        Ok(if tested.status.success() { Verdict::Missed } else { Verdict::Noticed })
    }

    fn test(&self, defence: &Defence, build: &[&str]) -> Result<Output> {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet", "--package", defence.package]).args(defence.suite).args(build);
        command.args(["--", defence.test]).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command.output().context("running cargo test")
    }
}

/// The file's text with the defence taken out.
fn without(defence: &Defence) -> Result<String> {
    let text = std::fs::read_to_string(defence.file).with_context(|| format!("reading {}", defence.file))?;
    let found = text.matches(defence.code).count();
    if found != 1 {
        bail!("{}: the defence {:?} stands there {found} times, not once", defence.file, defence.what);
    }
    Ok(text.replace(defence.code, defence.instead))
}

fn page() -> Result<String> {
    let text = std::fs::read_to_string(PAGE).with_context(|| format!("reading {PAGE}"))?;
    let (before, rest) = text.split_once(BEGIN).context("the table's beginning is not marked")?;
    let (_, after) = rest.split_once(END).context("the table's end is not marked")?;
    let rows = DEFENCES.iter().map(|defence| {
        format!("| {} | {} | `{}` | `{}` |\n", defence.attack, defence.what, defence.file, defence.test)
    });
    let table: String = rows.collect();
    Ok(format!("{before}{BEGIN}| attack | defence | where | test |\n|---|---|---|---|\n{table}{END}{after}"))
}

//! `parity [--check]`: writes docs/parity.md, the table of what is supported, by asking the product itself: every operation of Docker's
//! API specification is tried against a running daemon, every command's help is read. The lists stand in docs/parity/.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use corten_testkit::{TestEngine, workspace};

const PAGE: &str = "docs/parity.md";

/// Writes the page, or with `--check` fails when it isn't what the product says now.
pub fn run(arguments: &[String]) -> Result<()> {
    let executable = executable()?;
    let engine = TestEngine::start(&executable.to_string_lossy());
    let page = format!("{HEAD}{}{}", operations(&engine)?, commands(&engine)?);
    engine.finish();
    let path = workspace().join(PAGE);
    if arguments.iter().any(|argument| argument == "--check") {
        let written = fs::read_to_string(&path).unwrap_or_default();
        ensure!(written == page, "{PAGE} is not what the product says: run ./x parity");
        return Ok(());
    }
    fs::write(&path, page).with_context(|| format!("writing {PAGE}"))
}

const HEAD: &str = "# Parity with Docker Engine 28.5\n\nWritten by `./x parity`, which asks the product: each operation of the Engine API is tried against a running\n\
    daemon (`not yet`: it answers 501; `no Swarm`: it answers as a Docker without Swarm does), each command's help is read.\n";

fn executable() -> Result<PathBuf> {
    let target = std::env::current_exe()?
        .parent()
        .and_then(|debug| debug.parent())
        .context("xtask lies in a target directory")?
        .to_owned();
    let built = ["debug/corten", "release/corten"].map(|name| target.join(name));
    built.into_iter().find(|path| path.exists()).context("no corten executable is built")
}

fn operations(engine: &TestEngine) -> Result<String> {
    let list = fs::read_to_string(workspace().join("docs/parity/operations.tsv")).context("reading the operations")?;
    let mut rows = BTreeMap::<&str, Vec<String>>::new();
    for line in list.lines() {
        let [tag, method, path, name] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        let status = operation_status(engine, method, path)?;
        rows.entry(tag).or_default().push(format!("| {tag} | `{method} {path}` | {name} | {status} |\n"));
    }
    let mut page = String::from("\n## Engine API\n\n| area | operation | name | status |\n|---|---|---|---|\n");
    page.extend(rows.into_values().flatten());
    Ok(page)
}

fn operation_status(engine: &TestEngine, method: &str, path: &str) -> Result<&'static str> {
    let target = path.replace("{id}", "nosuch").replace("{name}", "nosuch");
    let query = if target.contains("/events") { "?since=0&until=1" } else { "" };
    let answer = engine
        .request(&format!(
            "{method} {target}{query} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .with_context(|| format!("{method} {path}: the daemon did not answer"))?;
    let code = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(!(code == "404" && answer.contains("page not found")), "{method} {path} has no route");
    ensure!(!code.is_empty() && code != "500" || !answer.contains("panic"), "{method} {path}: {answer}");
    Ok(match code {
        "501" => "not yet",
        "503" if answer.contains("swarm") => "no Swarm",
        _ => "yes",
    })
}

#[derive(Default)]
struct ListedCommand {
    flags: Vec<String>,
}

fn commands(engine: &TestEngine) -> Result<String> {
    let list = fs::read_to_string(workspace().join("docs/parity/docker-cli.tsv")).context("reading the commands")?;
    let mut listed = BTreeMap::<&str, ListedCommand>::new();
    for line in list.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let command = listed.entry(cells[0]).or_default();
        if let (Some(&"flag"), Some(&long)) = (cells.get(1), cells.get(3)) {
            command.flags.push(long.to_owned());
        }
    }
    let mut page = String::from("\n## Commands\n\n| command | status | flags that are not there |\n|---|---|---|\n");
    for (command, ListedCommand { flags }) in &listed {
        let name = if command.is_empty() { "corten" } else { command };
        let Some(help) = help(engine, command)? else {
            writeln!(page, "| {name} | not yet | |")?;
            continue;
        };
        let has = |flag: &str| help.split([' ', ',', '\n']).any(|word| word == flag);
        let missing: Vec<String> =
            flags.iter().filter(|flag| *flag != "--help" && !has(flag)).map(|flag| format!("`{flag}`")).collect();
        writeln!(page, "| {name} | yes | {} |", missing.join(" "))?;
    }
    Ok(page)
}

/// The command's help, or nothing when there is no such command.
fn help(engine: &TestEngine, command: &str) -> Result<Option<String>> {
    let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    let answer = engine.corten(&words);
    // A group's help in place of the command's: the last word was not understood.
    let last = command.split_whitespace().last().unwrap_or_default();
    let usage = answer.stdout.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
    Ok((answer.code == 0 && usage.split_whitespace().any(|word| word == last || command.is_empty()))
        .then_some(answer.stdout))
}

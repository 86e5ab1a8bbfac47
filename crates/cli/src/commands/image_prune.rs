//! `corten image prune`

use std::io::Write;

use corten_api_types::ImagesPruned;
use corten_base::units::human_size;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome, local};
use crate::filters;
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image prune"],
    usage: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[&[
        switch("all", "Remove all images that no container uses, not only those without a name").short('a'),
        value("filter", "filter", "Remove only images that match (e.g. \"until=<timestamp>\")").check(filters::filter),
        switch("force", "Don't ask").short('f'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

const DANGLING: &str = "WARNING! This will remove all dangling images.";
const ALL: &str = "WARNING! This will remove all images without at least one container associated to them.";

fn run(session: &Session, matches: &Matches) -> Outcome {
    let all = matches.is_on("all");
    if !matches.is_on("force") && !confirm(if all { ALL } else { DANGLING })? {
        return Ok(());
    }
    let dangling = ("dangling", if all { "false" } else { "true" });
    let pruned: ImagesPruned = session
        .client()?
        .post("/images/prune")
        .query_if("filters", filters::to_query(matches, &[dangling]).as_deref())
        .send()?
        .json()?;
    let deleted = pruned.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print_line("Deleted Images:")?;
        for item in &deleted {
            match item.untagged.as_str() {
                "" => print_line(format_args!("deleted: {}", item.deleted))?,
                name => print_line(format_args!("untagged: {name}"))?,
            }
        }
        print_line("")?;
    }
    print_line(format_args!("Total reclaimed space: {}", human_size(pruned.space_reclaimed)))
}

/// Asks; only `y` is a yes.
fn confirm(warning: &str) -> Outcome<bool> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{warning}\nAre you sure you want to continue? [y/N] ")
        .and_then(|()| stdout.flush())
        .map_err(local("asking"))?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::message(format!("reading the answer: {error}")))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

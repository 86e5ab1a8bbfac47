//! `corten system check`, which is Corten's own.

use corten_api_types::Checkup;
use corten_base::units::human_size;

use crate::command::{Arguments, Command, switch};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["system check"],
    usage: "[OPTIONS]",
    about: "Read all stored images again and say what is damaged",
    flags: &[&[switch("repair", "Mend what can be mended and remove what nobody needs")]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

/// The exit status is 1 if something is wrong and not mended.
fn run(session: &Session, matches: &Matches) -> Outcome {
    let repair = matches.is_on("repair");
    let found: Checkup = session.client()?.post("/system/check").flag("repair", repair).send()?.json()?;
    for problem in &found.problems {
        let end = if problem.repaired { " (repaired)" } else { "" };
        print_line(format_args!("{}: {}{end}", problem.subject, problem.problem))?;
    }
    if found.parts > 0 {
        let (parts, bytes) = (found.parts, human_size(found.part_bytes));
        print_line(format_args!(
            "Interrupted pulls keep {parts} parts of blobs ({bytes}) for a day, or until an image prune"
        ))?;
    }
    print_line(format_args!(
        "Checked {} blobs ({}), {} layers, {} images, {} names: {}",
        found.blobs,
        human_size(found.blob_bytes),
        found.layers,
        found.images,
        found.names,
        verdict(&found)
    ))?;
    if repair {
        print_line(format_args!("Total reclaimed space: {}", human_size(found.space_reclaimed)))?;
    }
    if found.problems.iter().all(|problem| problem.repaired) { Ok(()) } else { Err(Failure::Status(1)) }
}

fn verdict(found: &Checkup) -> String {
    let repaired = found.problems.iter().filter(|problem| problem.repaired).count();
    match (found.problems.len(), repaired) {
        (0, _) => "nothing is wrong".to_owned(),
        (1, 0) => "1 problem".to_owned(),
        (problems, 0) => format!("{problems} problems"),
        (problems, repaired) => format!("{problems} found, {repaired} repaired"),
    }
}

//! `corten tag`

use corten_base::Reference;

use crate::command::{Arguments, Command};
use crate::commands::segment;
use crate::failure::{Failure, Outcome};
use crate::matches::{Matches, quote};
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image another name",
    flags: &[],
    arguments: Arguments::Exactly(2),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let [source, target] = [&matches.arguments[0], &matches.arguments[1]];
    let reference = Reference::parse_normalized(target).map_err(|error| {
        Failure::message(format!("Error parsing reference: {} is not a valid repository/tag: {error}", quote(target)))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::message("refusing to create a tag with a digest reference"));
    }
    let reference = reference.with_default_tag();
    session
        .client()?
        .post(&format!("/images/{}/tag", segment(source)))
        .query("repo", &reference.name())
        .query_if("tag", reference.tag())
        .send()?
        .discard()?;
    Ok(())
}

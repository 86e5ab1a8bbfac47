//! `corten pull`, and pulling on behalf of `run` and `create`

use corten_base::{Platform, Reference};
use corten_client::auth_header;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome};
use crate::matches::{Matches, quote};
use crate::progress;
use crate::session::Session;
use crate::streams::Sink;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[&[
        switch("all-tags", "Download all tags of the repository").short('a'),
        switch("disable-content-trust", "Accepted and ignored: images are verified by digest").default("true"),
        value("platform", "string", "Platform to use, when the image has several"),
        switch("quiet", "Show only the image's name").short('q'),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let reference = parse(&matches.arguments[0])?;
    let all_tags = matches.is_on("all-tags");
    let is_bare = reference.tag().is_none() && reference.digest().is_none();
    if all_tags && !is_bare {
        return Err(Failure::message("tag can't be used with --all-tags/-a"));
    }
    let quiet = matches.is_on("quiet");
    let reference = if all_tags { reference } else { reference.with_default_tag() };
    if is_bare && !all_tags && !quiet {
        print_line(format_args!("Using default tag: {}", reference.tag().unwrap_or_default()))?;
    }
    pull(session, &reference, matches.text("platform"), (!quiet).then_some(Sink::Stdout))?;
    print_line(canonical(&reference))
}

/// An image name as a user writes it.
pub(crate) fn parse(name: &str) -> Outcome<Reference> {
    Reference::parse_normalized(name).map_err(|error| Failure::message(error.to_string()))
}

/// `docker.io/library/busybox:latest`
pub(super) fn canonical(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), Some(tag)) => format!("{}:{tag}@{digest}", reference.name()),
        (Some(digest), None) => format!("{}@{digest}", reference.name()),
        (None, Some(tag)) => format!("{}:{tag}", reference.name()),
        (None, None) => reference.name(),
    }
}

/// Pulls an image and shows the progress. Without a tag, all tags.
pub(crate) fn pull(session: &Session, reference: &Reference, platform: &str, sink: Option<Sink>) -> Outcome {
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Some(digest.to_string()),
        (None, tag) => tag.map(str::to_owned),
    };
    let auth = session.config().auth_for(reference.domain()).unwrap_or_default();
    let request = session
        .client()?
        .post("/images/create")
        .query("fromImage", &reference.name())
        .query_if("tag", tag.as_deref())
        .query_if("platform", Some(&platform.to_ascii_lowercase()))
        .header("X-Registry-Auth", &auth_header(&auth));
    progress::show(request.send()?, sink)
}

/// A platform as the API's JSON.
pub(super) fn platform_json(text: &str) -> Outcome<String> {
    let platform = Platform::parse(text)
        .map_err(|error| Failure::message(format!("error parsing specified platform: {}: {error}", quote(text))))?;
    let json = serde_json::to_string(&platform);
    json.map_err(|error| Failure::message(format!("cannot encode the platform: {error}")))
}

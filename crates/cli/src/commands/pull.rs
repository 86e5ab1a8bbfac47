//! `corten pull`, and pulling on behalf of `run` and `create`

use corten_base::{Digest, Platform, Reference};
use corten_client::auth_header;

use crate::command::{Arguments, Command, Flag, switch, value};
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
    flags: &[
        &[
            switch("all-tags", "Download all tags of the repository").short('a'),
            value("platform", "string", "Platform to use, when the image has several"),
        ],
        TRANSFER_FLAGS,
    ],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

/// What `pull` and `push` share.
pub(super) static TRANSFER_FLAGS: &[Flag] = &[
    switch("disable-content-trust", "Accepted and ignored: images are verified by digest").default("true"),
    switch("quiet", "Show only the image's name").short('q'),
];

fn run(session: &Session, matches: &Matches) -> Outcome {
    let (reference, sink) = subject(matches)?;
    pull(session, &reference, matches.text("platform"), sink)?;
    print_line(canonical(&reference))
}

/// What to pull or push, without a tag where all are meant, and where to show the progress, if anywhere.
pub(super) fn subject(matches: &Matches) -> Outcome<(Reference, Option<Sink>)> {
    let reference = parse(&matches.arguments[0])?;
    let sink = (!matches.is_on("quiet")).then_some(Sink::Stdout);
    let is_bare = reference.tag().is_none() && reference.digest().is_none();
    if matches.is_on("all-tags") {
        return if is_bare { Ok((reference, sink)) } else { Err(Failure::message(TAG_WITH_ALL)) };
    }
    let reference = reference.with_default_tag();
    if is_bare && sink.is_some() {
        print_line(format_args!("Using default tag: {}", reference.tag().unwrap_or_default()))?;
    }
    Ok((reference, sink))
}

const TAG_WITH_ALL: &str = "tag can't be used with --all-tags/-a";

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
    let tag = tag_or_digest(reference);
    let request = session
        .client()?
        .post("/images/create")
        .query("fromImage", &reference.name())
        .query_if("tag", tag.as_deref())
        .query_if("platform", Some(&platform.to_ascii_lowercase()))
        .header("X-Registry-Auth", &account(session, reference));
    progress::show(request.send()?, sink)
}

/// What follows a name in the API's `tag`: a digest has precedence.
pub(super) fn tag_or_digest(reference: &Reference) -> Option<String> {
    reference.digest().map(Digest::to_string).or(reference.tag().map(str::to_owned))
}

/// The header that holds the account for an image's registry.
pub(super) fn account(session: &Session, reference: &Reference) -> String {
    auth_header(&session.config().auth_for(reference.domain()).unwrap_or_default())
}

/// A platform as the API's JSON.
pub(super) fn platform_json(text: &str) -> Outcome<String> {
    let platform = Platform::parse(text)
        .map_err(|error| Failure::message(format!("error parsing specified platform: {}: {error}", quote(text))))?;
    let json = serde_json::to_string(&platform);
    json.map_err(|error| Failure::message(format!("cannot encode the platform: {error}")))
}

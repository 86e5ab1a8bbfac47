//! `corten push`

use corten_base::Digest;
use corten_client::auth_header;
use serde::Deserialize;
use serde_json::Value;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::pull::{canonical, parse, platform_json};
use crate::commands::{print_line, segment};
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::progress;
use crate::session::Session;
use crate::streams::Sink;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[&[
        switch("all-tags", "Push all tags of the repository").short('a'),
        switch("disable-content-trust", "Accepted and ignored: images are verified by digest").default("true"),
        value("platform", "string", "Push only this platform's image, when there are several"),
        switch("quiet", "Show only the image's name").short('q'),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let reference = parse(&matches.arguments[0])?;
    let (all_tags, quiet) = (matches.is_on("all-tags"), matches.is_on("quiet"));
    let is_bare = reference.tag().is_none() && reference.digest().is_none();
    if all_tags && !is_bare {
        return Err(Failure::message("tag can't be used with --all-tags/-a"));
    }
    let reference = if all_tags { reference } else { reference.with_default_tag() };
    if is_bare && !all_tags && !quiet {
        print_line(format_args!("Using default tag: {}", reference.tag().unwrap_or_default()))?;
    }
    let platform = matches.get("platform").map(platform_json).transpose()?;
    let auth = session.config().auth_for(reference.domain()).unwrap_or_default();
    let tag = reference.digest().map(Digest::to_string).or(reference.tag().map(str::to_owned));
    let response = session
        .client()?
        .post(&format!("/images/{}/push", segment(&reference.name())))
        .query("tag", tag.as_deref().unwrap_or_default())
        .query_if("platform", platform.as_deref())
        .header("X-Registry-Auth", &auth_header(&auth))
        .send()?;
    let mut notes = Vec::new();
    let shown = progress::show_with(response, (!quiet).then_some(Sink::Stdout), |aux| notes.extend(note(aux)));
    for note in notes {
        print_line(format_args!("\nInfo -> {note}"))?;
    }
    shown?;
    if quiet { print_line(canonical(&reference)) } else { Ok(()) }
}

/// What the daemon's data has to say to people.
fn note(aux: &Value) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Instead {
        manifest_pushed_instead_of_index: bool,
        original_index: Named,
        selected_manifest: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        digest: String,
    }
    let instead = Instead::deserialize(aux).ok().filter(|instead| instead.manifest_pushed_instead_of_index)?;
    Some(format!(
        "Not all multiplatform-content is present and only the available single-platform image was pushed\n     {} -> {}",
        instead.original_index.digest, instead.selected_manifest.digest
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes() {
        let check = |json: &str, expect: Option<&str>| {
            assert_eq!(note(&serde_json::from_str(json).expect("valid")).as_deref(), expect, "{json}");
        };
        check(r#"{"Tag":"a","Digest":"sha256:1","Size":2}"#, None);
        check(
            r#"{"manifestPushedInsteadOfIndex":true,"originalIndex":{"digest":"a"},"selectedManifest":{"digest":"b"}}"#,
            Some(
                "Not all multiplatform-content is present and only the available single-platform image was pushed\n     a -> b",
            ),
        );
    }
}

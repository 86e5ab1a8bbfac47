//! `corten push`

use serde::Deserialize;
use serde_json::Value;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::pull::{TRANSFER_FLAGS, account, canonical, platform_json, subject, tag_or_digest};
use crate::commands::{print_line, segment};
use crate::failure::Outcome;
use crate::matches::Matches;
use crate::progress;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[
        &[
            switch("all-tags", "Push all tags of the repository").short('a'),
            value("platform", "string", "Push only this platform's image, when there are several"),
        ],
        TRANSFER_FLAGS,
    ],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let (reference, sink) = subject(matches)?;
    let platform = matches.get("platform").map(platform_json).transpose()?;
    let response = session
        .client()?
        .post(&format!("/images/{}/push", segment(&reference.name())))
        .query("tag", &tag_or_digest(&reference).unwrap_or_default())
        .query_if("platform", platform.as_deref())
        .header("X-Registry-Auth", &account(session, &reference))
        .send()?;
    let mut notes = Vec::new();
    let shown = progress::show_with(response, sink, |aux| notes.extend(note(aux)));
    for note in notes {
        print_line(format_args!("\nInfo -> {note}"))?;
    }
    shown?;
    if sink.is_none() { print_line(canonical(&reference)) } else { Ok(()) }
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

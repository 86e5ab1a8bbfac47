//! `corten create`, and creating on behalf of `run`

use std::fs::OpenOptions;
use std::io::Write as _;

use corten_api_types::ContainerCreateResponse;

use crate::args::report;
use crate::command::{Arguments, Command};
use crate::commands::{print_line, pull};
use crate::container::{self, CONTAINER_FLAGS, CreateRequest, RESOURCE_FLAGS};
use crate::failure::{Failure, Outcome, plain_io};
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::Sink;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a container without starting it",
    flags: &[CONTAINER_FLAGS, RESOURCE_FLAGS],
    arguments: Arguments::AtLeast(1),
    interspersed: false,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    check_pull(matches).map_err(|failure| usage_failure(session, &failure))?;
    let request = prepare(session, matches).map_err(|failure| usage_failure(session, &failure))?;
    let id = create(session, matches, &request)?;
    print_line(id)
}

/// Bad settings: Docker's `run` and `create` answer them with a hint and 125.
pub(super) fn usage_failure(session: &Session, failure: &Failure) -> Failure {
    Failure::Message { text: session.with_help_hint(failure), status: 125 }
}

/// The request that flags and configuration file make.
pub(super) fn prepare(session: &Session, matches: &Matches) -> Outcome<CreateRequest> {
    let proxy = session.config().proxy_for(&session.endpoint()?.endpoint.to_string());
    container::build(matches, proxy)
}

/// Says what is wrong with `--pull`.
pub(super) fn check_pull(matches: &Matches) -> Outcome {
    match matches.get("pull").unwrap_or("missing") {
        "always" | "missing" | "never" => Ok(()),
        other => Err(Failure::message(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// Creates the container, pulling the image as `--pull` says, and returns its id.
pub(super) fn create(session: &Session, matches: &Matches, request: &CreateRequest) -> Outcome<String> {
    let id_file = IdFile::open(session, matches.get("cidfile"))?;
    check_platform(&request.platform)?;
    let policy = matches.get("pull").unwrap_or("missing");
    // An id or a name; only names can be pulled, and only wrong names are refused here.
    let reference = pull::parse(&request.image)?.with_default_tag();
    let pull = || {
        let sink = (!matches.is_on("quiet")).then_some(Sink::Stderr);
        pull::pull(session, &reference, &request.platform, sink)
    };
    if policy == "always" {
        pull()?;
    }
    let answer = match post(session, request) {
        Err(failure) if failure.is_not_found() && policy == "missing" => {
            if !matches.is_on("quiet") {
                report(&format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull()?;
            post(session, request)?
        }
        other => other?,
    };
    for warning in &answer.warnings {
        report(&format!("WARNING: {warning}"));
    }
    id_file.write(&answer.id)?;
    Ok(answer.id)
}

fn post(session: &Session, request: &CreateRequest) -> Outcome<ContainerCreateResponse> {
    let response = session
        .client()?
        .post("/containers/create")
        .query_if("name", Some(&request.name))
        .query_if("platform", Some(&request.platform))
        .json(&request.body)
        .send()?;
    Ok(response.json()?)
}

fn check_platform(text: &str) -> Outcome {
    if text.is_empty() { Ok(()) } else { pull::platform_json(text).map(drop) }
}

/// The `--cidfile`: made before the container, so that two runs with one file can't both create.
struct IdFile(Option<(String, std::fs::File)>);

impl IdFile {
    fn open(session: &Session, path: Option<&str>) -> Outcome<IdFile> {
        let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(IdFile(None)) };
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(IdFile(Some((path.to_owned(), file)))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(usage_failure(
                session,
                &Failure::message(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )),
            )),
            Err(error) => Err(Failure::message(format!(
                "failed to create the container ID file: open {path}: {}",
                plain_io(&error)
            ))),
        }
    }

    fn write(mut self, id: &str) -> Outcome {
        let Some((_, mut file)) = self.0.take() else { return Ok(()) };
        file.write_all(id.as_bytes()).map_err(|error| {
            Failure::message(format!("failed to write the container ID to the file ({})", plain_io(&error)))
        })
    }
}

impl Drop for IdFile {
    /// No container: no file.
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

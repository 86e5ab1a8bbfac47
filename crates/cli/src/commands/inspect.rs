//! `corten inspect` and its kin for single kinds of objects

use corten_client::Client;

use crate::args::report;
use crate::command::{Arguments, Command, Flag, switch, value};
use crate::commands::{OBJECT_FORMAT, pull, segment};
use crate::failure::{Failure, Outcome};
use crate::json::Json;
use crate::matches::{Matches, quote};
use crate::session::Session;
use crate::streams::{Sink, write_plain};
use crate::template::Format;

const FORMAT: Flag = value("format", "string", OBJECT_FORMAT).short('f');

pub(crate) static ANY: Command = Command {
    spellings: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Show everything about objects of any kind",
    flags: &[&[
        FORMAT,
        switch("size", "Show the sizes of containers' files").short('s'),
        value("type", "string", "Look only among objects of this type"),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: any,
};

pub(crate) static CONTAINER: Command = Command {
    spellings: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Show everything about containers",
    flags: &[&[FORMAT, switch("size", "Show the sizes of containers' files").short('s')]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| show(session, matches, &[Kind::Container]),
};

pub(crate) static IMAGE: Command = Command {
    spellings: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Show everything about images",
    flags: &[&[FORMAT, value("platform", "string", "Show this platform's image")]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| show(session, matches, &[Kind::Image]),
};

pub(crate) static NETWORK: Command = Command {
    spellings: &["network inspect"],
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Show everything about networks",
    flags: &[&[FORMAT, switch("verbose", "Show diagnostic data").short('v')]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| show(session, matches, &[Kind::Network]),
};

pub(crate) static VOLUME: Command = Command {
    spellings: &["volume inspect"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Show everything about volumes",
    flags: &[&[FORMAT]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: |session, matches| show(session, matches, &[Kind::Volume]),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// In the order in which a name is looked up when no type is given.
const ALL: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];
const TYPES: [&str; 10] =
    ["config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"];

fn any(session: &Session, matches: &Matches) -> Outcome {
    let one = match matches.get("type").unwrap_or_default() {
        "" => return show(session, matches, &ALL),
        "container" => Kind::Container,
        "image" => Kind::Image,
        "network" => Kind::Network,
        "volume" => Kind::Volume,
        kind if TYPES.contains(&kind) => {
            return Err(Failure::message(format!("objects of type {} are not supported", quote(kind))));
        }
        kind => {
            let known: Vec<String> = TYPES.iter().map(|kind| quote(kind)).collect();
            return Err(Failure::message(format!(
                "unknown type: {}: must be one of {}",
                quote(kind),
                known.join(", ")
            )));
        }
    };
    show(session, matches, &[one])
}

fn show(session: &Session, matches: &Matches, kinds: &[Kind]) -> Outcome {
    let template = match matches.get("format").unwrap_or_default() {
        "" => None,
        "json" => Some("{{json .}}"),
        source => Some(source),
    };
    let format = template
        .map(Format::parse)
        .transpose()
        .map_err(|error| Failure::Message { text: format!("template parsing error: {error}"), status: 64 })?;
    let client = session.client()?;
    let (mut objects, mut failures) = (Vec::new(), Vec::new());
    for name in &matches.arguments {
        match find(client, matches, name, kinds) {
            Ok(object) => objects.push(object),
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    let text = match &format {
        None => array(&objects),
        Some(format) if matches.text("format") == "json" => {
            let items: Result<Vec<String>, String> =
                objects.iter().map(|object| format.render(&format.data(object))).collect();
            format!("[{}]\n", items.map_err(Failure::message)?.join(","))
        }
        Some(format) => {
            let mut text = String::new();
            for object in &objects {
                match format.render(&format.data(object)) {
                    Ok(line) => text.push_str(&line),
                    Err(error) => failures.insert(0, format!("template parsing error: {error}")),
                }
                text.push('\n');
            }
            // Docker ends a templated output with a newline even when there is nothing.
            if objects.is_empty() { "\n".to_owned() } else { text }
        }
    };
    write_plain(Sink::Stdout, text.as_bytes())?;
    failures.iter().for_each(|failure| report(failure));
    if failures.is_empty() { Ok(()) } else { Err(Failure::Status(1)) }
}

fn array(objects: &[Json]) -> String {
    if objects.is_empty() {
        return "[]\n".to_owned();
    }
    let items: Vec<String> = objects.iter().map(|object| format!("    {}", object.pretty(1))).collect();
    format!("[\n{}\n]\n", items.join(",\n"))
}

fn find(client: &Client, matches: &Matches, name: &str, kinds: &[Kind]) -> Outcome<Json> {
    for kind in kinds {
        match ask(client, matches, name, *kind) {
            Err(failure) if failure.is_not_found() && kinds.len() > 1 => {}
            other => return other,
        }
    }
    Err(Failure::message(format!("Error: No such object: {name}")))
}

fn ask(client: &Client, matches: &Matches, name: &str, kind: Kind) -> Outcome<Json> {
    let name = segment(name);
    let request = match kind {
        Kind::Container => client.get(&format!("/containers/{name}/json")).flag("size", matches.is_on("size")),
        Kind::Image => {
            let platform = matches.get("platform").map(pull::platform_json).transpose()?;
            client.get(&format!("/images/{name}/json")).query_if("platform", platform.as_deref())
        }
        Kind::Network => {
            let request = client.get(&format!("/networks/{name}"));
            if matches.is_on("verbose") { request.query("verbose", "true") } else { request }
        }
        Kind::Volume => client.get(&format!("/volumes/{name}")),
    };
    let bytes = request.send()?.bytes()?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::message(format!("cannot decode the daemon's answer: {error}")))
}

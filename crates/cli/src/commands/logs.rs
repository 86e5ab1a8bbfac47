//! `corten logs`

use std::io::BufRead as _;

use corten_api_types::ContainerInspect;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::segment;
use crate::failure::{Failure, Outcome, local};
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Demux, write_plain};

pub(crate) static COMMAND: Command = Command {
    spellings: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Show what a container has written",
    flags: &[&[
        switch("details", "Show more about each line"),
        switch("follow", "Go on with what the container writes").short('f'),
        value("since", "string", "Begin at a time (e.g. \"2013-01-02T13:23:37Z\") or so long ago (e.g. \"42m\")"),
        value("tail", "string", "Number of lines to show from the end").short('n').default("\"all\""),
        switch("timestamps", "Show when each line was written").short('t'),
        value("until", "string", "End at a time (e.g. \"2013-01-02T13:23:37Z\") or so long ago (e.g. \"42m\")"),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let name = segment(&matches.arguments[0]);
    // Only the container knows whether its output is framed.
    let container: ContainerInspect = client.get(&format!("/containers/{name}/json")).send()?.json()?;
    let mut response = client
        .get(&format!("/containers/{}/logs", container.id))
        .flag("details", matches.is_on("details"))
        .flag("follow", matches.is_on("follow"))
        .query_if("since", time(matches.get("since"), "since")?.as_deref())
        .query("stderr", "1")
        .query("stdout", "1")
        .query("tail", matches.get("tail").unwrap_or("all"))
        .flag("timestamps", matches.is_on("timestamps"))
        .query_if("until", time(matches.get("until"), "until")?.as_deref())
        .send()?;
    let mut demux = Demux::new(container.config.tty);
    loop {
        let bytes = response.fill_buf().map_err(local("reading the log"))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len();
        demux.feed(bytes, &mut write_plain)?;
        response.consume(length);
    }
}

/// A time as the API takes it: seconds and nanoseconds since 1970.
fn time(text: Option<&str>, flag: &str) -> Outcome<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let now = std::time::SystemTime::now();
    let time = corten_base::time::parse_since(text, now)
        .map_err(|error| Failure::message(format!("invalid value for {}: {error}", crate::matches::quote(flag))))?;
    let nanos = corten_base::time::unix_nanos(time);
    Ok(Some(format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))))
}

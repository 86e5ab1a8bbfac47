//! `corten run`

use crate::command::{Arguments, Command, Flag, switch, value};
use crate::commands::create::{self, check_pull, prepare, usage_failure};
use crate::commands::print_line;
use crate::container::{CONTAINER_FLAGS, CreateRequest, RESOURCE_FLAGS};
use crate::failure::{Failure, Outcome};
use crate::foreground::{Foreground, Keys, check_terminal, exit_with};
use crate::matches::Matches;
use crate::session::Session;
use crate::terminal;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a container from an image and run it",
    flags: &[CONTAINER_FLAGS, RESOURCE_FLAGS, RUN_FLAGS],
    arguments: Arguments::AtLeast(1),
    interspersed: false,
    run,
};

static RUN_FLAGS: &[Flag] = &[
    switch("detach", "Leave the container in the background and print its ID").short('d'),
    value("detach-keys", "string", "Key sequence that detaches from the container"),
    switch("sig-proxy", "Send signals that this command receives to the container").default("true"),
];

/// Exit statuses when a container could not be started, by the reason.
const DAEMON_FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

fn run(session: &Session, matches: &Matches) -> Outcome {
    let detach = matches.is_on("detach");
    check_settings(session, matches)?;
    let mut request = prepare(session, matches).map_err(|failure| usage_failure(session, &failure))?;
    check_terminal(request.streams.stdin, matches.is_on("tty"))?;
    add_console_size(&mut request);
    let id = create::create(session, matches, &request).map_err(|failure| explain(session, failure))?;
    let client = session.client()?;
    if detach {
        let started = client.post(&format!("/containers/{id}/start")).send().and_then(|response| response.discard());
        // The id is shown either way: the container is there, started or not.
        let shown = print_line(id);
        return started.map_err(|error| explain(session, error.into())).and(shown);
    }
    let foreground = Foreground {
        client,
        id: &id,
        streams: request.streams,
        has_terminal: matches.is_on("tty"),
        forwards_signals: matches.is_on_by_default("sig-proxy"),
        detach_keys: Keys::choose(session, matches),
    };
    let condition = if matches.is_on("rm") { "removed" } else { "next-exit" };
    match foreground.start(condition).map_err(|failure| explain(session, failure))? {
        Some(status) => exit_with(status),
        None => Ok(()),
    }
}

fn check_settings(session: &Session, matches: &Matches) -> Outcome {
    if matches.is_on("detach") && matches.is_set("attach") {
        return Err(Failure::message("conflicting options: cannot specify both --attach and --detach"));
    }
    check_pull(matches).map_err(|failure| usage_failure(session, &failure))?;
    let restart = matches.get("restart").unwrap_or("no");
    if matches.is_on("rm") && !matches!(restart, "no" | "") {
        let conflict = Failure::message("conflicting options: cannot specify both --restart and --rm");
        return Err(usage_failure(session, &conflict));
    }
    Ok(())
}

/// The terminal's size goes with the request, so that the container's first output is laid out right.
fn add_console_size(request: &mut CreateRequest) {
    if let (Some((height, width)), Some(host)) = (terminal::size(), request.body.get_mut("HostConfig")) {
        host["ConsoleSize"] = serde_json::json!([height, width]);
    }
}

/// Failures of the daemon get the program's name, a hint, and Docker's exit statuses; exit statuses pass.
fn explain(session: &Session, failure: Failure) -> Failure {
    match failure {
        Failure::Client(error) => {
            let text = error.to_string();
            Failure::Message { status: start_status(&text), text: session.with_help_hint(text) }
        }
        Failure::Message { text, status: 1 } => {
            Failure::Message { text: session.with_help_hint(text), status: DAEMON_FAILED }
        }
        other => other,
    }
}

/// Scripts tell a missing program from one that can't be run by these words of the daemon.
fn start_status(message: &str) -> u8 {
    let says = |part: &str| message.contains(part);
    if says("executable file not found")
        || says("no such file or directory")
        || says("system cannot find the file specified")
    {
        NOT_FOUND
    } else if says("permission denied") || says("is a directory") || says("exec format error") {
        CANNOT_RUN
    } else {
        DAEMON_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::start_status;

    #[test]
    fn statuses() {
        assert_eq!(start_status("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(start_status("exec: \"/x\": stat /x: no such file or directory"), 127);
        assert_eq!(start_status("exec: \"/etc\": is a directory"), 126);
        assert_eq!(start_status("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(start_status("Conflict. The container name \"/x\" is already in use"), 125);
    }
}

//! `corten attach`

use std::io::Read as _;

use corten_api_types::{ContainerInspect, WaitResponse};

use crate::command::{Arguments, Command, switch, value};
use crate::commands::segment;
use crate::container::Streams;
use crate::failure::{Failure, Outcome, local};
use crate::foreground::{Foreground, Keys, check_terminal, exit_with, resize_path, wait_request};
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::End;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container attach", "attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Connect the terminal to a running container",
    flags: &[&[
        value("detach-keys", "string", "Key sequence that detaches from the container"),
        switch("no-stdin", "Don't attach STDIN"),
        switch("sig-proxy", "Send signals that this command receives to the container").default("true"),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let container: ContainerInspect =
        client.get(&format!("/containers/{}/json", segment(&matches.arguments[0]))).send()?.json()?;
    let state = &container.state;
    if !state.running {
        return Err(Failure::message("You cannot attach to a stopped container, start it first"));
    }
    if state.paused {
        return Err(Failure::message("You cannot attach to a paused container, unpause it first"));
    }
    if state.restarting {
        return Err(Failure::message("You cannot attach to a restarting container, wait until it is running"));
    }
    let stdin = !matches.is_on("no-stdin") && container.config.open_stdin;
    check_terminal(stdin, container.config.tty)?;
    let foreground = Foreground {
        client,
        id: &container.id,
        streams: Streams { stdin, stdout: true, stderr: true },
        has_terminal: container.config.tty,
        forwards_signals: matches.is_on_by_default("sig-proxy") && !container.config.tty,
        detach_keys: Keys::choose(session, matches),
    };
    let signals = foreground.watch_signals()?;
    let attaching = foreground.attach_request().start_hijack()?;
    let waiting = wait_request(client, &container.id, "").start()?;
    let attached = attaching.receive_hijacked()?;
    let mut waiting = waiting.receive()?;
    match foreground.stream(attached, signals.as_ref(), &resize_path("containers", &container.id))? {
        End::Detached => Err(Failure::message("read escape sequence")),
        End::Finished => {
            let mut body = Vec::new();
            waiting.read_to_end(&mut body).map_err(local("waiting for the container"))?;
            let answer: WaitResponse = corten_api_types::decode(&body).unwrap_or_default();
            exit_with(answer.status_code)
        }
    }
}

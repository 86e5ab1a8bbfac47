//! `corten start`

use corten_api_types::ContainerInspect;

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::{print_line, segment};
use crate::container::Streams;
use crate::failure::{Failure, Outcome};
use crate::foreground::{Foreground, Keys, check_terminal, exit_with};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start stopped containers",
    flags: &[&[
        switch("attach", "Attach STDOUT and STDERR, and forward signals").short('a'),
        value("detach-keys", "string", "Key sequence that detaches from the container"),
        switch("interactive", "Attach the container's STDIN").short('i'),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    if !matches.is_on("attach") && !matches.is_on("interactive") {
        return start_each(session, &matches.arguments);
    }
    let [name] = &matches.arguments[..] else {
        return Err(Failure::message("you cannot start and attach multiple containers at once"));
    };
    let client = session.client()?;
    let container: ContainerInspect = client.get(&format!("/containers/{}/json", segment(name))).send()?.json()?;
    let stdin = matches.is_on("interactive") && container.config.open_stdin;
    check_terminal(stdin, container.config.tty)?;
    let foreground = Foreground {
        client,
        id: &container.id,
        streams: Streams { stdin, stdout: true, stderr: true },
        has_terminal: container.config.tty,
        forwards_signals: !container.config.tty,
        detach_keys: Keys::choose(session, matches),
    };
    let condition = if container.host_config.auto_remove { "removed" } else { "next-exit" };
    match foreground.start(condition)? {
        Some(status) => exit_with(status),
        None => Ok(()),
    }
}

fn start_each(session: &Session, names: &[String]) -> Outcome {
    let client = session.client()?;
    let mut failed = Vec::new();
    for name in names {
        match client
            .post(&format!("/containers/{}/start", segment(name)))
            .send()
            .and_then(|response| response.discard())
        {
            Ok(()) => print_line(name)?,
            Err(error) => {
                report(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::message(format!("Error: failed to start containers: {}", failed.join(", ")))),
    }
}

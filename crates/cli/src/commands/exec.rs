//! `corten exec`

use corten_api_types::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};

use crate::command::{Arguments, Command, switch, value};
use crate::commands::segment;
use crate::container::{Streams, environment};
use crate::failure::{Failure, Outcome};
use crate::foreground::{Foreground, Keys, check_terminal, exit_with, resize_path};
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::End;
use crate::terminal;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container exec", "exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Run another command in a running container",
    flags: &[&[
        switch("detach", "Leave the command in the background").short('d'),
        value("detach-keys", "string", "Key sequence that detaches from the command"),
        value("env", "list", "Set an environment variable").short('e'),
        value("env-file", "list", "Read environment variables from a file"),
        switch("interactive", "Keep STDIN open even when not attached").short('i'),
        switch("privileged", "Give the command all privileges"),
        switch("tty", "Give the command a terminal").short('t'),
        value("user", "string", "User to run as (<name|uid>[:<group|gid>])").short('u'),
        value("workdir", "string", "Working directory of the command").short('w'),
    ]],
    arguments: Arguments::AtLeast(2),
    interspersed: false,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let (detach, tty) = (matches.is_on("detach"), matches.is_on("tty"));
    let stdin = matches.is_on("interactive") && !detach;
    let keys = Keys::choose(session, matches);
    let environment = environment(matches.all("env-file"), matches.all("env"))?;
    check_terminal(stdin, tty)?;
    let console_size = terminal::size().filter(|_| tty).map(|(height, width)| [height.into(), width.into()]);
    let request = ExecCreateRequest {
        user: matches.text("user").to_owned(),
        privileged: matches.is_on("privileged"),
        tty,
        console_size,
        attach_stdin: stdin,
        attach_stderr: !detach,
        attach_stdout: !detach,
        detach_keys: keys.text.clone(),
        env: (!environment.is_empty()).then_some(environment),
        working_dir: matches.text("workdir").to_owned(),
        cmd: Some(matches.arguments[1..].to_vec()),
    };
    let client = session.client()?;
    let path = format!("/containers/{}/exec", segment(&matches.arguments[0]));
    let IdResponse { id } = client.post(&path).json(&request).send()?.json()?;
    if id.is_empty() {
        return Err(Failure::message("exec ID empty"));
    }
    let start = client.post(&format!("/exec/{id}/start")).json(&ExecStartRequest { detach, tty, console_size });
    if detach {
        return Ok(start.send()?.discard()?);
    }
    let foreground = Foreground {
        client,
        id: &id,
        streams: Streams { stdin, stdout: true, stderr: true },
        has_terminal: tty,
        forwards_signals: false,
        detach_keys: keys,
    };
    let signals = foreground.watch_signals()?;
    let attached = start.hijack()?;
    match foreground.stream(attached, signals.as_ref(), &resize_path("exec", &id))? {
        End::Detached => Err(Failure::message("read escape sequence")),
        End::Finished => {
            let state: ExecInspect = client.get(&format!("/exec/{id}/json")).send()?.json()?;
            exit_with(i64::from(state.exit_code.unwrap_or_default()))
        }
    }
}

//! `corten save`

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::command::{Arguments, Command, value};
use crate::commands::pull::platform_json;
use crate::failure::{Failure, Outcome, local, plain_io};
use crate::matches::Matches;
use crate::session::Session;
use crate::terminal;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save images to a tar archive (streamed to STDOUT by default)",
    flags: &[&[
        value("output", "string", "Write to this file instead of STDOUT").short('o'),
        value("platform", "string", "Save only this platform's image (e.g., \"linux/amd64\")"),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let output = matches.get("output").filter(|path| !path.is_empty());
    if output.is_none() && terminal::stdout_is_terminal() {
        return Err(Failure::message("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let platform = matches.get("platform").map(platform_json).transpose()?;
    let mut request = session.client()?.get("/images/get").query_if("platform", platform.as_deref());
    for name in &matches.arguments {
        request = request.query("names", name);
    }
    let mut response = request.send()?;
    match output {
        Some(path) => write_file(Path::new(path), &mut response),
        None => copy(&mut response, &mut io::stdout().lock()),
    }
}

/// Writes a file beside its place and renames it: what broke off leaves nothing, and what was there.
fn write_file(path: &Path, source: &mut impl Read) -> Outcome {
    let failed = |error: io::Error| Failure::message(format!("failed to save image: {}", plain_io(&error)));
    // What is there and isn't a file, such as /dev/null, is written to as it is.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(failed)?;
        return copy(source, &mut file);
    }
    let name = path.file_name().ok_or_else(|| Failure::message("failed to save image: the output has no name"))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = File::create_new(&temporary).map_err(failed).and_then(|mut file| copy(source, &mut file));
    let placed = written.and_then(|()| fs::rename(&temporary, path).map_err(failed));
    if placed.is_err() {
        // The first failure is the one to tell.
        drop(fs::remove_file(&temporary));
    }
    placed
}

fn copy(source: &mut impl Read, target: &mut impl io::Write) -> Outcome {
    const PIECE: usize = 256 << 10;
    let mut piece = vec![0; PIECE];
    loop {
        let length = source.read(&mut piece).map_err(local("reading the archive"))?;
        if length == 0 {
            return target.flush().map_err(local("writing the archive"));
        }
        target.write_all(&piece[..length]).map_err(local("writing the archive"))?;
    }
}

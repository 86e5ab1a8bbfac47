//! `corten version`

use std::fmt::Write as _;

use corten_api_types::SystemVersion;
use serde_json::json;

use crate::command::{Arguments, Command, value};
use crate::commands::OBJECT_FORMAT;
use crate::failure::{Failure, Outcome};
use crate::json::Json;
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Sink, write_plain};
use crate::template::Format;

pub(crate) static COMMAND: Command = Command {
    spellings: &["version"],
    usage: "[OPTIONS]",
    about: "Show the versions of client and daemon",
    flags: &[&[value("format", "string", OBJECT_FORMAT).short('f')]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

/// The client's own half is known without a daemon, and shown even when the other half can't be had.
fn run(session: &Session, matches: &Matches) -> Outcome {
    let template = match matches.get("format").unwrap_or_default() {
        "" => None,
        "json" => Some("{{json .}}"),
        source => Some(source),
    };
    let format = template
        .map(Format::parse)
        .transpose()
        .map_err(|error| Failure::Message { text: format!("template parsing error: {error}"), status: 64 })?;
    let resolved = session.endpoint()?;
    let answer = session.client().and_then(|client| Ok(client.get("/version").send()?.bytes()?));
    let api_version = session.unconnected(&resolved).version();
    let server = answer.as_ref().ok().and_then(|bytes| serde_json::from_slice::<Json>(bytes).ok());
    let text = match &format {
        Some(format) => templated(format, &api_version, &resolved.context, server.as_ref())?,
        None => {
            let typed = answer.as_ref().ok().and_then(|bytes| corten_api_types::decode(bytes).ok());
            plain(&api_version, &resolved.context, typed.as_ref())
        }
    };
    write_plain(Sink::Stdout, text.as_bytes())?;
    answer.map(drop)
}

fn plain(api_version: &str, context: &str, server: Option<&SystemVersion>) -> String {
    let mut text = String::from("Client: Corten\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, " {:<19}{value}", format!("{name}:"));
    };
    line("Version", env!("CARGO_PKG_VERSION"));
    line("API version", api_version);
    line("OS/Arch", &format!("linux/{}", architecture()));
    line("Context", context);
    if let Some(server) = server {
        text.push_str(&server_part(server));
    }
    text
}

fn server_part(server: &SystemVersion) -> String {
    let platform = if server.platform.name.is_empty() { String::new() } else { format!(" {}", server.platform.name) };
    let mut text = format!("\nServer:{platform}\n");
    for component in &server.components {
        let _ = writeln!(text, " {}:", component.name);
        let detail = |name: &str| component.details.get(name).map(String::as_str).unwrap_or_default();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {:<18}{value}", format!("{name}:"));
        };
        line("Version", &component.version);
        if component.name != "Engine" {
            component.details.iter().for_each(|(name, value)| line(name, value));
            continue;
        }
        line("API version", &format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion")));
        line("Go version", detail("GoVersion"));
        line("Git commit", detail("GitCommit"));
        line("Built", &built(detail("BuildTime")));
        line("OS/Arch", &format!("{}/{}", detail("Os"), detail("Arch")));
        line("Experimental", detail("Experimental"));
    }
    text
}

/// `Wed Oct  8 12:17:26 2025`, or the text itself when it is no time.
fn built(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn templated(format: &Format, api_version: &str, context: &str, server: Option<&Json>) -> Outcome<String> {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api_version,
        "DefaultAPIVersion": corten_client::API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "BuildTime": "",
        "Context": context,
    });
    let client: Json = serde_json::from_value(client).map_err(|error| Failure::message(error.to_string()))?;
    let both =
        Json::Object(vec![("Client".to_owned(), client), ("Server".to_owned(), server.cloned().unwrap_or(Json::Null))]);
    match format.render(&format.data(&both)) {
        Ok(text) => Ok(format!("{text}\n")),
        // Without a server, its fields are missing for a reason that is reported itself.
        Err(_) if server.is_none() => Ok("\n".to_owned()),
        Err(error) => Err(Failure::message(format!("template: {error}").replacen("template: template", "template", 1))),
    }
}

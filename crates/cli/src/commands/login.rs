//! `corten login` and `corten logout`

use std::io::{BufRead as _, Read as _, Write as _, stderr, stdin, stdout};

use corten_api_types::AuthConfig;
use corten_client::{HUB_KEY, registry_key};
use serde::Deserialize;

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::print_line;
use crate::failure::{Failure, Outcome, local};
use crate::matches::Matches;
use crate::session::Session;
use crate::terminal;

pub(crate) static LOGIN: Command = Command {
    spellings: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Log in to a registry, Docker Hub if none is named",
    flags: &[&[
        value("password", "string", "Password or access token").short('p'),
        switch("password-stdin", "Take the password or access token from standard input"),
        value("username", "string", "User name").short('u'),
    ]],
    arguments: Arguments::AtMost(1),
    interspersed: true,
    run: login,
};

pub(crate) static LOGOUT: Command = Command {
    spellings: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry, Docker Hub if none is named",
    flags: &[],
    arguments: Arguments::AtMost(1),
    interspersed: true,
    run: logout,
};

/// What the daemon says to a login.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Welcome {
    identity_token: String,
    status: String,
}

fn login(session: &Session, matches: &Matches) -> Outcome {
    let given = given(matches)?;
    let address = registry_key(matches.arguments.first().map_or(HUB_KEY, String::as_str)).to_owned();
    let stored = session.config().auth_for(&address).unwrap_or_default();
    let is_bare = given.username.is_empty() && given.password.is_empty();
    if is_bare && !stored.username.is_empty() && !stored.password.is_empty() {
        report(&format!("Authenticating with existing credentials... [Username: {}]", stored.username));
        let stored = AuthConfig { server_address: address.clone(), ..stored.clone() };
        match welcome(session, &stored) {
            Ok(welcome) => return print_line(welcome.status),
            Err(error) => report(&format!("Login did not succeed, error: {error}")),
        }
    }
    let auth = AuthConfig { server_address: address, ..asked(given, &stored.username)? };
    let welcome = welcome(session, &auth)?;
    keep(session, auth, &welcome)?;
    print_line(welcome.status)
}

/// User and password of the command line.
fn given(matches: &Matches) -> Outcome<AuthConfig> {
    let (username, mut password) = (matches.text("username").to_owned(), matches.text("password").to_owned());
    if matches.is_on("password-stdin") {
        if !password.is_empty() {
            return Err(Failure::message("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if username.is_empty() {
            return Err(Failure::message("the --password-stdin option requires --username to be set"));
        }
        let mut input = String::new();
        stdin().read_to_string(&mut input).map_err(local("reading the password"))?;
        let line = input.strip_suffix('\n').unwrap_or(&input);
        password = line.strip_suffix('\r').unwrap_or(line).to_owned();
    } else if matches.get("username").is_some() && username.is_empty() {
        return Err(Failure::message("username is empty"));
    } else if !password.is_empty() {
        report("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    Ok(AuthConfig { username, password, ..AuthConfig::default() })
}

/// Asks a person for what is missing.
fn asked(given: AuthConfig, known: &str) -> Outcome<AuthConfig> {
    let AuthConfig { mut username, mut password, .. } = given;
    if (username.is_empty() || password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(Failure::message("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if username.is_empty() {
        username = match known {
            "" => prompt("Username: ")?,
            known => prompt(&format!("Username ({known}): "))?,
        };
        if username.is_empty() {
            username = known.to_owned();
        }
        if username.is_empty() {
            return Err(Failure::message("Error: Non-null Username Required"));
        }
    }
    if password.is_empty() {
        let silent = terminal::Silence::begin();
        password = prompt("Password: ")?;
        if silent.is_some() {
            drop(silent);
            print_line("")?;
        }
        if password.is_empty() {
            return Err(Failure::message("Error: Password Required"));
        }
    }
    Ok(AuthConfig { username, password, ..AuthConfig::default() })
}

fn prompt(text: &str) -> Outcome<String> {
    let mut out = stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(local("asking"))?;
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(local("reading the answer"))?;
    Ok(line.trim().to_owned())
}

fn welcome(session: &Session, auth: &AuthConfig) -> Outcome<Welcome> {
    Ok(session.client()?.post("/auth").json(auth).send()?.json()?)
}

/// Stores what worked; a token that the registry gave takes the password's place.
fn keep(session: &Session, mut auth: AuthConfig, welcome: &Welcome) -> Outcome {
    if !welcome.identity_token.is_empty() {
        auth.password = String::new();
        auth.identity_token = welcome.identity_token.clone();
    }
    let stored = session.config().store_credentials(&auth);
    let stored = stored.map_err(|error| Failure::message(format!("Error saving credentials: {error}")))?;
    if let Some(path) = stored {
        let text = format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            path.display()
        );
        // A closed standard error is no reason to fail.
        drop(stderr().write_all(text.as_bytes()));
    }
    Ok(())
}

fn logout(session: &Session, matches: &Matches) -> Outcome {
    let address = matches.arguments.first().map_or(HUB_KEY, String::as_str);
    let key = registry_key(address);
    let mut keys = vec![key.to_owned()];
    if key != HUB_KEY {
        // Older clients wrote URLs, and users still do.
        keys.extend([address.to_owned(), format!("http://{key}"), format!("https://{key}")]);
        keys.dedup();
    }
    print_line(format_args!("Removing login credentials for {key}"))?;
    let failures: Vec<String> = keys
        .iter()
        .filter_map(|key| session.config().erase_credentials(key).err().map(|error| format!("{key}: {error}")))
        .collect();
    if failures.len() < keys.len() {
        return Ok(());
    }
    report(&format!("WARNING: could not erase credentials:\n{}", failures.join("\n")));
    Ok(())
}

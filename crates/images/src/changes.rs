//! Dockerfile instructions that `import --change` takes: those that only change the configuration.
//!
//! One instruction per change, in the forms of Docker's Dockerfile reference; words are split and quotes taken away as there.

use std::collections::BTreeMap;

use crate::config::RunConfig;
use crate::{Error, Result, healthcheck};

/// The shell of instructions in shell form.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The configuration that the changes make.
pub(crate) fn apply(changes: &[String]) -> Result<RunConfig> {
    let mut config = RunConfig::default();
    // A change may hold several lines, some of them empty.
    let lines: Vec<&str> =
        changes.iter().flat_map(|change| change.lines()).map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() && !changes.is_empty() {
        return Err(Error::Change("file with no instructions".into()));
    }
    lines.into_iter().try_for_each(|line| apply_one(&mut config, line))?;
    Ok(config)
}

fn apply_one(config: &mut RunConfig, line: &str) -> Result<()> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (word.to_ascii_uppercase(), rest.trim());
    if !KNOWN.contains(&name.as_str()) {
        return Err(Error::Change(format!("{name} is not a valid change command")));
    }
    if rest.is_empty() && name != "ENTRYPOINT" && name != "CMD" {
        let one = ["STOPSIGNAL", "USER", "WORKDIR"].contains(&name.as_str());
        let least = if one { "exactly one argument" } else { "at least one argument" };
        return Err(Error::Change(format!("{name} requires {least}")));
    }
    match name.as_str() {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "ENV" => set_variables(&mut config.env, pairs(&name, rest)?),
        "EXPOSE" => expose(config, rest)?,
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck::parse(rest)?),
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(&name, rest)?),
        "ONBUILD" => config.on_build.get_or_insert_default().push(trigger(rest)?),
        "STOPSIGNAL" => {
            let text = unquoted(rest)?;
            corten_base::signal::parse(&text).map_err(|error| Error::Change(error.to_string()))?;
            config.stop_signal = Some(text);
        }
        "USER" => config.user = unquoted(rest)?,
        "VOLUME" => volumes(config, rest)?,
        _ => config.working_dir = directory(&config.working_dir, &unquoted(rest)?),
    }
    Ok(())
}

const KNOWN: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A program in exec form (a JSON list of texts) or in shell form.
fn command(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return None;
    }
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return Some(list);
    }
    Some(SHELL.iter().map(ToString::to_string).chain([text.to_owned()]).collect())
}

fn trigger(text: &str) -> Result<String> {
    let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "ONBUILD" => Err(Error::Change("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into())),
        "MAINTAINER" | "FROM" => Err(Error::Change(format!("{word} isn't allowed as an ONBUILD trigger"))),
        _ => Ok(text.to_owned()),
    }
}

fn set_variables(env: &mut Vec<String>, pairs: Vec<(String, String)>) {
    for (name, value) in pairs {
        let prefix = format!("{name}=");
        let variable = format!("{prefix}{value}");
        match env.iter_mut().find(|existing| existing.starts_with(&prefix)) {
            Some(existing) => *existing = variable,
            None => env.push(variable),
        }
    }
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn expose(config: &mut RunConfig, text: &str) -> Result<()> {
    for word in words(text)? {
        let invalid = || Error::Change(format!("Invalid containerPort: {word}"));
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(Error::Change(format!("Invalid proto: {protocol}")));
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
        if first > last {
            return Err(invalid());
        }
        let ports = config.exposed_ports.get_or_insert_default();
        ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), serde_json::json!({}))));
    }
    Ok(())
}

fn volumes(config: &mut RunConfig, text: &str) -> Result<()> {
    let paths = match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => list,
        Err(_) => words(text)?,
    };
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(Error::Change("VOLUME specified can not be an empty string".into()));
    }
    let volumes: &mut BTreeMap<_, _> = config.volumes.get_or_insert_default();
    volumes.extend(paths.into_iter().map(|path| (path, serde_json::json!({}))));
    Ok(())
}

/// A directory relative to the one before, as `cd` would have it.
fn directory(before: &str, text: &str) -> String {
    let joined = if text.starts_with('/') { text.to_owned() } else { format!("{before}/{text}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `name=value name2="another value"`, or in the old form `name the rest`.
fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text)?;
    if !words[0].contains('=') {
        let Some((name, value)) = text.split_once(char::is_whitespace) else {
            return Err(Error::Change(format!("{instruction} must have two arguments")));
        };
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let syntax =
            || Error::Change(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"));
        let (name, value) = word.split_once('=').ok_or_else(syntax)?;
        if name.is_empty() {
            return Err(Error::Change(format!("{instruction} names can not be blank")));
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

fn unquoted(text: &str) -> Result<String> {
    Ok(words(text)?.join(" "))
}

/// Splits at blanks that aren't quoted, and takes the quotes away.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    // Where the word begins, for the error.
    let mut start = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if word.is_none() {
            start = at;
        }
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next().map(|(_, next)| next)),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        let kind = if open == '"' { "double" } else { "single" };
        let word = &text[start..];
        let word = word.split_once('=').map_or(word, |(_, value)| value);
        return Err(Error::Change(format!(
            "failed to process {word:?}: unexpected end of statement while looking for matching {kind}-quote"
        )));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(changes: &[&str]) -> RunConfig {
        apply(&changes.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn commands() {
        assert_eq!(run(&[r#"CMD ["sh", "-l"]"#]).cmd.unwrap(), ["sh", "-l"]);
        assert_eq!(run(&["cmd echo hi"]).cmd.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run(&["ENTRYPOINT [\"/init\"]", "CMD"]).entrypoint.unwrap(), ["/init"]);
    }

    #[test]
    fn variables_and_labels() {
        let config = run(&["ENV A=1 B=\"two words\"", "ENV A=3", "ENV C the rest", "LABEL a.b=c 'd'=e\\ f"]);
        assert_eq!(config.env, ["A=3", "B=two words", "C=the rest"]);
        let labels = config.labels.unwrap();
        assert_eq!((labels["a.b"].as_str(), labels["d"].as_str()), ("c", "e f"));
    }

    #[test]
    fn the_others() {
        let config = run(&[
            "EXPOSE 80 53/udp 90-92",
            "ONBUILD RUN true",
            "STOPSIGNAL SIGINT",
            "USER app:app",
            "VOLUME /data /more",
            "VOLUME [\"/x y\"]",
            "WORKDIR /a/b",
            "WORKDIR ../c",
        ]);
        let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "90/tcp", "91/tcp", "92/tcp"]);
        assert_eq!(config.on_build.unwrap(), ["RUN true"]);
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/data", "/more", "/x y"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/a/c"));
    }

    #[test]
    fn mistakes_are_told() {
        let check = |change: &str, expect: &str| {
            assert_eq!(apply(&[change.to_owned()]).unwrap_err().to_string(), expect);
        };
        check("RUN true", "RUN is not a valid change command");
        check("bogus", "BOGUS is not a valid change command");
        check("ENV", "ENV requires at least one argument");
        check("ENV A", "ENV must have two arguments");
        check("ENV =1", "ENV names can not be blank");
        check("EXPOSE x", "Invalid containerPort: x");
        check("EXPOSE 80/ip", "Invalid proto: ip");
        check("USER", "USER requires exactly one argument");
        check("", "file with no instructions");
        check(
            "LABEL a=\"b",
            "failed to process \"\\\"b\": unexpected end of statement while looking for matching double-quote",
        );
        check("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    }
}

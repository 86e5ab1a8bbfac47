//! Environment variables and labels: flags, files, and values taken from the client's own environment.

use crate::failure::{Failure, Outcome, plain_io};

/// The `Env` list: files first, then flags; a name without `=` takes the client's value.
pub(crate) fn environment<'a>(
    files: impl Iterator<Item = &'a str>,
    variables: impl Iterator<Item = &'a str>,
) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines_of(file)?.iter().filter_map(|line| from_client(line)));
    }
    // A name that is not set here travels alone: the daemon takes the image's variable away.
    all.extend(variables.map(|variable| from_client(variable).unwrap_or_else(|| variable.to_owned())));
    Ok(all)
}

fn from_client(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

/// Labels of files and flags; a later one wins.
pub(super) fn labels<'a>(
    files: impl Iterator<Item = &'a str>,
    labels: impl Iterator<Item = &'a str>,
) -> Outcome<serde_json::Map<String, serde_json::Value>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines_of(file)?.into_iter().filter(|line| line.contains('=')));
    }
    all.extend(labels.map(str::to_owned));
    Ok(key_values(all.iter().map(String::as_str)))
}

/// `key=value` strings as a JSON object; without `=` the value is empty.
pub(super) fn key_values<'a>(items: impl Iterator<Item = &'a str>) -> serde_json::Map<String, serde_json::Value> {
    items
        .map(|item| {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            (key.to_owned(), value.into())
        })
        .collect()
}

/// The lines of an env or label file without comments and blanks.
fn lines_of(file: &str) -> Outcome<Vec<String>> {
    let bytes = std::fs::read(file).map_err(|error| Failure::message(format!("open {file}: {}", plain_io(&error))))?;
    parse_lines(file, &bytes).map_err(Failure::message)
}

fn parse_lines(file: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| {
                format!(
                    "invalid env file ({file}): env file {file} contains invalid utf8 bytes at line {}: {line:?}",
                    index + 1
                )
            })?
            .trim_end_matches('\r')
            .trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            return Err(format!("invalid env file ({file}): variable '{name}' contains whitespaces"));
        }
        if name.is_empty() {
            return Err(format!("invalid env file ({file}): no variable name on line '{line}'"));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::parse_lines;

    #[test]
    fn files() {
        let lines = parse_lines("f", b"A=1\r\n# no\n\n  B = x\n".as_slice());
        assert_eq!(lines, Err("invalid env file (f): variable 'B ' contains whitespaces".to_owned()));
        let lines = parse_lines("f", b"\xEF\xBB\xBFA=1=2\n  C=x y \nHOME").expect("valid");
        assert_eq!(lines, ["A=1=2", "C=x y ", "HOME"]);
        assert_eq!(parse_lines("f", b"=x"), Err("invalid env file (f): no variable name on line '=x'".to_owned()));
    }
}

//! What a registry asks for in `WWW-Authenticate`: RFC 9110, section 11.6.1, and RFC 6750 for bearer tokens.
//!
//! Registries differ in how well they quote, so the reader takes what it can: unquoted values, missing commas, escapes, and
//! several challenges in one header.

use std::collections::BTreeMap;

/// One challenge: a scheme in lower case and its parameters, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// `bearer`, `basic`, or what else the registry has.
    pub scheme: String,
    /// Such as `realm`, `service`, `scope`.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads one header's value; what makes no sense is passed over.
    pub fn parse(header: &str) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if rest.is_empty() {
                return challenges;
            }
            let (word, after) = token(rest);
            if word.is_empty() {
                // Not a token: one character on, or this would not end.
                rest = &rest[rest.chars().next().map_or(1, char::len_utf8)..];
                continue;
            }
            match (after.trim_start().strip_prefix('='), challenges.last_mut()) {
                (Some(after), Some(challenge)) => {
                    let (value, after) = value(after.trim_start());
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                    rest = after;
                }
                (Some(after), None) => rest = after,
                (None, _) => {
                    challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                    rest = after;
                }
            }
        }
    }

    /// A parameter, if it is there and not empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The token at the start of `text`, and what follows.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A quoted string, or what stands up to a comma or space.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(header: &str, expect: &[(&str, &[(&str, &str)])]) {
        let challenges: Vec<Challenge> = expect
            .iter()
            .map(|(scheme, parameters)| Challenge {
                scheme: (*scheme).to_owned(),
                parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            })
            .collect();
        assert_eq!(Challenge::parse(header), challenges, "{header}");
    }

    #[test]
    fn usual_ones() {
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("scope", "repository:library/busybox:pull"),
                    ("service", "registry.docker.io"),
                ],
            )],
        );
        check(r#"Basic realm="basic-realm""#, &[("basic", &[("realm", "basic-realm")])]);
        check("Negotiate", &[("negotiate", &[])]);
    }

    #[test]
    fn odd_ones() {
        check(r#"BASIC Realm=plain, charset="UTF-8""#, &[("basic", &[("charset", "UTF-8"), ("realm", "plain")])]);
        check(
            r#"Bearer realm="a \"b\" \\c", scope="x,y=z""#,
            &[("bearer", &[("realm", r#"a "b" \c"#), ("scope", "x,y=z")])],
        );
        check(r#"Bearer realm="https://a/b"service="s""#, &[("bearer", &[("realm", "https://a/b"), ("service", "s")])]);
        check(r#"Bearer realm = "r" , service = s"#, &[("bearer", &[("realm", "r"), ("service", "s")])]);
        check(r#"Negotiate, Basic realm="x""#, &[("negotiate", &[]), ("basic", &[("realm", "x")])]);
        check(r#"Bearer realm="unclosed"#, &[("bearer", &[("realm", "unclosed")])]);
        check(r#"Bearer realm="1", realm="2""#, &[("bearer", &[("realm", "1")])]);
        check("", &[]);
        check(
            "Bearer realm=https://a.example/t?x,service=s",
            &[("bearer", &[("realm", "https://a.example/t?x"), ("service", "s")])],
        );
    }

    proptest! {
        #[test]
        fn never_panics(header in ".{0,200}") {
            Challenge::parse(&header);
        }

        #[test]
        fn quoted_values_come_back(text in "[ -~]{0,40}") {
            let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
            let challenges = Challenge::parse(&format!("Bearer realm=\"{quoted}\",service=x"));
            prop_assert_eq!(&challenges[0].parameters["realm"], &text);
        }
    }
}

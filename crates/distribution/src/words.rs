//! A registry's refusal in the words of Docker's command line, which shows what its library made of the answer: codes with their
//! messages, codes alone where a registry adds nothing to them, several on a line each.

use crate::challenge::Challenge;
use crate::error::{Error, printable};
use http::StatusCode;
use serde::Deserialize;

/// In whose words refusals are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// The daemon's: they name the image, and what to do.
    #[default]
    Daemon,
    /// The command line's, for commands that ask registries themselves: [`Error::Told`].
    Client,
}

/// The codes that the library knows, and the messages that it takes for granted.
const CODES: [(&str, &str); 19] = [
    ("UNKNOWN", "unknown error"),
    ("UNSUPPORTED", "The operation is unsupported."),
    ("UNAUTHORIZED", "authentication required"),
    ("DENIED", "requested access to the resource is denied"),
    ("UNAVAILABLE", "service unavailable"),
    ("TOOMANYREQUESTS", "too many requests"),
    ("DIGEST_INVALID", "provided digest did not match uploaded content"),
    ("SIZE_INVALID", "provided length did not match content length"),
    ("NAME_INVALID", "invalid repository name"),
    ("TAG_INVALID", "manifest tag did not match URI"),
    ("NAME_UNKNOWN", "repository name not known to registry"),
    ("MANIFEST_UNKNOWN", "manifest unknown"),
    ("MANIFEST_INVALID", "manifest invalid"),
    ("MANIFEST_UNVERIFIED", "manifest failed signature verification"),
    ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
    ("BLOB_UPLOAD_INVALID", "blob upload invalid"),
    ("PAGINATION_NUMBER_INVALID", "invalid number of results requested"),
];

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Item>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    detail: Option<serde::de::IgnoredAny>,
}

/// One error of an answer.
struct Said {
    code: &'static str,
    /// None where the code stands alone.
    message: Option<String>,
}

impl Said {
    fn new(code: &str, message: impl Into<String>) -> Said {
        Said { code: known(code).0, message: Some(printable(message.into())) }
    }

    fn of(item: Item) -> Said {
        let (code, usual) = known(&item.code);
        let is_bare = item.detail.is_none() && (item.message.is_empty() || item.message == usual);
        Said { code, message: (!is_bare).then(|| printable(item.message)) }
    }

    fn text(&self) -> String {
        let code = self.code.to_lowercase().replace('_', " ");
        self.message.as_ref().map_or(code.clone(), |message| format!("{code}: {message}"))
    }

    /// Whether the library goes on looking elsewhere.
    fn is_absence(&self) -> bool {
        self.message.is_some() && matches!(self.code, "UNAUTHORIZED" | "MANIFEST_UNKNOWN" | "NAME_UNKNOWN")
    }
}

/// A code of the list; what is not in it is unknown.
fn known(code: &str) -> (&'static str, &'static str) {
    CODES.into_iter().find(|(name, _)| *name == code).unwrap_or(CODES[0])
}

/// The error that an answer stands for.
pub(crate) fn told(status: StatusCode, content_type: &str, challenges: &[Challenge], body: &[u8]) -> Error {
    if !status.is_client_error() {
        return Error::Status(status);
    }
    let (mut said, silence) = match read(status, content_type, body) {
        Ok(said) => (said, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    // RFC 6750, section 3.1.
    let bearer = challenges.iter().filter(|challenge| challenge.scheme == "bearer");
    let scope = bearer.filter_map(|challenge| match challenge.parameter("error")? {
        "invalid_token" => Some(("UNAUTHORIZED", challenge)),
        "insufficient_scope" => Some(("DENIED", challenge)),
        _ => None,
    });
    if let Some((code, challenge)) = scope.into_iter().next() {
        let description = challenge.parameter("error_description").filter(|text| !text.is_empty());
        said.insert(0, Said::new(code, description.unwrap_or(known(code).1)));
    }
    let may_be_elsewhere = said.first().is_none_or(Said::is_absence);
    let text = match (&said[..], silence) {
        ([], reason) => reason.unwrap_or_default(),
        ([one], _) => one.text(),
        (several, _) => several.iter().fold("errors:\n".to_owned(), |text, one| text + &one.text() + "\n"),
    };
    Error::Told { status: status.as_u16(), text, may_be_elsewhere }
}

/// The errors in a body, or why there are none.
fn read(status: StatusCode, content_type: &str, body: &[u8]) -> Result<Vec<Said>, String> {
    let text = || String::from_utf8_lossy(body).into_owned();
    let code = match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "DENIED",
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    if !matches!(content_type, "application/json" | "application/vnd.api+json") {
        return Ok(vec![Said::new(code, text())]);
    }
    let reason = match serde_json::from_slice::<Body>(body) {
        Ok(body) if !body.details.is_empty() => return Ok(vec![Said::new(code, body.details)]),
        Ok(body) if !body.errors.is_empty() => return Ok(body.errors.into_iter().map(Said::of).collect()),
        Ok(_) => "no error details found in HTTP response body".to_owned(),
        Err(error) => error.to_string(),
    };
    if status == StatusCode::UNAUTHORIZED {
        return Ok(vec![Said::new(code, known(code).1)]);
    }
    let (status, text) = (status.as_u16(), printable(text()));
    Err(format!("error parsing HTTP {status} response body: {reason}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |status, kind: &str, challenge: &str, body: &str, expect: &str, elsewhere| {
            let challenges = Challenge::parse(challenge);
            match told(StatusCode::from_u16(status).unwrap(), kind, &challenges, body.as_bytes()) {
                Error::Told { text, may_be_elsewhere, .. } => {
                    assert_eq!((&text[..], may_be_elsewhere), (expect, elsewhere), "{body}");
                }
                error => assert_eq!(error.to_string(), expect),
            }
        };
        let json = "application/json";
        let one = |code: &str, message: &str, detail: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{detail}}}]}}"#)
        };
        check(404, json, "", &one("MANIFEST_UNKNOWN", "manifest unknown", "null"), "manifest unknown", false);
        let detailed = one("MANIFEST_UNKNOWN", "manifest unknown", r#"{"Tag":"x"}"#);
        check(404, json, "", &detailed, "manifest unknown: manifest unknown", true);
        check(403, json, "", &one("DENIED", "no", "null"), "denied: no", false);
        check(400, json, "", &one("MADE_UP", "no", "1"), "unknown: no", false);
        check(401, json, "", "{}", "unauthorized: authentication required", true);
        check(
            404,
            json,
            "",
            "{}",
            "error parsing HTTP 404 response body: no error details found in HTTP response body: \"{}\"",
            true,
        );
        check(418, "text/plain", "", "no coffee", "unknown: no coffee", false);
        check(401, "", "", "who?", "unauthorized: who?", true);
        check(500, json, "", "{}", "received unexpected HTTP status: 500 Internal Server Error", false);
        // Docker Hub, of what is not there.
        let hub = one("UNAUTHORIZED", "authentication required", r#"[{"Type":"repository"}]"#);
        let scope = r#"Bearer realm="https://auth.test/token",error="insufficient_scope""#;
        let both =
            "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n";
        check(401, json, scope, &hub, both, false);
    }
}

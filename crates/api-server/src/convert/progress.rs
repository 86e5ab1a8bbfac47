//! The messages of long operations.

use corten_api_types::{JsonMessage, ProgressDetail};
use corten_images::Progress;

/// One line of a pull, load or import.
pub(crate) fn message(progress: Progress) -> JsonMessage {
    match progress {
        Progress::Stream(text) => JsonMessage::stream(text),
        Progress::Aux(value) => JsonMessage::aux(value),
        Progress::Status { id: None, status, current: None, total: None } => JsonMessage::status("", status),
        Progress::Status { id, status, current, total } => {
            let detail = ProgressDetail {
                current: current.unwrap_or_default(),
                total: total.unwrap_or_default(),
                ..ProgressDetail::default()
            };
            JsonMessage::progress(id.unwrap_or_default(), status, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |progress, expect: &str| assert_eq!(serde_json::to_string(&message(progress)).unwrap(), expect);
        check(Progress::status("Digest: x"), r#"{"status":"Digest: x"}"#);
        check(Progress::part("abc", "Pull complete"), r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#);
        check(Progress::Stream("Loaded image: a\n".to_owned()), r#"{"stream":"Loaded image: a\n"}"#);
    }
}

//! The messages of long operations: one JSON object per line.

use crate::json::is_zero;
use corten_base::units::human_size;
use serde::{Deserialize, Serialize};

/// One line of a pull, load, import, push or build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JsonMessage {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is being done, such as `Downloading`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// [`ProgressDetail::bar`] for clients that don't draw their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// What it is done to, mostly a layer's short digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The failure that ended the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The failure's text once more, for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Data for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far an operation is, in bytes unless `units` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressDetail {
    /// Done so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// All there is to do, 0 when unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// Whether to hide the counts.
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    /// The unit when it isn't bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why an operation failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// The exit code of a build step.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// What failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl JsonMessage {
    /// Text to print as it is.
    pub fn stream(text: impl Into<String>) -> JsonMessage {
        JsonMessage { stream: text.into(), ..JsonMessage::default() }
    }

    /// A state without numbers.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> JsonMessage {
        JsonMessage { id: id.into(), status: status.into(), ..JsonMessage::default() }
    }

    /// A state with numbers; `progressDetail` is there even when empty, as Docker writes it for layers.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, detail: ProgressDetail) -> JsonMessage {
        JsonMessage { progress: detail.bar(), progress_detail: Some(detail), ..JsonMessage::status(id, status) }
    }

    /// The failure that ends an operation.
    pub fn error(message: impl Into<String>) -> JsonMessage {
        let message = message.into();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        JsonMessage { error_detail, error: message, ..JsonMessage::default() }
    }

    /// Data for programs.
    pub fn aux(value: serde_json::Value) -> JsonMessage {
        JsonMessage { aux: Some(value), ..JsonMessage::default() }
    }
}

impl ProgressDetail {
    /// `[=====>     ]  1.2MB/3.4MB`, empty when nothing is known.
    pub fn bar(&self) -> String {
        const WIDTH: u64 = 50;
        if self.current == 0 && self.total == 0 {
            return String::new();
        }
        let current = human_size(self.current);
        if self.total == 0 {
            return format!("{current:>8}");
        }
        let done = (u128::from(self.current) * u128::from(WIDTH) / u128::from(self.total)).min(WIDTH.into()) as usize;
        let counts = match self.current > self.total {
            true => format!("{current:>8}"),
            false => format!("{current:>8}/{}", human_size(self.total)),
        };
        format!("[{}>{}] {counts}", "=".repeat(done), " ".repeat(WIDTH as usize - done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |message: JsonMessage, expect: &str| assert_eq!(serde_json::to_string(&message).unwrap(), expect);
        check(JsonMessage::stream("Loaded image: a:latest\n"), r#"{"stream":"Loaded image: a:latest\n"}"#);
        check(JsonMessage::error("no"), r#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        check(
            JsonMessage::progress("abc", "Pulling fs layer", ProgressDetail::default()),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}"#,
        );
    }

    #[test]
    fn bars() {
        let bar = |current, total| ProgressDetail { current, total, ..ProgressDetail::default() }.bar();
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(1, 0), "      1B");
        assert_eq!(bar(20, 100), format!("[{}>{}]      20B/100B", "=".repeat(10), " ".repeat(40)));
        assert_eq!(bar(100, 100), format!("[{}>]     100B/100B", "=".repeat(50)));
        assert_eq!(bar(150, 100), format!("[{}>]     150B", "=".repeat(50)));
        assert!(bar(u64::MAX, u64::MAX).starts_with("[====="));
    }
}

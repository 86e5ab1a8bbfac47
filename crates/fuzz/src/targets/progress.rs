//! The messages of long operations, as clients read them: bars are made of any numbers.

use corten_api_types::JsonMessage;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "progress",
    form: Form::Json,
    samples: &[
        r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"progress":"[==>  ]  5B/10B","id":"abc"}"#,
        r#"{"errorDetail":{"code":1,"message":"no"},"error":"no"}"#,
        r#"{"progressDetail":{},"aux":{"Tag":"a","Digest":"sha256:","Size":9}}"#,
    ],
    words: &["status", "Pushing", "Layer already exists", "id", "stream", "aux", "current", "total"],
    run,
};

fn run(input: &[u8]) {
    let Ok(message) = corten_api_types::decode::<JsonMessage>(input) else { return };
    if let Some(detail) = &message.progress_detail {
        let bar = detail.bar();
        assert!(bar.chars().count() < 200 && !bar.contains('\n'), "{bar:?}");
    }
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: JsonMessage = corten_api_types::decode(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).ok(), Some(written));
}

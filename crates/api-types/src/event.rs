//! What happened in the engine.
#![expect(missing_docs, reason = "the fields are the API's own; its specification describes them")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of `GET /events`. `status`, `id` and `from` repeat the newer fields for old clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "crate::json::is_zero")]
    pub time_nano: i64,
}

/// What it happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

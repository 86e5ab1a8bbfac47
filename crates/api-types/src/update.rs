//! `POST /containers/{id}/update`.
#![expect(missing_docs, reason = "the fields are the API's own; its specification describes them")]

use crate::RestartPolicy;
use serde::{Deserialize, Serialize};

/// Limits and restart policy to take the place of a container's; zero, empty and absent leave what is there. The API knows all of
/// `HostConfig`'s limits here; Docker changes these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdateRequest {
    pub cpu_shares: i64,
    pub memory: i64,
    pub nano_cpus: i64,
    pub blkio_weight: u16,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: i64,
    pub cpu_realtime_runtime: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    pub kernel_memory: i64,
    pub memory_reservation: i64,
    pub memory_swap: i64,
    pub pids_limit: Option<i64>,
    pub restart_policy: RestartPolicy,
}

/// The answer to `POST /containers/{id}/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdateResponse {
    /// `null` when there are none.
    pub warnings: Option<Vec<String>>,
}

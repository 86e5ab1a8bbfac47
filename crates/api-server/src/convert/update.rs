//! `POST /containers/{id}/update`.

use crate::convert::{create, validate};
use crate::error::Failure;
use corten_api_types::ContainerUpdateRequest;
use corten_engine::UpdateContainer;
use corten_engine::settings::Resources;

/// What the engine is to change.
pub(crate) fn change(request: ContainerUpdateRequest) -> Result<UpdateContainer, Failure> {
    let policy = &request.restart_policy;
    validate::restart_policy(policy)?;
    let restart = (!policy.name.is_empty()).then(|| create::restart(policy));
    let resources = Resources {
        memory: request.memory,
        memory_swap: request.memory_swap,
        memory_reservation: request.memory_reservation,
        cpu_shares: request.cpu_shares,
        cpu_period: request.cpu_period,
        cpu_quota: request.cpu_quota,
        nano_cpus: request.nano_cpus,
        cpu_realtime_period: request.cpu_realtime_period,
        cpu_realtime_runtime: request.cpu_realtime_runtime,
        cpuset_cpus: request.cpuset_cpus,
        cpuset_mems: request.cpuset_mems,
        // 0 and everything below is "no limit".
        pids_limit: request.pids_limit.map(|limit| limit.max(0)),
        blkio_weight: request.blkio_weight,
        ..Resources::default()
    };
    Ok(UpdateContainer { resources, restart })
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_engine::settings::RestartPolicy;
    use serde_json::{Value, json};

    fn convert(request: Value) -> Result<UpdateContainer, String> {
        change(corten_api_types::decode_value(&request).unwrap()).map_err(|failure| failure.message)
    }

    /// What `docker update -m 64m --cpus 1.5 --pids-limit -1 box` sends, in parts.
    #[test]
    fn the_command_lines_request() {
        let change = convert(json!({"CpuShares": 0, "Memory": 67108864, "NanoCpus": 1500000000, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": null, "MemorySwappiness": null, "OomKillDisable": null,
            "PidsLimit": -1, "Ulimits": null, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}))
        .unwrap();
        let expect =
            Resources { memory: 64 << 20, nano_cpus: 1_500_000_000, pids_limit: Some(0), ..Resources::default() };
        assert_eq!((change.resources, change.restart), (expect, None));
    }

    #[test]
    fn restart_policies() {
        let policy = |name: &str, count: i64| {
            convert(json!({"RestartPolicy": {"Name": name, "MaximumRetryCount": count}})).map(|change| change.restart)
        };
        assert_eq!(policy("on-failure", 3), Ok(Some(RestartPolicy::OnFailure(3))));
        assert_eq!(policy("no", 0), Ok(Some(RestartPolicy::No)));
        assert_eq!(policy("", 0), Ok(None));
        let text = "invalid restart policy: maximum retry count can only be used with 'on-failure'";
        assert_eq!(policy("always", 3), Err(text.to_owned()));
    }
}

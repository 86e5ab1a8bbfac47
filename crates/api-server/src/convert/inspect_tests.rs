use super::*;
use corten_base::{ContainerId, Digest, ImageId, NetworkId};
use corten_engine::life::{Phase, State};
use corten_engine::{BoundPort, Echo, Files};
use serde_json::json;
use std::sync::Arc;

/// A running container named `web` with id `aaaa..`, port 80 published at 8080, on the bridge.
pub(crate) fn view() -> ContainerView {
    let endpoint = EndpointView {
        network_id: Some(NetworkId::from_bytes([0xbb; 32])),
        ip_address: "172.17.0.2".to_owned(),
        prefix_length: 16,
        gateway: "172.17.0.1".to_owned(),
        ..EndpointView::default()
    };
    let port = BoundPort { host_ip: "0.0.0.0".to_owned(), host_port: 8080 };
    let request = json!({"Image": "busybox", "Cmd": ["sleep", "1"], "Labels": {"a": "b"}, "HostConfig": {"Memory": 7}});
    let (spec, echo): (ContainerSpec, Echo) =
        crate::convert::create::container(corten_api_types::decode_value(&request).unwrap()).unwrap();
    ContainerView {
        namespace: corten_base::Namespace::default(),
        id: ContainerId::from_bytes([0xaa; 32]),
        name: "web".to_owned(),
        created_ns: 1_000_000_000,
        image_id: ImageId(Digest::sha256(b"")),
        os: "linux".to_owned(),
        spec: Arc::new(spec),
        echo: Arc::new(echo),
        args: ["sleep".to_owned(), "1".to_owned()].into(),
        state: State { phase: Phase::Running, pid: 5, started_ns: Some(2_500_000_000), ..State::default() },
        mounts: Arc::default(),
        network: Arc::new(NetworkView {
            endpoints: [("bridge".to_owned(), endpoint)].into(),
            ports: [("80/tcp".to_owned(), vec![port]), ("90/udp".to_owned(), Vec::new())].into(),
            ..NetworkView::default()
        }),
        files: Arc::new(Files::default()),
        exec_ids: [].into(),
        removed: false,
    }
}

#[test]
fn a_running_container() {
    let shown = serde_json::to_value(container(&view(), None).unwrap()).unwrap();
    let check = |path: &str, expect: serde_json::Value| assert_eq!(shown.pointer(path), Some(&expect), "{path}");
    check("/Name", json!("/web"));
    check("/Path", json!("sleep"));
    check("/Args", json!(["1"]));
    check("/Created", json!("1970-01-01T00:00:01Z"));
    check("/State/Status", json!("running"));
    check("/State/StartedAt", json!("1970-01-01T00:00:02.5Z"));
    check("/State/FinishedAt", json!(ZERO_TIME));
    check("/ExecIDs", json!(null));
    check("/Config/Hostname", json!("aaaaaaaaaaaa"));
    check("/Config/Cmd", json!(["sleep", "1"]));
    check("/Config/Entrypoint", json!(null));
    check("/Config/Volumes", json!(null));
    check("/Config/Labels", json!({"a": "b"}));
    check("/HostConfig/Memory", json!(7));
    check("/HostConfig/NetworkMode", json!("bridge"));
    check("/HostConfig/LogConfig", json!({"Type": "json-file", "Config": {}}));
    check("/HostConfig/ShmSize", json!(67_108_864));
    check("/HostConfig/Binds", json!(null));
    check("/NetworkSettings/Ports", json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/udp": null}));
    check("/NetworkSettings/IPAddress", json!("172.17.0.2"));
    check("/NetworkSettings/Networks/bridge/IPPrefixLen", json!(16));
    check("/NetworkSettings/Networks/bridge/IPAMConfig", json!(null));
    check("/Mounts", json!([]));
    assert!(shown.get("SizeRw").is_none());
    assert_eq!(shown["HostConfig"]["MaskedPaths"].as_array().unwrap().len(), 12);
}

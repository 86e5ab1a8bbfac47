//! What a server writes must come out as it went in: which fields are `null`, empty or absent is part of the contract.
//! The samples have the shape of dockerd 28.5's answers.

#![recursion_limit = "256"]

use corten_api_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn round_trip<T: Serialize + DeserializeOwned>(sample: Value) -> T {
    let typed: T = decode_value(&sample).expect("a sample is of its type");
    let written = serde_json::to_value(&typed).expect("an answer is JSON");
    assert_eq!(written, sample, "{}", std::any::type_name::<T>());
    typed
}

fn host_config() -> Value {
    json!({
        "Binds": ["data:/data"], "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "18080"}]},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false, "VolumeDriver": "",
        "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null, "CgroupnsMode": "host", "Dns": [],
        "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null, "IpcMode": "private", "Cgroup": "",
        "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
        "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 67108864,
        "Runtime": "corten", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
        "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": null,
        "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null,
        "OomKillDisable": false, "PidsLimit": null, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0, "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/bus"]
    })
}

fn endpoint() -> Value {
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "02:42:ac:11:00:02", "DriverOpts": null,
        "GwPriority": 0, "NetworkID": "c1", "EndpointID": "39", "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2",
        "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
    })
}

fn mount() -> Value {
    json!({"Type": "volume", "Name": "data", "Source": "/x/_data", "Destination": "/data", "Driver": "local",
        "Mode": "z", "RW": true, "Propagation": ""})
}

#[test]
fn container_inspect() {
    let shown: ContainerInspect = round_trip(json!({
        "Id": "5f", "Created": "2026-11-21T02:18:33.91737707Z", "Path": "sleep", "Args": ["300"],
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 11162, "ExitCode": 0, "Error": "", "StartedAt": "2026-11-21T02:18:33.930559586Z",
            "FinishedAt": "0001-01-01T00:00:00Z"},
        "Image": "sha256:b4", "ResolvConfPath": "/r", "HostnamePath": "/n", "HostsPath": "/h", "LogPath": "/l",
        "Name": "/web", "RestartCount": 0, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": null, "HostConfig": host_config(),
        "GraphDriver": {"Data": {"UpperDir": "/u"}, "Name": "overlay2"}, "Mounts": [mount()],
        "Config": {"Hostname": "5f", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
            "AttachStderr": false, "ExposedPorts": {"80/tcp": {}}, "Tty": false, "OpenStdin": false,
            "StdinOnce": false, "Env": ["PATH=/bin"], "Cmd": ["sleep", "300"], "Image": "busybox", "Volumes": null,
            "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {"a": "b"}},
        "NetworkSettings": {"Bridge": "", "SandboxID": "7d", "SandboxKey": "/k",
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}], "90/udp": null}, "HairpinMode": false,
            "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null, "EndpointID": "39", "Gateway": "172.17.0.1", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "IPAddress": "172.17.0.2", "IPPrefixLen": 16, "IPv6Gateway": "",
            "MacAddress": "02:42:ac:11:00:02", "Networks": {"bridge": endpoint()}}
    }));
    assert_eq!(shown.network_settings.ip_address, "172.17.0.2");
}

#[test]
fn container_summary() {
    round_trip::<Vec<ContainerSummary>>(json!([{
        "Id": "5f", "Names": ["/web"], "Image": "busybox", "ImageID": "sha256:b4", "Command": "sleep 300",
        "Created": 1795227513,
        "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"},
            {"PrivatePort": 90, "Type": "udp"}],
        "Labels": {"a": "b"}, "State": "running", "Status": "Up 2 minutes", "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": endpoint()}}, "Mounts": [mount()]
    }]));
}

#[test]
fn images() {
    round_trip::<ImageSummary>(json!({"Containers": 1, "Created": 1795227104, "Id": "sha256:b4", "Labels": null,
        "ParentId": "", "RepoDigests": [], "RepoTags": ["busybox:latest"], "SharedSize": -1, "Size": 1984303}));
    round_trip::<ImageInspect>(json!({"Id": "sha256:b4", "RepoTags": ["busybox:latest"], "RepoDigests": [],
        "Parent": "", "Comment": "Imported from -", "Created": "2026-11-21T02:11:44.404468647Z",
        "DockerVersion": "28.5.2", "Author": "", "Architecture": "amd64", "Os": "linux", "Size": 1984303,
        "GraphDriver": {"Data": {"UpperDir": "/u"}, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": ["sha256:73"]},
        "Metadata": {"LastTagTime": "2026-11-21T02:15:35.580902691Z"}, "Config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]}}));
    round_trip::<HistoryItem>(json!({"Comment": "", "Created": 1, "CreatedBy": "", "Id": "<missing>", "Size": 3,
        "Tags": null}));
}

#[test]
fn networks_and_volumes() {
    round_trip::<Network>(json!({"Name": "none", "Id": "ba", "Created": "2026-11-21T02:07:59.785437328Z",
        "Scope": "local", "Driver": "null", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": null}, "Internal": false, "Attachable": false,
        "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {}, "Options": {},
        "Labels": {}}));
    round_trip::<Ipam>(json!({"Driver": "default", "Options": null,
        "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]}));
    round_trip::<VolumeListResponse>(json!({"Volumes": [{"CreatedAt": "2026-11-21T02:18:33Z", "Driver": "local",
        "Labels": null, "Mountpoint": "/m", "Name": "data", "Options": null, "Scope": "local"}], "Warnings": null}));
}

#[test]
fn small_answers() {
    round_trip::<WaitResponse>(json!({"StatusCode": 3}));
    round_trip::<WaitResponse>(json!({"StatusCode": 127, "Error": {"Message": "no"}}));
    round_trip::<ContainerCreateResponse>(json!({"Id": "5f", "Warnings": []}));
    round_trip::<ExecInspect>(json!({"ID": "d6", "Running": false, "ExitCode": null,
        "ProcessConfig": {"tty": false, "entrypoint": "echo", "arguments": ["hi"], "privileged": false},
        "OpenStdin": false, "OpenStderr": false, "OpenStdout": true, "CanRemove": false, "ContainerID": "9f",
        "DetachKeys": "", "Pid": 0}));
    round_trip::<EventMessage>(json!({"status": "start", "id": "5f", "from": "busybox", "Type": "container",
        "Action": "start", "Actor": {"ID": "5f", "Attributes": {"name": "web"}}, "scope": "local", "time": 1795227514,
        "timeNano": 1795227514724508736i64}));
    round_trip::<ContainersPruned>(json!({"ContainersDeleted": null, "SpaceReclaimed": 0}));
}

/// `null` in a map is an entry, unlike `null` in an object with fixed members.
#[test]
fn null_entries() {
    let request: ContainerCreateRequest = decode_value(&json!({"Volumes": {"/data": null}, "Labels": {"a": null},
        "ExposedPorts": {"80/tcp": null}, "HostConfig": {"PortBindings": {"80/tcp": null}, "ConsoleSize": null},
        "NetworkingConfig": {"EndpointsConfig": {"front": null}}}))
    .unwrap();
    assert!(request.config.volumes.unwrap().contains_key("/data"));
    assert_eq!(request.config.labels.unwrap()["a"], "");
    assert_eq!(request.host_config.port_bindings.unwrap()["80/tcp"], None);
    assert!(request.networking_config.endpoints_config.unwrap().contains_key("front"));
}

/// The Python SDK sends `null` for whatever wasn't set.
#[test]
fn a_request_full_of_nulls() {
    let request: ContainerCreateRequest = decode(
        br#"{"Hostname": null, "Domainname": null, "ExposedPorts": null, "User": null, "Tty": false, "OpenStdin": false,
            "StdinOnce": false, "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Env": null,
            "Cmd": "echo", "Image": "busybox", "Volumes": null, "NetworkDisabled": false, "Entrypoint": null,
            "WorkingDir": null, "HostConfig": {"NetworkMode": "default", "Memory": null, "Unknown": 1},
            "NetworkingConfig": null, "MacAddress": null, "Labels": null, "StopSignal": null, "Healthcheck": null,
            "StopTimeout": null, "Runtime": null}"#,
    )
    .unwrap();
    assert_eq!(request.config.cmd, Some(vec!["echo".to_owned()]));
    assert_eq!((request.config.image.as_str(), request.host_config.network_mode.as_str()), ("busybox", "default"));
    assert_eq!(request.networking_config, NetworkingConfig::default());
}

#[test]
fn requests_of_the_wrong_shape() {
    for body in [
        &br#"{"Tty": "x"}"#[..],
        br#"{"Cmd": [1]}"#,
        br#"{"Cmd": {}}"#,
        br#"{"HostConfig": []}"#,
        br#"{"HostConfig": {"Memory": "1g"}}"#,
        br#"{"HostConfig": {"Memory": 1.5}}"#,
        br#"{"HostConfig": {"ConsoleSize": [1]}}"#,
        br#"{"Labels": ["a"]}"#,
        br#"[]"#,
        br#""x""#,
        b"{\"Image\": \"\xff\"}",
    ] {
        let error = decode::<ContainerCreateRequest>(body).unwrap_err();
        assert!(error.to_string().starts_with("invalid JSON: "), "{error}");
    }
}

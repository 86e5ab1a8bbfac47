//! The flags that `run` and `create` share.

use super::checks::*;
use super::{devices, mounts, networks};
use crate::command::{Flag, switch, value};

/// Everything that describes the container itself, but for [`RESOURCE_FLAGS`].
pub(crate) static CONTAINER_FLAGS: &[Flag] = &[
    value("add-host", "list", "Name an address in the container's hosts file (host:ip)").check(extra_host),
    value("annotation", "map", "Add an annotation that reaches the OCI runtime").default("map[]"),
    value("attach", "list", "Attach STDIN, STDOUT or STDERR").short('a').check(stream),
    value("blkio-weight-device", "list", "Relative block I/O weight for one device")
        .check(devices::weight)
        .default("[]"),
    value("cap-add", "list", "Give a Linux capability"),
    value("cap-drop", "list", "Take a Linux capability away"),
    value("cgroup-parent", "string", "Cgroup below which the container's own is made"),
    value("cgroupns", "string", "Cgroup namespace: 'host', 'private', or '' for the daemon's default"),
    value("cidfile", "string", "Write the container's ID to this file"),
    value("cpu-count", "int", "Number of CPUs (Windows only)").check(signed).hidden(),
    value("cpu-percent", "int", "Percentage of CPU (Windows only)").check(signed).hidden(),
    value("device", "list", "Make a host's device available"),
    value("device-cgroup-rule", "list", "Add a rule to the list of allowed devices").check(device_rule),
    value("device-read-bps", "list", "Limit bytes per second read from a device")
        .check(devices::bytes_rate)
        .default("[]"),
    value("device-read-iops", "list", "Limit reads per second from a device")
        .check(devices::operations_rate)
        .default("[]"),
    value("device-write-bps", "list", "Limit bytes per second written to a device")
        .check(devices::bytes_rate)
        .default("[]"),
    value("device-write-iops", "list", "Limit writes per second to a device")
        .check(devices::operations_rate)
        .default("[]"),
    switch("disable-content-trust", "Accepted and ignored: images are verified by digest").default("true"),
    value("dns", "list", "Use this DNS server").check(ip_address),
    value("dns-opt", "list", "Set a resolver option").alias_of("dns-option"),
    value("dns-option", "list", "Set a resolver option"),
    value("dns-search", "list", "Search this DNS domain").check(search_domain),
    value("domainname", "string", "NIS domain name of the container"),
    value("entrypoint", "string", "Run this instead of the image's entrypoint"),
    value("env", "list", "Set an environment variable").short('e').check(variable),
    value("env-file", "list", "Read environment variables from a file"),
    value("expose", "list", "Declare a port or a range of ports"),
    value("gpus", "gpu-request", "Make GPUs available ('all' for every one)").check(devices::gpus),
    value("group-add", "list", "Join another group"),
    value("health-cmd", "string", "Command that tests the container's health"),
    value("health-interval", "duration", "Time between two tests (ms|s|m|h)").check(duration).default("0s"),
    value("health-retries", "int", "Failures in a row that make a container unhealthy").check(signed),
    value("health-start-interval", "duration", "Time between two tests while starting (ms|s|m|h)")
        .check(duration)
        .default("0s"),
    value("health-start-period", "duration", "Time to start in which failures don't count (ms|s|m|h)")
        .check(duration)
        .default("0s"),
    value("health-timeout", "duration", "Time after which a test has failed (ms|s|m|h)").check(duration).default("0s"),
    value("hostname", "string", "Host name of the container").short('h'),
    switch("init", "Run an init that reaps processes and forwards signals"),
    switch("interactive", "Keep STDIN open even when not attached").short('i'),
    value("io-maxbandwidth", "bytes", "Limit of the system drive's bandwidth (Windows only)").check(memory).hidden(),
    value("io-maxiops", "uint", "Limit of the system drive's operations (Windows only)").check(unsigned).hidden(),
    value("ip", "string", "IPv4 address of the container (e.g., 172.30.100.104)"),
    value("ip6", "string", "IPv6 address of the container (e.g., 2001:db8::33)"),
    value("ipc", "string", "IPC namespace to use"),
    value("isolation", "string", "Isolation technology"),
    value("kernel-memory", "bytes", "Limit of kernel memory (no longer in effect)").check(memory),
    value("label", "list", "Set a label").short('l').check(label),
    value("label-file", "list", "Read labels from a file"),
    value("link", "list", "Link to another container"),
    value("link-local-ip", "list", "Link-local address of the container"),
    value("log-driver", "string", "Logging driver of the container"),
    value("log-opt", "list", "Option for the logging driver"),
    value("mac-address", "string", "MAC address of the container (e.g., 92:d0:c6:0a:29:33)"),
    value("memory-swappiness", "int", "How readily memory is swapped out (0 to 100)").check(signed).default("-1"),
    value("mount", "mount", "Mount a volume, a path of the host or a tmpfs").check(mounts::mount),
    value("name", "string", "Name of the container"),
    value("net", "network", "Connect to a network").check(networks::network).alias_of("network"),
    value("net-alias", "list", "Name of the container in the network").alias_of("network-alias"),
    value("network", "network", "Connect to a network").check(networks::network),
    value("network-alias", "list", "Name of the container in the network"),
    switch("no-healthcheck", "Switch off the image's health test"),
    switch("oom-kill-disable", "Don't kill the container when it is out of memory"),
    value("oom-score-adj", "int", "How readily the host kills this container (-1000 to 1000)").check(signed),
    value("pid", "string", "PID namespace to use"),
    value("platform", "string", "Platform to use, when the image has several"),
    switch("privileged", "Give all privileges"),
    value("publish", "list", "Publish a port on the host").short('p'),
    switch("publish-all", "Publish all exposed ports on free ports of the host").short('P'),
    value("pull", "string", "When to pull the image: \"always\", \"missing\" or \"never\"").default("\"missing\""),
    switch("quiet", "Don't show the progress of a pull").short('q'),
    switch("read-only", "Mount the root file system read-only"),
    value("restart", "string", "When to start the container again").default("\"no\""),
    switch("rm", "Remove the container and its anonymous volumes when it exits"),
    value("runtime", "string", "Runtime to use"),
    value("security-opt", "list", "Security option"),
    value("shm-size", "bytes", "Size of /dev/shm").check(memory),
    value("stop-signal", "string", "Signal that stops the container"),
    value("stop-timeout", "int", "Seconds to wait for the container to stop").check(signed),
    value("storage-opt", "list", "Option for the storage driver"),
    value("sysctl", "map", "Set a kernel parameter of the container's namespaces").check(sysctl).default("map[]"),
    value("tmpfs", "list", "Mount a tmpfs"),
    switch("tty", "Give the container a terminal").short('t'),
    value("ulimit", "ulimit", "Set a resource limit").check(ulimit).default("[]"),
    value("user", "string", "User to run as (<name|uid>[:<group|gid>])").short('u'),
    value("userns", "string", "User namespace to use"),
    value("uts", "string", "UTS namespace to use"),
    value("volume", "list", "Mount a volume or a path of the host").short('v'),
    value("volume-driver", "string", "Driver of the container's volumes"),
    value("volumes-from", "list", "Mount the volumes of another container"),
    value("workdir", "string", "Working directory").short('w'),
];

/// Limits, which `update` changes later.
pub(crate) static RESOURCE_FLAGS: &[Flag] = &[
    value("blkio-weight", "uint16", "Relative block I/O weight, 10 to 1000; 0 for none").check(unsigned16).default("0"),
    value("cpu-period", "int", "Period of the CPU quota, in microseconds").check(signed),
    value("cpu-quota", "int", "CPU time per period, in microseconds").check(signed),
    value("cpu-rt-period", "int", "Period of real-time CPU time, in microseconds").check(signed),
    value("cpu-rt-runtime", "int", "Real-time CPU time per period, in microseconds").check(signed),
    value("cpu-shares", "int", "Relative CPU weight").short('c').check(signed),
    value("cpus", "decimal", "Number of CPUs, such as 1.5").check(cpus),
    value("cpuset-cpus", "string", "CPUs to run on (0-3, 0,1)"),
    value("cpuset-mems", "string", "Memory nodes to use (0-3, 0,1)"),
    value("memory", "bytes", "Limit of memory").short('m').check(memory),
    value("memory-reservation", "bytes", "Soft limit of memory").check(memory),
    value("memory-swap", "bytes", "Limit of memory and swap together: '-1' for unlimited swap").check(swap),
    value("pids-limit", "int", "Limit of processes (-1 for none)").check(signed),
];

//! The names of driver options, as `inspect` shows them and `network create -o` sets them.

/// The bridge device's name.
pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The network `bridge`.
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
/// Whether containers may talk to each other.
pub(crate) const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
/// Whether containers hide behind the host.
pub(crate) const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// The host address of `-p` without one.
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// The bridge itself gets no address.
pub(crate) const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
/// The largest packet.
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
/// How containers are reached; `nat` is all there is so far.
pub(crate) const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";

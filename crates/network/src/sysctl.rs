//! The few kernel settings that networking needs, of the calling thread's network namespace.

use std::fs;
use std::io;

/// Forwarding between links: on where it is off. Answers whether it was off.
pub(crate) fn enable_forwarding() -> io::Result<bool> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(PATH)?.trim() == "1" {
        return Ok(false);
    }
    fs::write(PATH, "1")?;
    Ok(true)
}

/// Tells one run of the machine from another.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Lets packets from and to 127.0.0.0/8 pass this link, so that published ports work at the host's loopback address. The
/// table's `raw` chain keeps containers from using it.
pub(crate) fn route_localnet(link: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet"), "1")
}

/// No IPv6 on this link. To be called before it goes up: each address it would give itself costs announcements to all
/// other ports of its bridge. Where the kernel has no IPv6, or forbids the change, all is well too.
pub(crate) fn disable_ipv6(link: &str) {
    if let Err(error) = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1")
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(link, %error, "IPv6 stays enabled");
    }
}

//! Where the daemon listens.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;

use corten_api_server::Listener;

use super::settings::Settings;

/// Docker's own socket, where its clients look.
const DOCKER_SOCKET: &str = "/run/docker.sock";

/// Opens all listeners.
pub(super) fn open(settings: &Settings) -> Result<Vec<Listener>, String> {
    if settings.hosts.is_empty() {
        return open_defaults(settings);
    }
    settings.hosts.iter().map(|host| open_one(settings, host)).collect()
}

/// The daemon's own socket, and Docker's if nobody answers there.
fn open_defaults(settings: &Settings) -> Result<Vec<Listener>, String> {
    let own = settings.engine.exec_root.join("corten.sock");
    let mut listeners = vec![unix(settings, &own)?];
    if settings.docker_socket && UnixStream::connect(DOCKER_SOCKET).is_err() {
        match unix(settings, Path::new(DOCKER_SOCKET)) {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::warn!(error, "not listening on Docker's socket"),
        }
    }
    Ok(listeners)
}

/// Refuses addresses that can't or mustn't be listened on, before anything is opened.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    settings.hosts.iter().try_for_each(|host| place(settings, host).map(drop))
}

/// Where one listener is.
enum Place<'a> {
    Unix(&'a Path),
    Tcp(SocketAddr),
}

fn place<'a>(settings: &Settings, host: &'a str) -> Result<Place<'a>, String> {
    match host.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Place::Unix(Path::new(path))),
        Some(("tcp", text)) => {
            let address = resolve(text)?;
            if !address.ip().is_loopback() && !settings.plain_tcp {
                return Err(format!(
                    "tcp://{text} would give everybody who reaches it root on this host; TLS is not implemented: say --tls=false if that is meant"
                ));
            }
            Ok(Place::Tcp(address))
        }
        Some(("fd", _)) => Err("listening on sockets of the service manager (fd://) is not implemented".into()),
        _ => Err(format!("unable to parse docker host `{host}`")),
    }
}

fn open_one(settings: &Settings, host: &str) -> Result<Listener, String> {
    let address = match place(settings, host)? {
        Place::Unix(path) => return unix(settings, path),
        Place::Tcp(address) => address,
    };
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening without TLS: everybody who reaches this address is root on this host");
    }
    Listener::tcp(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn unix(settings: &Settings, path: &Path) -> Result<Listener, String> {
    let group = Some(settings.group.as_str()).filter(|group| !group.is_empty());
    Listener::unix(path, group).map_err(|error| format!("cannot listen on {}: {error}", path.display()))
}

/// `host:port`, the port 2375 if it is missing, the host loopback.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (text.trim_end_matches(':'), "2375"),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let invalid = |reason: String| format!("cannot listen on tcp://{text}: {reason}");
    let port: u16 = port.parse().map_err(|_| invalid(format!("{port} is not a port")))?;
    let plain = host.trim_matches(['[', ']']);
    if let Ok(ip) = plain.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    // Names other than this one would need a resolver, and mean another address tomorrow.
    if host != "localhost" {
        return Err(invalid(format!("{host} is not an address")));
    }
    ("127.0.0.1", port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| invalid("no address".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| {
            assert_eq!(resolve(text).map(|address| address.to_string()).as_deref(), Ok(expect))
        };
        check("127.0.0.1:99", "127.0.0.1:99");
        check("localhost:99", "127.0.0.1:99");
        check(":99", "127.0.0.1:99");
        check("127.0.0.1", "127.0.0.1:2375");
        check("0.0.0.0:1/", "0.0.0.0:1");
        check("[::1]:7", "[::1]:7");
        assert!(resolve("example.org:1").is_err());
        assert!(resolve("127.0.0.1:99999").is_err());
    }

    #[test]
    fn plain_tcp_for_everybody_must_be_asked_for() {
        let settings = Settings::default();
        assert!(open_one(&settings, "tcp://0.0.0.0:0").unwrap_err().contains("--tls=false"));
        assert!(open_one(&settings, "http://x").unwrap_err().contains("unable to parse"));
    }
}

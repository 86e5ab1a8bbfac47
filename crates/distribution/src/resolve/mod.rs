//! Names to addresses, without the C library: it would load the host's name service modules into this static executable.
//!
//! `/etc/hosts` first, then the servers of `/etc/resolv.conf` over UDP, and TCP where an answer does not fit. Both files are
//! read at every look-up, since they change when a machine moves between networks.

mod files;
mod message;

use files::Settings;
use message::{Answer, Family};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Why a name has no address. The texts are those of Go's resolver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no such name, or it has no address.
    #[error("lookup {name}: no such host")]
    NoHost {
        /// The name.
        name: String,
    },
    /// No server answered in time.
    #[error("lookup {name} on {server}: i/o timeout")]
    Timeout {
        /// The name.
        name: String,
        /// The last server.
        server: SocketAddr,
    },
    /// The servers could not tell.
    #[error("lookup {name} on {server}: server misbehaving")]
    Server {
        /// The name.
        name: String,
        /// The last server.
        server: SocketAddr,
    },
}

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct Resolver {
    hosts: PathBuf,
    settings: PathBuf,
    port: u16,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::with_files(Path::new("/etc/hosts"), Path::new("/etc/resolv.conf"))
    }
}

impl Resolver {
    /// With other files than the host's.
    pub fn with_files(hosts: &Path, settings: &Path) -> Resolver {
        Resolver { hosts: hosts.to_owned(), settings: settings.to_owned(), port: 53 }
    }

    /// The addresses of a name, at least one; an address stands for itself.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let text = std::fs::read_to_string(&self.hosts).unwrap_or_default();
        let addresses = files::hosts(&text, name);
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        // RFC 6761, section 6.3: these never go to a server.
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let settings = Settings::parse(&std::fs::read_to_string(&self.settings).unwrap_or_default());
        let mut last = LookupError::NoHost { name: name.to_owned() };
        for candidate in settings.candidates(name) {
            match self.ask_for_both(&settings, name, &candidate).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => return Ok(addresses),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// IPv6 first: connecting tries both kinds in turn. One kind is enough.
    async fn ask_for_both(&self, settings: &Settings, name: &str, full: &str) -> Result<Vec<IpAddr>, LookupError> {
        let (v6, v4) =
            tokio::join!(self.ask(settings, name, full, Family::V6), self.ask(settings, name, full, Family::V4));
        match (v6, v4) {
            (Ok(mut addresses), Ok(more)) => {
                addresses.extend(more);
                Ok(addresses)
            }
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask(
        &self,
        settings: &Settings,
        name: &str,
        full: &str,
        family: Family,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let mut last = LookupError::NoHost { name: name.to_owned() };
        for _ in 0..settings.attempts {
            for server in &settings.servers {
                let server = SocketAddr::new(*server, self.port);
                let name = name.to_owned();
                match tokio::time::timeout(settings.timeout, exchange(server, full, family)).await {
                    Ok(Ok(Answer::Addresses(addresses))) => return Ok(addresses),
                    Ok(Ok(Answer::NoName)) => return Ok(Vec::new()),
                    Ok(Ok(Answer::Failed | Answer::Truncated) | Err(_)) => last = LookupError::Server { name, server },
                    Err(_) => last = LookupError::Timeout { name, server },
                }
            }
        }
        Err(last)
    }
}

/// One question to one server.
async fn exchange(server: SocketAddr, name: &str, family: Family) -> io::Result<Answer> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let Some(query) = message::query(u16::from_ne_bytes(id), name, family) else { return Ok(Answer::NoName) };
    // A socket of its own has a port of its own: one more thing that a forger would have to guess.
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::answer(&query, &buffer[..length]) {
            // Somebody else's, or nonsense: the right one may still come.
            None => {}
            Some(Answer::Truncated) => return exchange_stream(server, &query).await,
            Some(answer) => return Ok(answer),
        }
    }
}

/// The same over TCP, where a length goes in front: RFC 7766, section 8.
async fn exchange_stream(server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message::answer(query, &message).unwrap_or(Answer::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(name: &str, answers: fn(&[u8]) -> Vec<u8>) -> Result<Vec<IpAddr>, LookupError> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let hosts = write("hosts", "192.0.2.9 known\n");
        let settings = write("resolv.conf", "nameserver 127.0.0.1\nsearch test\noptions timeout:1 attempts:1\n");
        // A port that nobody has for either.
        let (socket, port, stream) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = socket.local_addr().unwrap().port();
            if let Ok(stream) = tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                break (socket, port, stream);
            }
        };
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                tokio::select! {
                    received = socket.recv_from(&mut buffer) => {
                        let (length, peer) = received.unwrap();
                        socket.send_to(&answers(&buffer[..length]), peer).await.unwrap();
                    }
                    accepted = stream.accept() => {
                        let mut stream = accepted.unwrap().0;
                        let length = stream.read_u16().await.unwrap().into();
                        stream.read_exact(&mut buffer[..length]).await.unwrap();
                        let mut reply = message::tests::reply(&buffer[..length], 0, &[(None, 1, &[192, 0, 2, 77])]);
                        reply.splice(0..0, (reply.len() as u16).to_be_bytes());
                        stream.write_all(&reply).await.unwrap();
                    }
                }
            }
        });
        let result = Resolver { port, ..Resolver::with_files(&hosts, &settings) }.look_up(name).await;
        server.abort();
        result
    }

    fn is_v4(query: &[u8]) -> bool {
        query[query.len() - 3] == 1
    }

    fn usual(query: &[u8]) -> Vec<u8> {
        match (query.windows(5).any(|w| w == b"\x04test"), is_v4(query)) {
            (false, _) => message::tests::reply(query, 3, &[]),
            (true, true) => message::tests::reply(query, 0, &[(None, 1, &[192, 0, 2, 1])]),
            (true, false) => message::tests::reply(query, 0, &[]),
        }
    }

    #[tokio::test]
    async fn names() {
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(look_up("192.0.2.5", usual).await, Ok(vec!["192.0.2.5".parse().unwrap()]));
        assert_eq!(look_up("[::1]", usual).await, Ok(vec!["::1".parse().unwrap()]));
        assert_eq!(look_up("known", usual).await, Ok(vec!["192.0.2.9".parse().unwrap()]));
        assert_eq!(look_up("localhost", usual).await.unwrap().len(), 2);
        assert_eq!(look_up("a.test", usual).await, Ok(vec![one]));
        // Found by the search list.
        assert_eq!(look_up("a", usual).await, Ok(vec![one]));
        let error = look_up("a.org.", usual).await.unwrap_err();
        assert_eq!(error.to_string(), "lookup a.org.: no such host");
    }

    #[tokio::test]
    async fn servers_that_fail() {
        let failed = look_up("a.test.", |query| message::tests::reply(query, 2, &[])).await.unwrap_err();
        assert!(failed.to_string().ends_with("server misbehaving"), "{failed}");
        let silent = look_up("a.test.", |_| vec![1, 2, 3]).await.unwrap_err();
        assert!(silent.to_string().ends_with("i/o timeout"), "{silent}");
        let large = look_up("a.test.", |query| message::tests::reply(query, 0x0200, &[])).await;
        assert!(large.unwrap().contains(&"192.0.2.77".parse().unwrap()));
    }
}

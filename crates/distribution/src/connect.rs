//! From an origin to a byte stream: look-up, TCP to the first address that answers, a proxy's tunnel, TLS.

use crate::error::{CONNECTING, Cause, alert, chain};
use crate::hosts::Trust;
use crate::proxy::Proxy;
use crate::resolve::LookupError;
use crate::tls::Tls;
use crate::url::Origin;
use crate::{RegistryConfig, resolve::Resolver};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// A connected stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to an origin.
pub(crate) struct Connected {
    pub stream: Box<dyn Stream>,
    /// Set when requests go to a proxy as they are, with their whole URL and this header's value, if any.
    pub through: Option<Proxy>,
}

/// Makes connections.
pub(crate) struct Dialer {
    resolver: Resolver,
    proxies: crate::Proxies,
    limit: Duration,
    tls: Tls,
}

/// The head start of an address over the next one: RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// The longest answer to CONNECT that is read.
const LONGEST_ANSWER: usize = 16 * 1024;

impl Dialer {
    pub fn new(config: &RegistryConfig) -> Dialer {
        Dialer {
            resolver: config.resolver.clone(),
            proxies: config.proxies.clone(),
            limit: config.timeouts.connect,
            tls: Tls::new(config.authorities.clone()),
        }
    }

    pub async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        self.resolver.look_up(host).await
    }

    pub async fn connect(&self, origin: &Origin) -> Result<Connected, Cause> {
        tokio::time::timeout(self.limit, self.connect_unbounded(origin))
            .await
            .unwrap_or(Err(Cause::Timeout { what: CONNECTING, limit: self.limit }))
    }

    async fn connect_unbounded(&self, origin: &Origin) -> Result<Connected, Cause> {
        let Some(proxy) = self.proxies.choose(origin.is_https, &origin.host, origin.port) else {
            let stream = Box::new(self.dial(&origin.host, origin.port).await?);
            let stream =
                if origin.is_https { self.encrypt(stream, &origin.host, &origin.trust).await? } else { stream };
            return Ok(Connected { stream, through: None });
        };
        let dialled = self.dial(&proxy.host, proxy.port).await.map_err(|cause| Cause::Proxy(chain(&cause)))?;
        let mut stream: Box<dyn Stream> = Box::new(dialled);
        if proxy.is_encrypted {
            stream = self
                .encrypt(stream, &proxy.host, &Trust::default())
                .await
                .map_err(|cause| Cause::Proxy(chain(&cause)))?;
        }
        if !origin.is_https {
            return Ok(Connected { stream, through: Some(proxy.clone()) });
        }
        tunnel(&mut stream, origin, proxy).await?;
        let stream = self.encrypt(stream, &origin.host, &origin.trust).await?;
        Ok(Connected { stream, through: None })
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Cause> {
        let addresses = self.look_up(host).await.map_err(Cause::Lookup)?;
        let addresses = interleaved(&addresses).into_iter().map(|address| SocketAddr::new(address, port)).collect();
        first_to_answer(addresses).await
    }

    async fn encrypt(&self, stream: Box<dyn Stream>, host: &str, trust: &Trust) -> Result<Box<dyn Stream>, Cause> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| Cause::Tls(io::Error::other(error)))?;
        match TlsConnector::from(self.tls.config(trust)?).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_no_tls(&error) => Err(Cause::PlainHttp),
            Err(error) => Err(alert(&error).unwrap_or(Cause::Tls(error))),
        }
    }
}

/// A server that answered with something else than a TLS record.
fn is_no_tls(error: &io::Error) -> bool {
    matches!(
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
    )
}

/// Both families in turn, starting with the first address' one.
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let starts_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == starts_v6);
    let mut mixed = Vec::with_capacity(addresses.len());
    while !first.is_empty() || !second.is_empty() {
        mixed.extend((!first.is_empty()).then(|| first.remove(0)));
        mixed.extend((!second.is_empty()).then(|| second.remove(0)));
    }
    mixed
}

/// Connects to the addresses in turn, the next one when the last failed or took a while; the first connection wins.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<TcpStream, Cause> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        } else if attempts.is_empty() {
            return Err(last.unwrap_or(Cause::Closed));
        }
        let has_more = waiting.len() > 0;
        let finished = tokio::select! {
            finished = attempts.join_next() => finished,
            () = tokio::time::sleep(HEAD_START), if has_more => None,
        };
        match finished {
            Some(Ok((_, Ok(stream)))) => {
                // Requests are small and written at once.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Some(Ok((address, Err(source)))) => last = Some(Cause::Dial { address: address.to_string(), source }),
            Some(Err(_)) | None => {}
        }
    }
}

/// Asks a proxy for a tunnel: RFC 9110, section 9.3.6.
async fn tunnel(stream: &mut Box<dyn Stream>, origin: &Origin, proxy: &Proxy) -> Result<(), Cause> {
    let failed = |error: io::Error| Cause::Proxy(error.to_string());
    let target = format!("{}:{}", origin.host, origin.port);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.expose()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    // Byte by byte: what follows the head belongs to the tunnel.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > LONGEST_ANSWER {
            return Err(Cause::Proxy("the answer's head is too large".to_owned()));
        }
        head.push(stream.read_u8().await.map_err(failed)?);
    }
    let line = String::from_utf8_lossy(head.split(|&b| b == b'\r').next().unwrap_or_default()).into_owned();
    match line.split_whitespace().nth(1) {
        Some(status) if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(Cause::Proxy(
            line.split_once(' ').map_or("malformed answer", |(_, rest)| rest).chars().take(200).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(interleaved(&list(&["::1", "::2", "::3", "1.1.1.1"])), list(&["::1", "1.1.1.1", "::2", "::3"]));
        assert_eq!(interleaved(&list(&["1.1.1.1", "::1"])), list(&["1.1.1.1", "::1"]));
        assert!(interleaved(&[]).is_empty());
    }

    #[tokio::test]
    async fn the_second_address_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(first_to_answer(vec![unused, good]).await.is_ok());
        let error = first_to_answer(vec![unused]).await.err().unwrap();
        assert_eq!(error.to_string(), format!("dial tcp {unused}: connect: connection refused"));
    }
}

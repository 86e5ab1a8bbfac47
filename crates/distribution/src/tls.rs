//! The one place that chooses a TLS implementation, its cryptography and whom to trust.

use crate::error::Cause;
use crate::hosts::Trust;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fs, io};

/// TLS settings, made when they are first needed: reading the host's certificates takes milliseconds.
#[derive(Default)]
pub(crate) struct Tls {
    authorities: Vec<Vec<u8>>,
    roots: OnceLock<RootCertStore>,
    made: Mutex<HashMap<Trust, Arc<ClientConfig>>>,
}

/// More registries with certificates of their own than one daemon speaks to; beyond it all are read again.
const MOST_MADE: usize = 100;

impl Tls {
    /// Trusts these authorities (PEM) besides the host's.
    pub fn new(authorities: Vec<Vec<u8>>) -> Tls {
        Tls { authorities, ..Tls::default() }
    }

    /// The settings for whom this trusts.
    pub fn config(&self, trust: &Trust) -> Result<Arc<ClientConfig>, Cause> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(trust) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(trust)?);
        if made.len() >= MOST_MADE {
            made.clear();
        }
        made.insert(trust.clone(), config.clone());
        Ok(config)
    }

    fn make(&self, trust: &Trust) -> Result<ClientConfig, Cause> {
        let builder = if trust.is_blind {
            builder().dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        } else {
            let mut roots = self.roots.get_or_init(|| roots(&self.authorities)).clone();
            for file in &trust.authorities {
                let pem = fs::read(&file.path).map_err(unreadable(&file.path))?;
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            }
            builder().with_root_certificates(roots)
        };
        match trust.clients.first() {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain = fs::read(&certificate.path).map_err(unreadable(&certificate.path))?;
                let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).flatten().collect();
                let key_path = &key.path;
                let key = fs::read(key_path).map_err(unreadable(key_path))?;
                let key =
                    PrivateKeyDer::from_pem_slice(&key).map_err(io::Error::other).map_err(unreadable(key_path))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(io::Error::other).map_err(unreadable(&certificate.path))
            }
        }
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Cause {
    let path = path.display().to_string();
    move |error| Cause::Certificate(format!("{path}: {error}"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the versions it was built for")
}

/// The host's authorities, and those of the settings.
fn roots(authorities: &[Vec<u8>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("reading the host's certificates: {error}");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for pem in authorities {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    }
    roots
}

/// For registries that the administrator called insecure.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Mutual TLS for the server: TLS 1.3 only, HTTP/2 only.
//!
//! A client without a certificate may finish the handshake, so that it can be told what is missing; one with
//! a certificate of another authority may not. Configurations are taken from a channel at every handshake, so
//! rotating certificates closes no connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many handshakes may be under way at a time.
const MAX_HANDSHAKES: usize = 128;

/// How long to wait after `accept` failed, which it does while file descriptors are short.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates that clients are checked against are unusable.
    #[error("client CA certificates: {0}")]
    ClientCa(#[from] VerifierBuilderError),
    /// A certificate or key is unusable.
    #[error("server certificate or key: {0}")]
    Certificate(#[from] rustls::Error),
}

/// A server configuration from the server's chain and key, and the authorities of client certificates.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in client_authorities {
        roots.add(authority)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session has a certificate that was checked in an earlier one. Proxies connect rarely: each shows its own again, and
    // no sessions are kept.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Accepts on a Unix socket until `shutdown`.
pub(super) async fn accept_unix(
    listener: UnixListener,
    accepted: mpsc::Sender<io::Result<UnixStream>>,
    shutdown: CancellationToken,
) {
    while let Some(connection) = next(&shutdown, listener.accept()).await {
        let Some((stream, _)) = connection else { continue };
        if accepted.send(Ok(stream)).await.is_err() {
            return;
        }
    }
}

/// Accepts on a TCP socket and shakes hands until `shutdown`. A slow handshake delays no other.
pub(super) async fn accept_tls(
    listener: TcpListener,
    configs: watch::Receiver<Arc<ServerConfig>>,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    shutdown: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    while let Some(connection) = next(&shutdown, listener.accept()).await {
        let Some((stream, peer)) = connection else { continue };
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let acceptor = TlsAcceptor::from(Arc::clone(&configs.borrow()));
        let accepted = accepted.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Small responses must not wait for more bytes. Failing to set it costs latency only.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                // The server may be gone by now.
                Ok(Ok(stream)) => drop(accepted.send(Ok(stream)).await),
                Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
            }
        });
    }
}

/// The next connection; an inner nothing after a failure, an outer one at shutdown.
async fn next<T>(
    shutdown: &CancellationToken,
    accept: impl Future<Output = io::Result<T>>,
) -> Option<Option<T>> {
    let accepted = tokio::select! {
        () = shutdown.cancelled() => return None,
        accepted = accept => accepted,
    };
    match accepted {
        Ok(stream) => Some(Some(stream)),
        Err(error) => {
            tracing::warn!(%error, "accepting a connection failed");
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            Some(None)
        }
    }
}

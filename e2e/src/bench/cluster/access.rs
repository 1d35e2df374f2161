//! How a delta ADS client, or an Envoy, reaches the control plane under measurement: an address, a node, and the files of mutual
//! TLS where the port wants them.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use portolan_xds::{
    ads::client::{AdsClient, ClientOptions, StreamEnded, View},
    store::ResourceType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use super::BenchError;

/// More than a response has, so that flow control takes no part in what is measured.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) address: SocketAddr,
    pub(super) node_id: String,
    pub(super) tls: Option<Pems>,
}

/// What a client shows, and whom it trusts, as PEM.
#[derive(Debug, Clone)]
pub(super) struct Pems {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) authorities: String,
    /// The name that the server's certificate must have.
    pub(super) server_name: String,
}

/// The files of `--tls-*`.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whom to trust.
    pub authorities: PathBuf,
    /// The name in the server's certificate.
    pub server_name: String,
}

impl TlsFiles {
    pub(super) fn read(&self) -> Result<Pems, BenchError> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.map_err(|error| BenchError::Setting(format!("{}: {error}", path.display())))
        };
        Ok(Pems {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            authorities: read(&self.authorities)?,
            server_name: self.server_name.clone(),
        })
    }
}

impl Access {
    /// Opens a stream and subscribes to all clusters and listeners; `has` is what the client says that it has.
    pub(super) async fn open(&self, has: View) -> Result<AdsClient, BenchError> {
        let channel = match &self.tls {
            None => plain(self.address).await,
            Some(pems) => encrypted(self.address, pems).await?,
        };
        let channel = channel.map_err(|error| StreamEnded(Status::unavailable(format!("{error:?}"))))?;
        let options = ClientOptions {
            node_id: self.node_id.clone(),
            follow: true,
            has,
            first: vec![ResourceType::Cluster, ResourceType::Listener],
            ..ClientOptions::default()
        };
        Ok(AdsClient::open(channel, options).await?)
    }
}

async fn plain(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    endpoint(&format!("http://{address}"))?.connect().await
}

fn endpoint(uri: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(uri.to_owned())?;
    Ok(endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW))
}

async fn encrypted(
    address: SocketAddr,
    pems: &Pems,
) -> Result<Result<Channel, tonic::transport::Error>, BenchError> {
    let unusable = |what: &str, why: &dyn std::fmt::Display| BenchError::Setting(format!("{what}: {why}"));
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pems.authorities.as_bytes()) {
        let root = root.map_err(|error| unusable("the authorities", &error))?;
        roots.add(root).map_err(|error| unusable("the authorities", &error))?;
    }
    let chain = CertificateDer::pem_slice_iter(pems.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable("the certificate", &error))?;
    let key =
        PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).map_err(|error| unusable("the key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("the certificate", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(pems.server_name.clone())
        .map_err(|error| unusable("the server's name", &error))?;
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Ok(match endpoint("http://xds") {
        Ok(endpoint) => endpoint.connect_with_connector(connect).await,
        Err(error) => Err(error),
    })
}

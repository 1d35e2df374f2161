//! The connection to an API server.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::watch::chain;

/// Which API server, and as whom: in a pod its service account, elsewhere a kubeconfig.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Cluster {
    /// The kubeconfig. Without it: $KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; its current one where not given.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig.
    #[error("{path}: {message}")]
    Kubeconfig {
        /// Which.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Neither a kubeconfig nor a pod.
    #[error(
        "no cluster to talk to: {0}; name one with --kubeconfig or $KUBECONFIG, or run in a pod with a service account"
    )]
    Nowhere(String),
    /// The TLS configuration or the credentials.
    #[error("the API server's address or credentials cannot be used: {0}")]
    Client(String),
}

/// Connects. Nothing is sent yet.
///
/// # Errors
/// Where the configuration is missing or unusable.
pub async fn connect(cluster: &Cluster) -> Result<Client, ClusterError> {
    connect_to(cluster).await.map(|(client, _)| client)
}

/// As [`connect`], and the API server's address.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to(cluster: &Cluster) -> Result<(Client, String), ClusterError> {
    let mut config = configuration(cluster).await?;
    // Whoever calls tries again by itself, and knows when it is too late.
    config.default_retry = false;
    config.connect_timeout = Some(std::time::Duration::from_secs(10));
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| ClusterError::Client(chain(&error)))?;
    Ok((client, server))
}

async fn configuration(cluster: &Cluster) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let of = |path: &Path| {
        let path = path.display().to_string();
        move |error: kube::config::KubeconfigError| ClusterError::Kubeconfig {
            path: path.clone(),
            message: chain(&error),
        }
    };
    if let Some(path) = &cluster.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path).map_err(of(path))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(of(path));
    }
    if cluster.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(of(Path::new("kubeconfig")));
    }
    Config::infer().await.map_err(|error| ClusterError::Nowhere(chain(&error)))
}

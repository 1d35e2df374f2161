//! The authorities' Secret, shared by all replicas, and this replica's own certificate.
//!
//! Whoever comes first creates the Secret; the API server lets only one create it, and only one replace each version of
//! it, so that all replicas agree without a leader. A Secret that disappears is written again with what it held.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use portolan_crds::names::labels;
use rustls::ServerConfig;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::authorities::{Authorities, IdentityError, renewal};

/// The Secret's name.
pub const AUTHORITY_SECRET: &str = "portolan-authority";

/// How often the Secret is looked at. A new authority signs only after two days.
const ROUND: Duration = Duration::from_mins(1);
/// How often a lost race is run again before it is an error.
const RACES: usize = 10;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server.
    #[error("cannot {action} Secret {namespace}/{AUTHORITY_SECRET}: {source}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// The operator's namespace.
        namespace: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The Secret holds something else.
    #[error(
        "Secret {namespace}/{AUTHORITY_SECRET} cannot be used: {source}. Restore it; or delete it while the operator is stopped, and a new authority is made"
    )]
    Damaged {
        /// The operator's namespace.
        namespace: String,
        /// What is wrong.
        source: IdentityError,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Others were always faster.
    #[error("Secret {namespace}/{AUTHORITY_SECRET} changes faster than it can be read")]
    Races {
        /// The operator's namespace.
        namespace: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    secrets: Api<Secret>,
    namespace: String,
    host: String,
    authorities: watch::Sender<Arc<Authorities>>,
    server: watch::Sender<Arc<ServerConfig>>,
    renew_at: Instant,
}

impl Keeper {
    /// Reads the authorities from the operator's namespace, or makes them, and makes a certificate for `host`, the name
    /// by which proxies reach this server.
    ///
    /// # Errors
    /// Where the API server does not answer or refuses, or the Secret is damaged.
    pub async fn open(client: Client, namespace: &str, host: &str) -> Result<Self, KeeperError> {
        let secrets = Api::namespaced(client, namespace);
        let authorities = Arc::new(agree(&secrets, namespace, None).await?);
        let config = authorities.server_config(host, Timestamp::now())?;
        Ok(Self {
            secrets,
            namespace: namespace.to_owned(),
            host: host.to_owned(),
            authorities: watch::Sender::new(authorities),
            server: watch::Sender::new(config),
            renew_at: Instant::now() + renewal(),
        })
    }

    /// The authorities, as they change.
    pub fn authorities(&self) -> watch::Receiver<Arc<Authorities>> {
        self.authorities.subscribe()
    }

    /// The configuration of the TLS server, as it is renewed.
    pub fn server_configs(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.server.subscribe()
    }

    /// Keeps everything fresh until `shutdown`. What fails is tried again; what there is stays in use.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::error!(%error, "the identity of the xDS server is not kept; trying again");
            }
        }
    }

    /// One look at the Secret: takes in what other replicas wrote, writes what is due or missing, renews the server's
    /// certificate when it is time.
    ///
    /// # Errors
    /// As [`Keeper::open`]; what there was stays in use.
    pub async fn refresh(&mut self) -> Result<(), KeeperError> {
        let known = Arc::clone(&self.authorities.borrow());
        let authorities = Arc::new(agree(&self.secrets, &self.namespace, Some(&known)).await?);
        let changed = authorities.bundle() != known.bundle();
        if changed {
            tracing::info!("the authorities of the xDS server have changed");
        }
        if changed || Instant::now() >= self.renew_at {
            let config = authorities.server_config(&self.host, Timestamp::now())?;
            self.server.send_replace(config);
            self.renew_at = Instant::now() + renewal();
        }
        if changed {
            self.authorities.send_replace(authorities);
        }
        Ok(())
    }
}

/// What the Secret holds, after it was created or renewed where that is due.
async fn agree(
    secrets: &Api<Secret>,
    namespace: &str,
    known: Option<&Authorities>,
) -> Result<Authorities, KeeperError> {
    let failed = |action: &'static str| {
        move |error: kube::Error| KeeperError::Api {
            action,
            namespace: namespace.to_owned(),
            source: Box::new(error),
        }
    };
    for _ in 0..RACES {
        let now = Timestamp::now();
        let found = secrets.get_opt(AUTHORITY_SECRET).await.map_err(failed("read"))?;
        let Some(found) = found else {
            let authorities = match known {
                Some(known) => known.clone(),
                None => Authorities::new(now)?,
            };
            match secrets.create(&PostParams::default(), &secret(&authorities, None)).await {
                Ok(_) => return Ok(authorities),
                Err(error) if lost(&error) => continue,
                Err(error) => return Err(failed("create")(error)),
            }
        };
        let data: BTreeMap<_, _> =
            found.data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0)).collect();
        let authorities = Authorities::read(&data)
            .map_err(|source| KeeperError::Damaged { namespace: namespace.to_owned(), source })?;
        let Some(renewed) = authorities.renewed(now)? else { return Ok(authorities) };
        let next = secret(&renewed, found.metadata.resource_version);
        match secrets.replace(AUTHORITY_SECRET, &PostParams::default(), &next).await {
            Ok(_) => return Ok(renewed),
            Err(error) if lost(&error) => {}
            Err(error) => return Err(failed("replace")(error)),
        }
    }
    Err(KeeperError::Races { namespace: namespace.to_owned() })
}

/// Another replica was faster: 409, or 404 where it was deleted meanwhile.
fn lost(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409) && !is_missing_namespace(status))
}

/// Creating an object in a namespace that does not exist is 404, too, and not a race.
fn is_missing_namespace(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

fn secret(authorities: &Authorities, resource_version: Option<String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(AUTHORITY_SECRET.to_owned()),
            labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_PORTOLAN.to_owned())].into()),
            resource_version,
            ..ObjectMeta::default()
        },
        type_: Some("portolan.dev/authority".to_owned()),
        data: Some(authorities.write().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect()),
        ..Secret::default()
    }
}

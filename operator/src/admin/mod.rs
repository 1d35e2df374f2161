//! The admin endpoint: health, metrics, status, and the state of every stage for people. Read-only, and no secret is
//! ever shown.
//!
//! | path | what |
//! |---|---|
//! | `/healthz` | 200 while the control plane answers |
//! | `/readyz` | 200 once every kind has been read; else 503 and why not |
//! | `/metrics` | OpenMetrics text |
//! | `/status` | inputs, problems, Gateways with addresses and proxies, and every object's status |
//! | `/debug/world` | the objects; `?object=Kind/namespace/name` shows one as Portolan understood it |
//! | `/debug/ir` | what each Gateway's proxies should do; `?gateway=namespace/name` shows one |
//! | `/debug/xds` | the Envoy resources of each Gateway; `?gateway=` likewise |
//! | `/debug/streams` | connected proxies and what they acknowledged |

mod debug;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use portolan_xds::ads::SharedRegistry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    runtime::{Core, Handle},
};

/// A control plane that does not answer this long is not healthy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What differs between a standalone and an operator in a cluster.
pub trait Surroundings: Send + Sync + 'static {
    /// What this process serves, as fields of `/status` (inputs, process id).
    fn about(&self) -> Vec<(&'static str, Value)>;

    /// How a Gateway's proxies are.
    fn proxy(&self, gateway: &crate::model::ObjectKey) -> Value;

    /// Why the process as a whole is not ready although everything has been read.
    fn not_ready(&self) -> Option<String>;
}

/// What the endpoint shows.
#[derive(Clone)]
pub struct Admin {
    /// The control plane.
    pub handle: Handle,
    /// Connected proxies.
    pub registry: Arc<SharedRegistry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The rest.
    pub surroundings: Arc<dyn Surroundings>,
}

#[derive(Deserialize)]
struct Filter {
    object: Option<String>,
    gateway: Option<String>,
}

impl Admin {
    /// Serves it on a Unix socket until `shutdown`. The caller sets the file's permissions.
    ///
    /// # Errors
    /// Where the socket breaks.
    pub async fn serve_unix(
        self,
        listener: UnixListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }

    /// Serves it on a TCP socket until `shutdown`.
    ///
    /// # Errors
    /// Where the socket breaks.
    pub async fn serve_tcp(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/debug/world", get(world))
            .route("/debug/ir", get(ir))
            .route("/debug/xds", get(xds))
            .route("/debug/streams", get(streams))
            .with_state(self)
    }

    /// Asks the core; an answer in plain words where it does not give one.
    async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Response> {
        match tokio::time::timeout(PATIENCE, self.handle.ask(look)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(stopped)) => Err(unavailable(&stopped.to_string())),
            Err(_) => {
                Err(unavailable(&format!("the control plane has not answered for {} s", PATIENCE.as_secs())))
            }
        }
    }
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

fn missing(what: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{what}\n")).into_response()
}

/// An answer that may be megabytes: it is written on a thread of its own, as the one that asks for the Lease is shared.
async fn large(value: Value) -> Response {
    let written = tokio::task::spawn_blocking(move || Json(value).into_response()).await;
    written.unwrap_or_else(|error| unavailable(&format!("the answer cannot be written: {error}")))
}

async fn healthz(State(admin): State<Admin>) -> Response {
    match admin.ask(|_| ()).await {
        Ok(()) => "ok\n".into_response(),
        Err(response) => response,
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.ask(|core| core.is_synced()).await {
        Ok(true) => match admin.surroundings.not_ready() {
            None => "ok\n".into_response(),
            Some(why) => unavailable(&why),
        },
        Ok(false) => {
            let why = admin.surroundings.not_ready();
            unavailable(&why.unwrap_or_else(|| "the first sync is not complete".into()))
        }
        Err(response) => response,
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => unavailable(&format!("metrics cannot be written: {error}")),
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    let surroundings = Arc::clone(&admin.surroundings);
    let looked = admin.ask(move |core| debug::status(core, &*surroundings)).await;
    match looked {
        Ok(mut status) => {
            for (name, value) in admin.surroundings.about() {
                status.insert(name.to_owned(), value);
            }
            large(Value::Object(status)).await
        }
        Err(response) => response,
    }
}

async fn world(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Response {
    match filter.object {
        None => match admin.ask(debug::world).await {
            Ok(world) => large(world).await,
            Err(response) => response,
        },
        Some(name) => {
            let wanted = match name.parse() {
                Ok(key) => key,
                Err(error) => {
                    let error: crate::model::InvalidObjectKey = error;
                    return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
                }
            };
            match admin
                .ask(move |core| core.engine().world().get(&wanted).map(|it| format!("{it:#?}\n")))
                .await
            {
                Ok(Some(text)) => text.into_response(),
                Ok(None) => missing(&format!("there is no {name}")),
                Err(response) => response,
            }
        }
    }
}

async fn ir(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Response {
    by_gateway(&admin, filter.gateway, Core::pieces).await
}

async fn xds(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Response {
    by_gateway(&admin, filter.gateway, |core, gateway| {
        Some(core.resources(gateway)?.unwrap_or_else(|error| json!({"error": error.to_string()})))
    })
    .await
}

async fn by_gateway(
    admin: &Admin,
    wanted: Option<String>,
    look: fn(&Core, &crate::model::ObjectKey) -> Option<Value>,
) -> Response {
    let filter = wanted.clone();
    let looked = admin
        .ask(move |core| {
            let all = core.gateways().map(|key| (format!("{}/{}", key.namespace, key.name), key));
            all.filter(|(name, _)| filter.as_ref().is_none_or(|wanted| wanted == name))
                .filter_map(|(name, key)| Some((name, look(core, key)?)))
                .collect::<serde_json::Map<_, _>>()
        })
        .await;
    match (looked, wanted) {
        (Err(response), _) => response,
        (Ok(shown), Some(wanted)) if shown.is_empty() => {
            missing(&format!("there is no Gateway {wanted}: expected <namespace>/<name>"))
        }
        (Ok(shown), _) => large(Value::Object(shown)).await,
    }
}

async fn streams(State(admin): State<Admin>) -> Response {
    large(admin.registry.read(|registry| json!(registry))).await
}

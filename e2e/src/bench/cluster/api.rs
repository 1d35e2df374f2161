//! Writes objects, and says when each write returned (t0). As little as possible is made of the answers: what is measured runs on
//! the same processors.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{Client, Config};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::BenchError;

/// How many objects are written at the same time where nothing else is said.
pub(super) const WRITERS: usize = 8;

/// The kinds that benchmarks write or watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Class,
    Gateway,
    Route,
    Service,
    Slice,
    Secret,
    ConfigMap,
    Namespace,
    Deployment,
    ServiceAccount,
}

impl Kind {
    /// Where its objects are: all of them, or those of a namespace.
    pub(super) fn path(self, namespace: &str) -> String {
        let (api, plural) = match self {
            Self::Class => ("/apis/gateway.networking.k8s.io/v1", "gatewayclasses"),
            Self::Gateway => ("/apis/gateway.networking.k8s.io/v1", "gateways"),
            Self::Route => ("/apis/gateway.networking.k8s.io/v1", "httproutes"),
            Self::Service => ("/api/v1", "services"),
            Self::Slice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Secret => ("/api/v1", "secrets"),
            Self::ConfigMap => ("/api/v1", "configmaps"),
            Self::Namespace => ("/api/v1", "namespaces"),
            Self::Deployment => ("/apis/apps/v1", "deployments"),
            Self::ServiceAccount => ("/api/v1", "serviceaccounts"),
        };
        if namespace.is_empty() {
            format!("{api}/{plural}")
        } else {
            format!("{api}/namespaces/{namespace}/{plural}")
        }
    }
}

/// An object to write: of a kind, in a namespace (empty for none).
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) body: Value,
}

/// A write that returned.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// When (t0).
    pub(super) at: Instant,
    /// The version that it made: the watch names the same.
    pub(super) version: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Answer {
    metadata: AnswerMetadata,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerMetadata {
    resource_version: String,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
}

impl Writer {
    /// Connects to the API server that $KUBECONFIG names.
    pub(super) async fn connect() -> Result<Self, BenchError> {
        Ok(Self { client: client().await? })
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an object.
    pub(super) async fn create(&self, object: &Object) -> Result<Written, BenchError> {
        self.send("POST", object.kind.path(&object.namespace), &object.body).await
    }

    /// Creates an object unless it exists.
    pub(super) async fn ensure(&self, object: &Object) -> Result<(), BenchError> {
        match self.create(object).await {
            Err(BenchError::Api(error)) if is_status(&error, 409) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Merges a patch into an object; `of` is its kind, namespace and name, with `/status` where that is meant.
    pub(super) async fn patch(&self, of: (Kind, &str, &str), patch: &Value) -> Result<Written, BenchError> {
        let (kind, namespace, name) = of;
        self.send("PATCH", format!("{}/{name}", kind.path(namespace)), patch).await
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, of: (Kind, &str, &str)) -> Result<Instant, BenchError> {
        let (kind, namespace, name) = of;
        let request = request("DELETE", format!("{}/{name}", kind.path(namespace)), Vec::new())?;
        let _: IgnoredAny = self.client.request(request).await?;
        Ok(Instant::now())
    }

    /// Deletes all objects of a kind in a namespace.
    pub(super) async fn delete_all(&self, kind: Kind, namespace: &str) -> Result<(), BenchError> {
        let request = request("DELETE", kind.path(namespace), Vec::new())?;
        let _: IgnoredAny = self.client.request(request).await?;
        Ok(())
    }

    /// The objects of a kind in a namespace, or everywhere.
    pub(super) async fn list(&self, kind: Kind, namespace: &str) -> Result<Vec<Value>, BenchError> {
        let request = request("GET", kind.path(namespace), Vec::new())?;
        let mut list: Value = self.client.request(request).await?;
        let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
        Ok(items.unwrap_or_default())
    }

    /// Creates many objects, several at the same time; gives when the last write returned.
    pub(super) async fn create_all(
        &self,
        objects: impl Iterator<Item = Object> + Send,
    ) -> Result<Instant, BenchError> {
        let writes = futures::stream::iter(objects.map(|object| async move { self.create(&object).await }));
        writes.buffer_unordered(WRITERS).try_fold((), async |(), _| Ok(())).await?;
        Ok(Instant::now())
    }

    /// Deletes many objects, several at the same time; gives when the last write returned.
    pub(super) async fn delete_many(
        &self,
        kind: Kind,
        namespace: &str,
        names: impl Iterator<Item = String> + Send,
    ) -> Result<Instant, BenchError> {
        let deletes = names.map(|name| async move { self.delete((kind, namespace, &name)).await });
        let deletes = futures::stream::iter(deletes).buffer_unordered(WRITERS);
        deletes.try_fold((), async |(), _| Ok(())).await?;
        Ok(Instant::now())
    }

    async fn send(&self, method: &str, path: String, body: &Value) -> Result<Written, BenchError> {
        let request = request(method, path, body.to_string().into_bytes())?;
        let answer: Answer = self.client.request(request).await?;
        Ok(Written { at: Instant::now(), version: answer.metadata.resource_version })
    }
}

/// A client of one's own: its connections are nobody else's.
pub(super) async fn client() -> Result<Client, BenchError> {
    let mut config = Config::infer().await.map_err(|error| BenchError::Server(error.to_string()))?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn request(method: &str, path: String, body: Vec<u8>) -> Result<http::Request<Vec<u8>>, BenchError> {
    let format = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", format)
        .body(body)
        .map_err(|error| BenchError::Setting(error.to_string()))
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

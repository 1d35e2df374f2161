//! An API server in memory, for fast tests of what Portolan does with the answers of a real one: lists in pages, watches
//! with history and its end (410 Gone), writes with versions (409 Conflict), refusals and silence on demand.
//!
//! It is as strict as those tests need and no stricter: no schemas, no defaults, no roles but the refusals a test asks for.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Method, Request, Response, body::Frame};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{model::Kind, source::kubernetes::resource};

/// One change, as a watch tells it.
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    collection: String,
    what: &'static str,
    object: Value,
}

#[derive(Debug, Default)]
struct State {
    /// By path: `/api/v1/namespaces/d/secrets/s`.
    objects: BTreeMap<String, Value>,
    version: u64,
    history: Vec<Entry>,
    /// Watches from before this version get 410.
    compacted: u64,
    /// Answers with this status while the request matches; `method path`, as a part of it.
    refusals: Vec<(String, u16)>,
    /// Matching requests get no answer.
    silences: Vec<String>,
    requests: Vec<String>,
    /// In which version ClusterTrustBundles are served.
    bundles: Option<&'static str>,
    /// Watches that are older end.
    epoch: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Twin {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let twin = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let twin = twin.clone();
            async move { Ok::<_, Infallible>(twin.answer(request).await) }
        });
        Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Installs the CRDs of all kinds that have one.
    pub(crate) fn install_crds(&self) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.group().contains("gateway")) {
            self.install_crd(kind);
        }
    }

    /// Installs a kind's CRD.
    pub(crate) fn install_crd(&self, kind: Kind) {
        let resource = resource(kind);
        self.put(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{}.{}", resource.plural, resource.group),
                "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.7.0"},
            },
            "spec": {"versions": [{"name": resource.version, "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        }));
    }

    /// Puts an object in place, as somebody else would. A changed spec raises the generation.
    pub(crate) fn put(&self, mut object: Value) -> Value {
        let path = path(&object);
        let mut state = self.state();
        let old = state.objects.get(&path).cloned();
        if let Some(old) = &old {
            let changed = old["spec"] != object["spec"];
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1) + i64::from(changed);
            object["metadata"]["generation"] = generation.into();
            object["metadata"]["uid"] = old["metadata"]["uid"].clone();
        } else {
            object["metadata"]["generation"] = 1.into();
            object["metadata"]["uid"] = format!("uid-{}", state.version + 1).into();
        }
        state.store(&path, object, if old.is_some() { "MODIFIED" } else { "ADDED" });
        let stored = state.objects.get(&path).cloned().unwrap();
        drop(state);
        self.changed.send_modify(|turn| *turn += 1);
        stored
    }

    /// An object as it is now, by kind, namespace and name.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&path(&identity(kind, namespace, name))).cloned()
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        let path = path(&identity(kind, namespace, name));
        let mut state = self.state();
        let object = state.objects.get(&path).cloned().expect("it exists");
        state.store(&path, object, "DELETED");
        drop(state);
        self.changed.send_modify(|turn| *turn += 1);
    }

    /// Forgets the history: watches that go on from before get 410, and those that run break off.
    pub(crate) fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version + 1;
        state.version += 1;
        drop(state);
        self.cut();
    }

    /// Breaks all watches.
    pub(crate) fn cut(&self) {
        self.state().epoch += 1;
        self.changed.send_modify(|turn| *turn += 1);
    }

    /// Answers requests that contain `part` (of `METHOD /path?query`) with this status; zero ends it.
    pub(crate) fn refuse(&self, part: &str, status: u16) {
        let mut state = self.state();
        state.refusals.retain(|(other, _)| other != part);
        if status != 0 {
            state.refusals.push((part.to_owned(), status));
        }
    }

    /// Gives no answer to requests that contain `part`.
    pub(crate) fn silence(&self, part: &str) {
        self.state().silences.push(part.to_owned());
    }

    /// Serves ClusterTrustBundles in this version, or not at all: what an administrator's feature gate does.
    pub(crate) fn serve_bundles(&self, version: Option<&'static str>) {
        self.state().bundles = version;
    }

    /// The requests so far that contain `part`.
    pub(crate) fn requests(&self, part: &str) -> Vec<String> {
        self.state().requests.iter().filter(|request| request.contains(part)).cloned().collect()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let asked = format!("{} {}", parts.method, parts.uri);
        let refusal = {
            let mut state = self.state();
            state.requests.push(asked.clone());
            if state.silences.iter().any(|part| asked.contains(part)) {
                None
            } else {
                Some(state.refusals.iter().find(|(part, _)| asked.contains(part)).map(|(_, status)| *status))
            }
        };
        let Some(refusal) = refusal else { return std::future::pending().await };
        if let Some(status) = refusal {
            return failure(status, "refused by the test");
        }
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=").replace("%2F", "/")))
            .collect();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match parts.method {
            Method::GET if query.get("watch").is_some_and(|it| it == "true" || it == "1") => {
                self.watch(path, &query)
            }
            Method::GET => self.read(&path, &query),
            method => {
                let answer = self.write(&method, &path, &body);
                self.changed.send_modify(|turn| *turn += 1);
                answer
            }
        }
    }

    fn read(&self, path: &str, query: &BTreeMap<String, String>) -> Answer {
        let state = self.state();
        if let Some(answer) = discovery(state.bundles, path) {
            return answer;
        }
        if let Some(object) = state.objects.get(path) {
            return success(object);
        }
        if !is_collection(path) {
            return failure(404, "not found");
        }
        let all: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(at, object)| in_collection(at, path) && selected(object, query))
            .map(|(_, object)| object)
            .collect();
        // Pages of the size that was asked for, continued by position: nothing changes in between here.
        let start = query.get("continue").and_then(|at| at.parse::<usize>().ok()).unwrap_or(0);
        let size = query.get("limit").and_then(|it| it.parse::<usize>().ok()).unwrap_or(usize::MAX);
        let end = start.saturating_add(size).min(all.len());
        let more = if end < all.len() { end.to_string() } else { String::new() };
        success(&json!({
            "apiVersion": "v1", "kind": "List", "items": &all[start..end],
            "metadata": {"resourceVersion": state.version.to_string(), "continue": more},
        }))
    }

    fn watch(&self, path: String, query: &BTreeMap<String, String>) -> Answer {
        let mut after: u64 = query["resourceVersion"].parse().unwrap();
        let (epoch, gone) = {
            let state = self.state();
            (state.epoch, after < state.compacted)
        };
        if gone {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
            let line = json!({"type": "ERROR", "object": status}).to_string() + "\n";
            return Response::new(Full::new(Bytes::from(line)).boxed_unsync());
        }
        let (twin, query) = (self.clone(), query.clone());
        let changed = self.changed.subscribe();
        let lines = move || {
            let state = twin.state();
            if state.epoch > epoch {
                return None;
            }
            let new = state.history.iter().filter(|entry| entry.version > after);
            let lines: String = new
                .filter(|entry| in_collection(&entry.collection, &path) && selected(&entry.object, &query))
                .map(|entry| json!({"type": entry.what, "object": entry.object}).to_string() + "\n")
                .collect();
            after = state.version;
            Some(lines)
        };
        let stream = futures::stream::unfold(lines, move |mut lines| {
            let mut changed = changed.clone();
            async move {
                loop {
                    changed.mark_unchanged();
                    let text = lines()?;
                    if !text.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(text))), lines));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        Response::new(StreamBody::new(stream.boxed()).boxed_unsync())
    }

    fn write(&self, method: &Method, path: &str, body: &Value) -> Answer {
        let (path, status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut state = self.state();
        if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap();
            let path = format!("{path}/{name}");
            if state.objects.contains_key(&path) {
                return failure(409, "AlreadyExists");
            }
            let mut object = body.clone();
            object["metadata"]["uid"] = format!("uid-{}", state.version + 1).into();
            state.store(&path, object, "ADDED");
            return success(&state.objects[&path]);
        }
        let Some(old) = state.objects.get(path).cloned() else {
            // Server-side apply makes what is not there; whoever patches by version knows that it is.
            if *method == Method::PATCH && !status && body["metadata"]["resourceVersion"].is_null() {
                let mut object = body.clone();
                object["metadata"]["uid"] = format!("uid-{}", state.version + 1).into();
                run(&mut object);
                state.store(path, object, "ADDED");
                return success(&state.objects[path]);
            }
            return failure(404, "not found");
        };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        let mut new = old.clone();
        match *method {
            Method::PUT => new = body.clone(),
            Method::PATCH if status => merge_patch(&mut new["status"], &body["status"]),
            Method::PATCH => {
                let mut change = body.clone();
                change.as_object_mut().unwrap().remove("status");
                merge_patch(&mut new, &change);
            }
            _ => return failure(405, "not here"),
        }
        if new != old {
            state.store(path, new, "MODIFIED");
        }
        success(&state.objects[path])
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value, what: &'static str) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if what == "DELETED" {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.to_owned(), object.clone());
        }
        self.history.push(Entry { version: self.version, collection: path.to_owned(), what, object });
    }
}

/// What the controllers of a cluster make of a fleet's objects, at once: a Service gets an address, a Deployment pods.
fn run(object: &mut Value) {
    match object["kind"].as_str() {
        Some("Service") => object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
        Some("Deployment") => object["status"] = json!({"readyReplicas": 1}),
        _ => {}
    }
}

fn identity(kind: Kind, namespace: &str, name: &str) -> Value {
    let resource = resource(kind);
    let namespace = (!namespace.is_empty()).then_some(namespace);
    json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": name, "namespace": namespace},
    })
}

/// Discovery, as far as it is asked: certificates.k8s.io has other kinds in any case.
fn discovery(bundles: Option<&str>, path: &str) -> Option<Answer> {
    let group = Kind::ClusterTrustBundle.group();
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["list", "watch"]});
    let resources = |version: &str| {
        let other =
            (version == "v1").then(|| resource("certificatesigningrequests", "CertificateSigningRequest"));
        let bundles =
            (Some(version) == bundles).then(|| resource("clustertrustbundles", "ClusterTrustBundle"));
        other.into_iter().chain(bundles).collect::<Vec<_>>()
    };
    if path == "/apis" {
        let versions = ["v1", "v1beta1"].into_iter().filter(|version| !resources(version).is_empty());
        let versions: Vec<_> = versions
            .map(|version| json!({"version": version, "groupVersion": format!("{group}/{version}")}))
            .collect();
        return Some(success(&json!({
            "kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": group, "versions": versions}],
        })));
    }
    let version = path.strip_prefix(&format!("/apis/{group}/"))?;
    if version.contains('/') {
        return None;
    }
    Some(success(&json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
        "resources": resources(version),
    })))
}

/// Where an object is.
fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let gvk = kube::core::GroupVersionKind::gvk(group, version, &text(&object["kind"]));
    let plural = kube::core::ApiResource::from_gvk(&gvk).plural;
    let namespace = text(&object["metadata"]["namespace"]);
    let namespace = if namespace.is_empty() { namespace } else { format!("/namespaces/{namespace}") };
    format!("{root}{namespace}/{plural}/{}", text(&object["metadata"]["name"]))
}

/// `/api/v1/secrets` and `/api/v1/namespaces/d/secrets` are collections.
fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let after_version = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    matches!(after_version, [_] | ["namespaces", _, _])
}

/// Whether an object's path lies in a collection, of one namespace or of all.
fn in_collection(object: &str, collection: &str) -> bool {
    let Some((of_object, _)) = object.rsplit_once('/') else { return false };
    if of_object == collection {
        return true;
    }
    let Some((root, plural)) = collection.rsplit_once('/') else { return false };
    let inner = of_object.strip_prefix(root).and_then(|it| it.strip_prefix("/namespaces/"));
    inner.is_some_and(|it| it.split_once('/').is_some_and(|(_, kind)| kind == plural))
}

fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let by_field = query.get("fieldSelector").is_none_or(|selector| {
        let (field, value) = selector.split_once('=').unwrap();
        let found = field.split('.').fold(object, |at, name| &at[name]);
        found == value
    });
    let by_label = query.get("labelSelector").is_none_or(|label| match label.split_once('=') {
        Some((label, value)) => object["metadata"]["labels"][label] == value,
        None => object["metadata"]["labels"][label.as_str()].is_string(),
    });
    by_field && by_label
}

/// RFC 7396.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge_patch(&mut target[name], value);
        }
    }
}

fn success(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

fn failure(code: u16, message: &str) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 if message == "AlreadyExists" => "AlreadyExists",
        409 => "Conflict",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    let mut answer = success(&status);
    *answer.status_mut() = hyper::StatusCode::from_u16(code).unwrap();
    answer
}

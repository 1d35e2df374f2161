//! The authority of the proxies' certificates, in a Secret of a real API server, by an account that has nothing but the shipped roles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use portolan::identity::{AUTHORITY_SECRET, Authorities, Keeper};
use portolan_e2e::apiserver::{ApiServer, Objects, client};
use serde_json::json;

/// The operator's own namespace, and an account with its role.
async fn system() -> (Objects, String, Client) {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("system").await;
    let client = client(server.with_shipped_roles(&namespace).await).await;
    (objects, namespace, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_agree_on_one_authority() {
    let (objects, namespace, client) = system().await;
    let open = || Keeper::open(client.clone(), &namespace, "portolan.portolan-system.svc");
    let keepers = futures::future::join_all((0..8).map(|_| open())).await;
    let bundles: BTreeSet<_> =
        keepers.into_iter().map(|keeper| keeper.unwrap().authorities().borrow().bundle()).collect();
    assert_eq!(bundles.len(), 1);
    let later = open().await.unwrap();
    assert_eq!(later.authorities().borrow().bundle(), *bundles.first().unwrap());
    let secrets: Api<Secret> = Api::namespaced(objects.client().clone(), &namespace);
    let data = secrets.get(AUTHORITY_SECRET).await.unwrap().data.unwrap();
    assert_eq!(data.len(), 2, "{:?}", data.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_kept_and_another_one_taken_up() {
    let (objects, namespace, client) = system().await;
    let host = "portolan.portolan-system.svc";
    let mut keeper = Keeper::open(client.clone(), &namespace, host).await.unwrap();
    let (mut authorities, mut server) = (keeper.authorities(), keeper.server_configs());
    let first = authorities.borrow_and_update().bundle();
    server.mark_unchanged();
    keeper.refresh().await.unwrap();
    assert!(!authorities.has_changed().unwrap() && !server.has_changed().unwrap(), "nothing was due");
    let secrets: Api<Secret> = Api::namespaced(objects.client().clone(), &namespace);
    let stored = secrets.get(AUTHORITY_SECRET).await.unwrap();
    secrets.delete(AUTHORITY_SECRET, &kube::api::DeleteParams::default()).await.unwrap();
    keeper.refresh().await.unwrap();
    assert_eq!(
        secrets.get(AUTHORITY_SECRET).await.unwrap().data,
        stored.data,
        "what is in use is written again"
    );
    assert!(!authorities.has_changed().unwrap());
    // Another replica made a successor.
    let entries = |all: &Authorities| {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let all = all.write().into_iter().map(|(name, bytes)| (name, text(bytes)));
        all.collect::<BTreeMap<_, _>>()
    };
    let successor = entries(&Authorities::new(Timestamp::now()).unwrap());
    objects.patch("v1", "Secret", &namespace, AUTHORITY_SECRET, &json!({"stringData": successor})).await;
    keeper.refresh().await.unwrap();
    let both = authorities.borrow_and_update().bundle();
    assert!(both.contains(first.trim()), "the old one is trusted still");
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(server.has_changed().unwrap(), "the server lets in clients of both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_authority_is_named_and_never_overwritten() {
    let (objects, namespace, client) = system().await;
    let open = || Keeper::open(client.clone(), &namespace, "portolan.portolan-system.svc");
    open().await.unwrap();
    let key = ("v1", "Secret", namespace.as_str(), AUTHORITY_SECRET);
    let secret = objects.get(key).await.unwrap();
    let mut entries = secret["data"].as_object().unwrap().keys();
    let entry =
        entries.find(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "key")).unwrap().clone();
    objects.patch("v1", "Secret", &namespace, AUTHORITY_SECRET, &json!({"data": {entry: "eA=="}})).await;
    let damaged = objects.get(key).await.unwrap();
    let error = open().await.unwrap_err().to_string();
    assert!(error.contains(AUTHORITY_SECRET) && error.contains("delete it"), "{error}");
    assert_eq!(objects.get(key).await.unwrap(), damaged);
}

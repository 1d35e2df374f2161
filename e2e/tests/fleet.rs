//! Fleets in a real API server, by an account that has nothing but the shipped roles. No controller runs there: what a
//! Deployment or a load balancer would do, the test does.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, atomic::Ordering};

use jiff::Timestamp;
use kube::Api;
use portolan::{
    fleet::cluster::{FleetState, Front, addresses::Address, fleet_name},
    identity::Authorities,
};
use portolan_e2e::apiserver::{FleetRig, settings, until, version};
use serde_json::{Value, json};

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_made_owned_and_told() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let name = fleet.name();
    for (kind, name) in [
        ("Secret", fleet.identity_name()),
        ("ServiceAccount", name.clone()),
        ("Service", name.clone()),
        ("Deployment", name.clone()),
        ("PodDisruptionBudget", name.clone()),
    ] {
        let object = rig.until(kind, &name, "is made", |_| true).await;
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(
            (owner["kind"].as_str(), owner["uid"].as_str()),
            (Some("Gateway"), Some(&*fleet.uid)),
            "{kind}"
        );
        assert_eq!(object["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"], "web", "{kind}");
        assert_eq!(object["metadata"]["labels"]["team"], "apps", "{kind}");
    }
    rig.assign(&name, "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [ip("192.0.2.7")]).await;
    rig.patch_status("Deployment", &name, &json!({"status": {"replicas": 2, "readyReplicas": 2}})).await;
    rig.until_told(&fleet, "the proxies", |state| state.ready == 2 && state.trouble.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_pass_pod_security_restricted() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    let deployment = rig.until("Deployment", &fleet.name(), "is made", |_| true).await;
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "probe".into();
    pod["metadata"]["namespace"] = rig.namespace.clone().into();
    // The namespace enforces it: a pod that breaks it is refused.
    rig.objects.apply(&pod.to_string()).await;
    pod["metadata"]["name"] = "loose".into();
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let pods: Api<kube::core::DynamicObject> = Api::namespaced_with(
        rig.objects.client().clone(),
        &rig.namespace,
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "v1", "Pod")),
    );
    let refused = pods.create(&kube::api::PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
    assert!(refused.unwrap_err().to_string().contains("PodSecurity"), "the namespace enforces nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_or_deletes_comes_back() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let (name, ns) = (fleet.name(), rig.namespace.as_str());
    rig.objects.patch("v1", "Service", ns, &name, &json!({"spec": {"selector": {"app": "mine"}}})).await;
    rig.until("Service", &name, "is repaired", |it| {
        it["spec"]["selector"]["gateway.networking.k8s.io/gateway-name"] == "web"
    })
    .await;
    rig.objects.patch("apps/v1", "Deployment", ns, &name, &json!({"spec": {"replicas": 7}})).await;
    rig.until("Deployment", &name, "is repaired", |it| it["spec"]["replicas"] == 2).await;
    let account = rig.get("ServiceAccount", &name).await.unwrap();
    let uid = account["metadata"]["uid"].clone();
    rig.objects.delete(&account.to_string()).await;
    rig.until("ServiceAccount", &name, "is made again", |it| it["metadata"]["uid"] != uid).await;
    // What others add to our objects is theirs.
    rig.objects
        .patch("v1", "Service", ns, &name, &json!({"metadata": {"annotations": {"balancer.example/x": "1"}}}))
        .await;
    rig.assign(&name, "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| !state.addresses.assigned.is_empty()).await;
    let service = rig.get("Service", &name).await.unwrap();
    assert_eq!(service["metadata"]["annotations"]["balancer.example/x"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_as_it_should_be_is_not_written() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2, "resources": {"requests": {"cpu": "0.5"}}})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let versions = async || {
        let mut all = Vec::new();
        for kind in ["Secret", "ServiceAccount", "Service", "Deployment", "PodDisruptionBudget"] {
            for object in rig.objects.list(version(kind), kind, &rig.namespace).await {
                all.push(format!(
                    "{kind} {} {}",
                    object["metadata"]["name"], object["metadata"]["resourceVersion"]
                ));
            }
        }
        all
    };
    // Until the watch has shown what was written, and no later.
    let mut before = versions().await;
    let settled = async || {
        let now = versions().await;
        std::mem::replace(&mut before, now.clone()) == now
    };
    until("nothing is written any more", settled, |same| *same).await;
    let before = versions().await;
    // Another look at everything: the same authorities are told again.
    rig.authorities.send_modify(|_| {});
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_made(&other).await;
    let after: Vec<_> = versions().await.into_iter().filter(|line| !line.contains("other-")).collect();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_object_is_never_touched() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    let name = fleet.name();
    let stranger = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {}}}, spec: {{ports: [{{port: 9}}]}}}}",
        rig.namespace
    );
    rig.objects.apply(&stranger).await;
    let before = rig.get("Service", &name).await.unwrap();
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "the conflict", |state| !state.errors.is_empty()).await;
    let why = told.trouble.unwrap();
    assert!(why.contains(&format!("Service {name} is not Portolan's")), "{why}");
    rig.until("Deployment", &name, "is made all the same", |_| true).await;
    assert_eq!(rig.get("Service", &name).await.unwrap(), before);
    rig.objects.delete(&stranger).await;
    let ours = |it: &Value| it["metadata"]["ownerReferences"][0]["uid"] == *fleet.uid;
    rig.until("Service", &name, "is ours", ours).await;
    rig.until_told(&fleet, "the end of it", |state| state.errors.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_no_longer_needs_goes() {
    let rig = FleetRig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"autoscaling": {"maxReplicas": 3}})).await;
    rig.want(&fleet);
    let name = fleet.name();
    rig.until("HorizontalPodAutoscaler", &name, "is made", |_| true).await;
    rig.until("PodDisruptionBudget", &name, "is made", |_| true).await;
    fleet.settings = settings(json!({"replicas": 1}));
    rig.want(&fleet);
    rig.until_gone("HorizontalPodAutoscaler", &name).await;
    rig.until_gone("PodDisruptionBudget", &name).await;
    // Proxies that serve are replaced only once others do.
    fleet.settings = settings(json!({"workload": "DaemonSet"}));
    rig.want(&fleet);
    rig.until("DaemonSet", &name, "is made", |_| true).await;
    assert!(rig.get("Deployment", &name).await.is_some(), "the old proxies serve until the new ones do");
    let status = json!({"status": {"numberReady": 1, "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0}});
    rig.patch_status("DaemonSet", &name, &status).await;
    rig.until_gone("Deployment", &name).await;
    rig.drop_wanted(&fleet);
    for kind in ["DaemonSet", "Service", "ServiceAccount"] {
        rig.until_gone(kind, &name).await;
    }
    rig.until_gone("Secret", &fleet.identity_name()).await;
    assert!(rig.told(&fleet).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_made_again_gets_a_fleet_of_its_own() {
    let rig = FleetRig::start(true).await;
    let mut fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let before = rig.get("Deployment", &fleet.name()).await.unwrap();
    fleet.uid = "00000000-0000-0000-0000-000000000001".into();
    rig.want(&fleet);
    let new = |it: &Value| it["metadata"]["ownerReferences"][0]["uid"] == *fleet.uid;
    let after = rig.until("Deployment", &fleet.name(), "is the new Gateway's", new).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"], "not adopted, but replaced");
    rig.until("Secret", &fleet.identity_name(), "is the new Gateway's", new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_not_fought() {
    let rig = FleetRig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"replicas": 3})).await;
    rig.want(&fleet);
    let name = fleet.name();
    rig.until("Deployment", &name, "has 3", |it| it["spec"]["replicas"] == 3).await;
    fleet.settings = settings(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}));
    rig.want(&fleet);
    rig.until("HorizontalPodAutoscaler", &name, "is made", |_| true).await;
    let replicas_of_ours = |it: &Value| {
        let managers = it["metadata"]["managedFields"].as_array().unwrap();
        managers.iter().any(|entry| {
            entry["manager"] == "portolan" && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
        })
    };
    let handed = rig.until("Deployment", &name, "is handed over", |it| !replicas_of_ours(it)).await;
    assert_eq!(handed["spec"]["replicas"], 3, "nobody's proxies were taken away");
    rig.objects
        .patch("apps/v1", "Deployment", &rig.namespace, &name, &json!({"spec": {"replicas": 6}}))
        .await;
    // A change that has to be written does not take the number along.
    fleet.labels.insert("team".to_owned(), "other".to_owned());
    rig.want(&fleet);
    let written =
        rig.until("Deployment", &name, "is written", |it| it["metadata"]["labels"]["team"] == "other").await;
    assert_eq!(written["spec"]["replicas"], 6);
    fleet.settings = settings(json!({"replicas": 1}));
    rig.want(&fleet);
    rig.until("Deployment", &name, "has a fixed number again", |it| it["spec"]["replicas"] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_cluster_ip_is_had_or_refused_and_what_worked_goes_on() {
    let rig = FleetRig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"service": {"type": "ClusterIP"}})).await;
    rig.want(&fleet);
    let name = fleet.name();
    let told = rig.until_told(&fleet, "an address", |state| !state.addresses.assigned.is_empty()).await;
    let Some(Address::Ip(first)) = told.addresses.assigned.first().cloned() else { panic!("{told:?}") };
    let before = rig.get("Service", &name).await.unwrap();
    // Outside the range of Services.
    fleet.addresses = vec!["192.0.2.1".parse().unwrap()];
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "a refusal", |state| state.addresses.refused.is_some()).await;
    assert!(told.addresses.refused.unwrap().contains("192.0.2.1"));
    let after = rig.get("Service", &name).await.unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"], "the Service that worked is still there");
    // Free a moment ago: the neighbour of the one that was given, if nobody else has it.
    let free = free_address(&rig, first).await;
    fleet.addresses = vec![free];
    rig.want(&fleet);
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [Address::Ip(free)]).await;
    rig.until("Service", &name, "has it", |it| it["spec"]["clusterIP"] == free.to_string()).await;
}

async fn free_address(rig: &FleetRig, near: std::net::IpAddr) -> std::net::IpAddr {
    let std::net::IpAddr::V4(near) = near else { panic!("{near} is no IPv4 address") };
    let all: Api<k8s_openapi::api::core::v1::Service> = Api::all(rig.objects.client().clone());
    let taken: Vec<String> = all
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|service| service.spec?.cluster_ip)
        .collect();
    let candidates = (1..200).map(|step| std::net::Ipv4Addr::from(u32::from(near) ^ step));
    let free = candidates.into_iter().find(|ip| !taken.contains(&ip.to_string()) && ip.octets()[3] > 20);
    free.unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_static_address_of_a_load_balancer_has_a_service() {
    let rig = FleetRig::start(true).await;
    let mut fleet = rig.gateway("web", json!({})).await;
    fleet.addresses = vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()];
    rig.want(&fleet);
    let services = fleet.services();
    for Front { name, address, .. } in &services {
        let wanted = address.unwrap().to_string();
        rig.until("Service", name, "asks", |it| it["spec"]["loadBalancerIP"] == wanted).await;
    }
    rig.assign(&services[1].name, "192.0.2.8").await;
    let refused = |state: &FleetState| {
        state.addresses.refused.as_ref().is_some_and(|why| why.contains("192.0.2.7"))
            && state.addresses.assigned == [ip("192.0.2.8")]
    };
    rig.until_told(&fleet, "one had and one refused", refused).await;
    fleet.addresses.remove(0);
    rig.want(&fleet);
    rig.until_gone("Service", &services[1].name).await;
    rig.until("Service", &services[0].name, "asks", |it| it["spec"]["loadBalancerIP"] == "192.0.2.8").await;
    rig.assign(&services[0].name, "192.0.2.8").await;
    rig.until_told(&fleet, "exactly the usable one", |state| {
        state.addresses.assigned == [ip("192.0.2.8")] && state.addresses.refused.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reports_and_writes_nothing_until_it_leads() {
    let rig = FleetRig::start(false).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    rig.until_told(&fleet, "a report", |_| true).await;
    let services = rig.objects.list("v1", "Service", &rig.namespace).await;
    assert!(services.is_empty(), "{services:?}");
    rig.leading.send_replace(true);
    rig.until_made(&fleet).await;
    rig.leading.send_replace(false);
    rig.assign(&fleet.name(), "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [ip("192.0.2.7")]).await;
    // A leader that was suspended believes that it leads, and its time is over.
    rig.may_write.store(false, Ordering::SeqCst);
    rig.leading.send_replace(true);
    let account = rig.get("ServiceAccount", &fleet.name()).await.unwrap();
    rig.objects.delete(&account.to_string()).await;
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_told(&other, "a report", |_| true).await;
    assert!(rig.get("ServiceAccount", &fleet.name()).await.is_none());
    assert!(rig.get("Deployment", &other.name()).await.is_none());
    rig.may_write.store(true, Ordering::SeqCst);
    rig.until_made(&other).await;
    rig.until("ServiceAccount", &fleet.name(), "is made again", |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_when_the_authorities_change_and_not_before() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    let name = fleet.identity_name();
    let first = rig.until("Secret", &name, "is made", |_| true).await;
    rig.authorities.send_modify(|_| {});
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_made(&other).await;
    assert_eq!(rig.get("Secret", &name).await.unwrap()["data"], first["data"]);
    rig.authorities.send_replace(Arc::new(Authorities::new(Timestamp::now()).unwrap()));
    rig.until("Secret", &name, "is renewed", |it| it["data"]["ca.crt"] != first["data"]["ca.crt"]).await;
    // A Secret that is deleted is not watched; the next look makes it again.
    let secret = rig.get("Secret", &name).await.unwrap();
    rig.objects.delete(&secret.to_string()).await;
    rig.authorities.send_modify(|_| {});
    rig.until("Secret", &name, "is made again", |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_name_has_a_fleet() {
    let rig = FleetRig::start(true).await;
    let long = "g".repeat(253);
    let fleet = rig.gateway(&long, json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    assert_eq!(fleet.name(), fleet_name(&long, "portolan"));
    let told = rig.until_told(&fleet, "a report", |_| true).await;
    assert_eq!(told.errors, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_being_deleted_is_told_and_costs_nobody_else() {
    let rig = FleetRig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}", rig.namespace);
    rig.objects.delete(&namespace).await;
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "the end", |state| state.trouble.is_some()).await;
    assert!(told.trouble.unwrap().contains("being terminated"));
}

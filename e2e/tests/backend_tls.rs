//! BackendTLSPolicy: TLS towards backends, whom it trusts, and what the Gateway shows of itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::echo::cert::{Authority, Pair};
use portolan_e2e::rig::manifest::{
    authorities, echo, gateway, http_gateway, join, route, secret, trust_bundle,
};
use portolan_e2e::rig::{Answer, Ask, Shared, Target, World, grpc, table, until};
use serde_json::Value;
use tokio::sync::OnceCell;

static WORLD: Shared = Shared::new();
static MADE: OnceCell<Made> = OnceCell::const_new();

/// What the backends show, and who vouches for it.
struct Made {
    authority: Authority,
    stranger: Authority,
    blue: Pair,
    client: Pair,
}

async fn made() -> &'static Made {
    MADE.get_or_init(async || {
        let (authority, stranger) = (Authority::new("test").unwrap(), Authority::new("stranger").unwrap());
        let hosts = ["abc.example.com", "other.example.com"].map(str::to_owned);
        let blue = authority.server_with_uri(&hosts, "spiffe://abc.example.com/test-identity").unwrap();
        let client = authority.client("gateway.example.com").unwrap();
        Made { authority, stranger, blue, client }
    })
    .await
}

const NAMES: [&str; 11] = [
    "plain",
    "good",
    "misnamed",
    "distrusted",
    "system",
    "broken",
    "san",
    "uri",
    "san-other",
    "edited",
    "bundle",
];

/// Services of one backend, each under a policy of its own.
fn policies() -> String {
    let ca = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";
    let stranger = "caCertificateRefs: [{group: '', kind: ConfigMap, name: stranger}]";
    join([
        policy("good", &format!("hostname: abc.example.com, {ca}")),
        policy("misnamed", &format!("hostname: wrong.example.com, {ca}")),
        policy("distrusted", &format!("hostname: abc.example.com, {stranger}")),
        policy("system", "hostname: abc.example.com, wellKnownCACertificates: System"),
        policy(
            "broken",
            "hostname: abc.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: nobody}]",
        ),
        // With names given, the hostname is what is asked for and no longer what is verified.
        policy(
            "san",
            &format!(
                "hostname: sni.example.com, subjectAltNames: [{{type: Hostname, hostname: other.example.com}}], {ca}"
            ),
        ),
        policy(
            "uri",
            &format!(
                "hostname: sni.example.com, subjectAltNames: [{{type: URI, uri: 'spiffe://abc.example.com/test-identity'}}], {ca}"
            ),
        ),
        policy(
            "san-other",
            &format!(
                "hostname: abc.example.com, subjectAltNames: [{{type: Hostname, hostname: nobody.example.com}}, {{type: URI, uri: 'spiffe://abc.example.com/other'}}], {ca}"
            ),
        ),
        policy(
            "edited",
            "hostname: abc.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: edited}]",
        ),
        policy(
            "bundle",
            "hostname: abc.example.com, caCertificateRefs: [{group: certificates.k8s.io, kind: ClusterTrustBundle, name: 'example.com:ca:one'}]",
        ),
        policy("strict", &format!("hostname: abc.example.com, {ca}")),
    ])
}

fn policy(service: &str, validation: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {service}}}
spec:
  targetRefs: [{{group: '', kind: Service, name: {service}, sectionName: https}}]
  validation: {{{validation}}}
"
    )
}

fn routes() -> String {
    let rules = NAMES.map(|name| {
        format!("{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: {name}, port: 443}}]}}")
    });
    let extra = "{matches: [{path: {value: /clear-port}}], backendRefs: [{name: good, port: 80}]},
        {matches: [{path: {value: /strict}}], backendRefs: [{name: strict, port: 443}]},
        {matches: [{path: {value: /mirror}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: good, port: 443}}}], backendRefs: [{name: good, port: 80}]}";
    let strict = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: certified}
spec:
  parentRefs: [{name: certified}]
  rules: [{backendRefs: [{name: strict, port: 443}]}]
";
    let tls = "
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: ends}
spec:
  parentRefs: [{name: ends}]
  hostnames: ['*.ends.example']
  rules: [{backendRefs: [{name: good, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: bad}
spec:
  parentRefs: [{name: ends}]
  hostnames: [bad.ends.example]
  rules: [{backendRefs: [{name: distrusted, port: 443}]}]
";
    let grpc = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec:
  parentRefs: [{name: web}]
  hostnames: [grpc.example]
  rules: [{backendRefs: [{name: good, port: 443}]}]
";
    join([&route("web", "tls.example", &[rules.join(", "), extra.to_owned()].join(", ")), strict, tls, grpc])
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let made = made().await;
            let ends = "{name: ends, port: 443, protocol: TLS, hostname: '*.ends.example', tls: {mode: Terminate, certificateRefs: [{name: pair}]}}";
            let certified = http_gateway("certified")
                .replace("spec:\n", "spec:\n  tls: {backend: {clientCertificateRef: {name: client}}}\n");
            let plan = World::plan()
                .manifest("gateways.yaml", &join([http_gateway("web"), certified, gateway("ends", ends)]))
                .manifest("ca.yaml", &join([authorities("ca", made.authority.certificate()), authorities("stranger", made.stranger.certificate())]))
                .manifest("edited.yaml", &authorities("edited", made.stranger.certificate()))
                .manifest("pairs.yaml", &join([secret("client", &made.client), secret("pair", &made.blue)]))
                .manifest("policies.yaml", &policies())
                .manifest("routes.yaml", &routes());
            let world = plan.prepare();
            world.backends.start_tls("blue", &made.blue, None);
            world.backends.start_tls("strict", &made.blue, Some(made.authority.certificate()));
            for (service, backend) in NAMES.map(|name| (name, "blue")).into_iter().chain([("strict", "strict")]) {
                let addresses = world.backends.get(backend).addresses().clone();
                world.write(&format!("service-{service}.yaml"), &echo(service, &addresses));
            }
            world.run();
            world.settled().await;
            world
        })
        .await
}

fn get(path: &str) -> Ask {
    Ask::get("tls.example", path)
}

#[tokio::test]
async fn a_backend_is_spoken_to_over_tls_and_only_when_it_is_who_it_should_be() {
    let web = world().await.http("web", 80).await;
    table(
        &web,
        [
            (get("/good"), "blue"),
            (get("/clear-port"), "blue"),
            (get("/misnamed"), "503"),
            (get("/distrusted"), "503"),
            (get("/system"), "503"),
            (get("/broken"), "500"),
            (get("/san"), "blue"),
            (get("/uri"), "blue"),
            (get("/san-other"), "503"),
        ],
    )
    .await;
    // Without a policy it is clear text, which this port does not understand.
    assert_eq!(web.ask(&get("/plain")).await.instance(), None);
}

#[tokio::test]
async fn the_backend_sees_the_name_and_the_protocol_that_the_policy_asks_for() {
    let web = world().await.http("web", 80).await;
    let tls = |answer: &Answer| {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["tls"].clone()
    };
    let seen = tls(&web.ask(&get("/san")).await);
    assert_eq!(seen["serverName"], "sni.example.com");
    assert_eq!(seen["negotiatedProtocol"], "http/1.1");
    assert_eq!(seen["peerCertificates"], serde_json::json!([]));
    assert_eq!(tls(&web.ask(&get("/clear-port")).await), Value::Null, "the other port is not the policy's");
}

#[tokio::test]
async fn new_authorities_are_taken_up() {
    let world = world().await;
    let web = world.http("web", 80).await;
    assert_eq!(web.ask(&get("/edited")).await.short(), "503");
    world.write("edited.yaml", &authorities("edited", made().await.authority.certificate()));
    until("the backend is trusted", async || web.ask(&get("/edited")).await.short() == "blue").await;
}

#[tokio::test]
async fn a_cluster_trust_bundle_is_trusted_while_it_is_there() {
    let world = world().await;
    let web = world.http("web", 80).await;
    let bundle = get("/bundle");
    assert_eq!(web.ask(&bundle).await.short(), "500");
    world.write("bundle.yaml", &trust_bundle("ca", "one", made().await.stranger.certificate()));
    until("the bundle is trusted, and the backend is a stranger to it", async || {
        web.ask(&bundle).await.short() == "503"
    })
    .await;
    world.write("bundle.yaml", &trust_bundle("ca", "one", made().await.authority.certificate()));
    until("the new bundle is trusted", async || web.ask(&bundle).await.short() == "blue").await;
    world.write("bundle.yaml", "");
    until("the bundle is gone", async || web.ask(&bundle).await.short() == "500").await;
}

#[tokio::test]
async fn a_gateway_shows_its_certificate_where_it_has_one() {
    let world = world().await;
    assert_eq!(world.http("web", 80).await.ask(&get("/strict")).await.short(), "503");
    let answer = world.http("certified", 80).await.ask(&get("/")).await;
    assert_eq!(answer.short(), "strict");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let shown = body["tls"]["peerCertificates"][0].as_str().unwrap().replace(['\r', '\n'], "");
    assert_eq!(shown, made().await.client.certificate.replace(['\r', '\n'], ""));
}

#[tokio::test]
async fn a_mirror_goes_over_tls_too() {
    let world = world().await;
    let web = world.http("web", 80).await;
    assert_eq!(web.ask(&get("/mirror")).await.short(), "blue");
    // The request itself in clear text, and its copy over TLS.
    until("both arrived", async || world.backends.get("blue").counts().get("/mirror") == Some(&2)).await;
}

#[tokio::test]
async fn a_tls_route_that_ends_tls_begins_it_again() {
    let world = world().await;
    let address = world.bound("ends", "443/tcp").await;
    let target = Target::https(address, "a.ends.example");
    let answer = target.ask(&Ask::get("a.ends.example", "/again")).await;
    assert_eq!(answer.short(), "blue");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["tls"]["serverName"], "abc.example.com", "not what the client asked for");
    let bad = Target::https(address, "bad.ends.example").try_ask(&Ask::get("bad.ends.example", "/")).await;
    assert!(bad.is_err(), "{}", bad.unwrap());
}

#[tokio::test]
async fn grpc_goes_over_tls_too() {
    let web = world().await.http("web", 80).await;
    let outcome = grpc::call(&web, "grpc.example", "/any.Service/Method", &[]).await;
    assert_eq!(grpc::short(&outcome), "blue", "{outcome:?}");
}

#[tokio::test]
async fn policies_say_how_they_stand_on_each_gateway() {
    let status = world().await.status().await;
    let ancestors = |name: &str| {
        let object = status.object(&format!("BackendTLSPolicy/default/{name}")).unwrap();
        object["ancestors"].as_array().unwrap().clone()
    };
    let names: Vec<_> =
        ancestors("good").iter().map(|one| one["ancestorRef"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["ends", "web"]);
    let broken = ancestors("broken");
    for (index, reason) in [(0, "NoValidCACertificate"), (1, "InvalidCACertificateRef")] {
        assert_eq!(broken[0]["conditions"][index]["reason"], reason, "{broken:?}");
    }
    let resolved = status.condition("Gateway/default/certified", "ResolvedRefs").unwrap();
    assert!(resolved.is_true(), "{resolved:?}");
}

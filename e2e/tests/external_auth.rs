//! External authorization (GEP-1494): real servers are asked by gRPC and by HTTP, and where none can be, nothing passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::LazyLock;

use portolan_e2e::rig::backends::refusing;
use portolan_e2e::rig::manifest::{http_gateway, join, route, service};
use portolan_e2e::rig::{Answer, Ask, Authorizer, Shared, World};

static SERVERS: LazyLock<Authorizer> = LazyLock::new(Authorizer::start);
static WORLD: Shared = Shared::new();

const HOST: &str = "auth.example";

/// A rule for a path: who is asked, and what happens then.
fn rule(path: &str, auth: &str) -> String {
    format!(
        "{{matches: [{{path: {{value: {path}}}}}], filters: [{{type: ExternalAuth, externalAuth: {auth}}}], backendRefs: [{{name: blue, port: 80}}]}}"
    )
}

const ARMS: &str = "{backendRefs: [
    {name: blue, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: by-grpc, port: 80}, grpc: {}}}]},
    {name: green, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: nobody, port: 80}, http: {}}}]}]}";

/// A grant into `security` for routes of the default namespace.
const GRANT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: ask, namespace: security}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let grpc =
                |rest: &str| format!("{{protocol: GRPC, backendRef: {{name: by-grpc, port: 80}}, {rest}}}");
            let http =
                |rest: &str| format!("{{protocol: HTTP, backendRef: {{name: by-http, port: 80}}, {rest}}}");
            let rules = [
                rule("/grpc", &grpc("grpc: {}")),
                rule("/grpc-some", &grpc("grpc: {allowedHeaders: [X-Auth]}")),
                rule("/grpc-body", &grpc("grpc: {}, forwardBody: {maxSize: 65536}")),
                rule("/http", &http("http: {allowedHeaders: [X-Auth, X-Auth-Status]}")),
                rule("/http-bare", &http("http: {}")),
                rule(
                    "/http-path",
                    &http(
                        "http: {path: /check/, allowedHeaders: [X-Auth], allowedResponseHeaders: [X-More]}",
                    ),
                ),
                rule("/http-body", &http("http: {allowedHeaders: [X-Auth]}, forwardBody: {maxSize: 16}")),
                rule("/unreachable", "{protocol: GRPC, backendRef: {name: refusing, port: 80}, grpc: {}}"),
                rule(
                    "/unreachable-http",
                    "{protocol: HTTP, backendRef: {name: refusing, port: 80}, http: {}}",
                ),
                rule("/missing", "{protocol: GRPC, backendRef: {name: nobody, port: 80}, grpc: {}}"),
                "{backendRefs: [{name: blue, port: 80}]}".to_owned(),
            ];
            let granted = rule(
                "/",
                "{protocol: GRPC, backendRef: {name: by-grpc, namespace: security, port: 80}, grpc: {}}",
            );
            let elsewhere = service("by-grpc", &[SERVERS.grpc])
                .replace("{name: by-grpc}", "{name: by-grpc, namespace: security}")
                .replace("{name: by-grpc-0, ", "{name: by-grpc-0, namespace: security, ");
            World::plan()
                .backends(&["blue", "green"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("by-grpc.yaml", &service("by-grpc", &[SERVERS.grpc]))
                .manifest("by-http.yaml", &service("by-http", &[SERVERS.http]))
                .manifest("refusing.yaml", &service("refusing", &[refusing()]))
                .manifest("elsewhere.yaml", &elsewhere)
                .manifest("grant.yaml", GRANT)
                .manifest(
                    "routes.yaml",
                    &join([
                        route("auth", HOST, &rules.join(", ")),
                        route("granted", "granted.example", &granted),
                        route("arms", "arms.example", ARMS),
                    ]),
                )
                .start()
                .await
        })
        .await
}

async fn ask(ask: Ask) -> Answer {
    world().await.http("web", 80).await.ask(&ask).await
}

fn allowed(path: &str) -> Ask {
    Ask::get(HOST, path).header("X-Auth", "allow")
}

#[tokio::test]
async fn a_request_passes_if_the_server_says_so_and_the_backend_learns_what_it_added() {
    for (path, user) in [("/grpc?a=b", "known by gRPC"), ("/http?a=b", "known by HTTP")] {
        // What a client claims is replaced by what the server says.
        let echoed = ask(allowed(path).header("X-User", "an impostor")).await.echoed();
        assert_eq!(echoed.header("x-user"), [user], "{path}");
        let question = SERVERS.question(path).expect(path);
        assert_eq!((question.method.as_str(), question.host.as_str()), ("GET", HOST), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_is_the_answer() {
    for (path, by) in [("/grpc/refused", "by gRPC"), ("/http/refused", "by HTTP")] {
        for (header, status) in [(None, 401), (Some("418"), 418), (Some("403"), 403)] {
            let plain = Ask::get(HOST, path);
            let answer =
                ask(header.iter().fold(plain, |ask, status| ask.header("X-Auth-Status", status))).await;
            assert_eq!((answer.status, answer.instance()), (status, None), "{path}: {answer}");
            assert_eq!(answer.line("x-refused"), Some(by), "{path}");
            assert_eq!(String::from_utf8_lossy(&answer.body), format!("refused {by}"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_server_sees_the_headers_that_it_may() {
    let secret = |path: &str| allowed(path).headers(&[("X-Other", "seen"), ("Authorization", "Bearer it")]);
    assert_eq!(ask(secret("/grpc/headers")).await.short(), "blue");
    assert_eq!(SERVERS.question("/grpc/headers").unwrap().header("x-other"), Some("seen"));
    assert_eq!(ask(secret("/grpc-some/headers")).await.short(), "blue");
    let some = SERVERS.question("/grpc-some/headers").unwrap();
    assert_eq!((some.header("x-auth"), some.header("x-other")), (Some("allow"), None));
    assert_eq!(some.header("authorization"), None);
    // By HTTP, nothing but what must be: so this server never sees x-auth, and refuses.
    assert_eq!(ask(secret("/http-bare/headers")).await.status, 401);
    let bare = SERVERS.question("/http-bare/headers").unwrap();
    assert_eq!((bare.header("x-auth"), bare.header("x-other")), (None, None));
    assert_eq!((bare.header("authorization"), bare.header("content-length")), (Some("Bearer it"), Some("0")));
}

#[tokio::test]
async fn a_backend_gets_the_headers_that_it_may_and_none_that_frame_the_answer() {
    let body = Ask::get(HOST, "/http/copied").method("POST").header("X-Auth", "allow");
    let echoed = ask(body.header("Content-Type", "text/own").body("hello")).await.echoed();
    assert_eq!((echoed.header("x-more"), echoed.header("content-type")), (vec!["said"], vec!["text/own"]));
    assert_eq!(echoed.body_bytes, 5);
    let echoed = ask(allowed("/http-path/copied").header("X-User", "mine")).await.echoed();
    assert_eq!((echoed.header("x-more"), echoed.header("x-user")), (vec!["said"], vec!["mine"]));
    assert_eq!(SERVERS.question("/copied").map(|_| ()), Some(()));
    assert!(SERVERS.question("/check/http-path/copied").is_some(), "the path gets a prefix");
    assert_eq!(echoed.path, "/http-path/copied", "for the server alone");
}

#[tokio::test]
async fn a_body_is_sent_along_up_to_its_limit() {
    let post = |path: &str, body: &'static [u8]| allowed(path).method("POST").body(body);
    let echoed = ask(post("/grpc-body/some", b"\xff\x00 is no text")).await.echoed();
    assert_eq!(echoed.body_bytes, 13, "the backend gets it, too");
    assert_eq!(&*SERVERS.question("/grpc-body/some").unwrap().body, b"\xff\x00 is no text");
    assert_eq!(ask(post("/http-body/some", b"sixteen letters!")).await.echoed().body_bytes, 16);
    let question = SERVERS.question("/http-body/some").unwrap();
    assert_eq!((&*question.body, question.header("content-length")), (&b"sixteen letters!"[..], Some("16")));
    let answer = ask(post("/http-body/more", b"seventeen letters")).await;
    assert_eq!((answer.status, answer.instance()), (413, None), "{answer}");
    assert_eq!(SERVERS.question("/http-body/more"), None, "nobody is asked about a part");
    // Without forwardBody the server gets none.
    assert_eq!(ask(post("/http/body", b"private")).await.echoed().body_bytes, 7);
    assert_eq!(&*SERVERS.question("/http/body").unwrap().body, b"");
}

#[tokio::test]
async fn nothing_passes_where_nobody_can_be_asked() {
    for (path, status) in [("/unreachable", 503), ("/unreachable-http", 503), ("/missing", 500)] {
        let answer = ask(allowed(path)).await;
        assert_eq!((answer.status, answer.instance()), (status, None), "{path}: {answer}");
    }
    assert_eq!(ask(Ask::get(HOST, "/open")).await.short(), "blue", "other rules ask nobody");
    let status = world().await.status().await;
    let resolved = status.parent_condition("HTTPRoute/default/auth", 0, "ResolvedRefs").unwrap();
    assert!(resolved.is_false("BackendNotFound"), "{resolved:?}");
}

#[tokio::test]
async fn a_backend_may_have_a_server_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = ask(Ask::get("arms.example", "/").header("X-Auth", "allow")).await;
        seen.insert(answer.short());
        // Without leave, blue is refused by its server and green by the lack of one.
        let answer = ask(Ask::get("arms.example", "/")).await;
        assert!([401, 500].contains(&answer.status), "{answer}");
    }
    assert_eq!(seen, ["500", "blue"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_grant_that_is_taken_back_closes_the_route() {
    let request = || Ask::get("granted.example", "/").header("X-Auth", "allow");
    assert_eq!(ask(request()).await.short(), "blue");
    world().await.remove("grant.yaml");
    let refused = |status: &portolan_e2e::rig::Status| {
        let key = "HTTPRoute/default/granted";
        let resolved = status.parent_condition(key, 0, "ResolvedRefs");
        resolved.is_some_and(|resolved| resolved.is_false("RefNotPermitted")) && status.programmed(key)
    };
    world().await.until("the reference is refused", refused).await;
    let answer = ask(request()).await;
    assert_eq!((answer.status, answer.instance()), (500, None), "{answer}");
}

//! CORS: what a browser is told before and with a request (HTTPCORSFilter, the Fetch standard).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::rig::manifest::http_gateway;
use portolan_e2e::rig::{Answer, Ask, Shared, Target, World};

static WORLD: Shared = Shared::new();

async fn web() -> Target {
    let start = async || {
        let plan = World::plan().backend("blue").manifest("web.yaml", &http_gateway("web"));
        plan.manifest("cors.yaml", CORS).start().await
    };
    WORLD.get(start).await.http("web", 80).await
}

const CORS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cors}
spec:
  parentRefs: [{name: web}]
  hostnames: [cors.example]
  rules:
  - matches: [{path: {value: /listed}}]
    filters:
    - type: CORS
      cors:
        allowOrigins: ['https://www.foo.com', 'https://*.bar.com']
        allowMethods: [GET, OPTIONS]
        allowHeaders: [x-header-1, x-header-2]
        exposeHeaders: [x-header-3, x-header-4]
        allowCredentials: true
        maxAge: 3600
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /any-method}}]
    filters: [{type: CORS, cors: {allowOrigins: ['https://www.foo.com'], allowMethods: ['*']}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /any-origin}}]
    filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: [PUT], allowCredentials: false}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /all-with-credentials}}]
    filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: true}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /all-without}}]
    filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: false}}]
    backendRefs: [{name: blue, port: 80}]
";

async fn preflight(path: &str, origin: &str, method: &str, headers: Option<&str>) -> Answer {
    let ask = Ask::get("cors.example", path).method("OPTIONS");
    let ask = ask.headers(&[("Origin", origin), ("Access-Control-Request-Method", method)]);
    let ask = headers.iter().fold(ask, |ask, names| ask.header("Access-Control-Request-Headers", names));
    let answer = web().await.ask(&ask).await;
    assert_eq!(answer.instance(), None, "a preflight request does not reach the backend");
    answer
}

/// The names in a header of the answer, without order.
fn names(answer: &Answer, header: &str) -> Vec<String> {
    let line = answer.line(header).unwrap_or_default();
    let mut names: Vec<String> = line
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_preflight_request_is_answered_for_every_origin_that_matches() {
    for origin in ["https://www.foo.com", "https://www.bar.com", "https://many.labels.bar.com"] {
        let answer = preflight("/listed", origin, "GET", Some("x-header-1, x-header-2")).await;
        assert!([200, 204].contains(&answer.status), "{answer}");
        assert_eq!(answer.line("access-control-allow-origin"), Some(origin));
        assert_eq!(names(&answer, "access-control-allow-methods"), ["get", "options"]);
        assert_eq!(names(&answer, "access-control-allow-headers"), ["x-header-1", "x-header-2"]);
        assert_eq!(names(&answer, "access-control-expose-headers"), ["x-header-3", "x-header-4"]);
        assert_eq!(answer.line("access-control-max-age"), Some("3600"));
        assert_eq!(answer.line("access-control-allow-credentials"), Some("true"));
    }
}

#[tokio::test]
async fn an_origin_that_does_not_match_gets_no_permission() {
    for origin in [
        "https://foobar.com",
        "https://bar.com",
        "http://www.foo.com",
        "https://www.foo.com.evil",
        "https://wwwxbar.com",
    ] {
        let answer = preflight("/listed", origin, "GET", None).await;
        assert!([200, 204, 403].contains(&answer.status), "{answer}");
        assert_eq!(answer.line("access-control-allow-origin"), None, "{origin}");
        let simple = web().await.ask(&Ask::get("cors.example", "/listed").header("Origin", origin)).await;
        assert_eq!(simple.line("access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn an_actual_request_reaches_the_backend_and_its_answer_is_marked() {
    for origin in ["https://www.foo.com", "https://www.bar.com"] {
        let answer = web().await.ask(&Ask::get("cors.example", "/listed").header("Origin", origin)).await;
        assert_eq!(
            (answer.short().as_str(), answer.line("access-control-allow-origin")),
            ("blue", Some(origin))
        );
        assert_eq!(answer.line("access-control-allow-credentials"), Some("true"));
        assert_eq!(names(&answer, "access-control-expose-headers"), ["x-header-3", "x-header-4"]);
    }
}

#[tokio::test]
async fn without_an_origin_nothing_is_added() {
    let answer = web().await.ask(&Ask::get("cors.example", "/listed")).await;
    assert_eq!((answer.short().as_str(), answer.line("access-control-allow-origin")), ("blue", None));
}

#[tokio::test]
async fn any_method_may_be_allowed() {
    let answer = preflight("/any-method", "https://www.foo.com", "POST", None).await;
    assert_eq!(answer.line("access-control-allow-origin"), Some("https://www.foo.com"));
    let methods = answer.line("access-control-allow-methods");
    assert!([Some("POST"), Some("*")].contains(&methods), "{answer}");
    assert_eq!(answer.line("access-control-allow-credentials"), None);
    // HTTPCORSFilter.maxAge: five seconds unless it is given.
    assert_eq!(answer.line("access-control-max-age"), Some("5"));
}

#[tokio::test]
async fn any_origin_may_be_allowed() {
    for origin in ["https://foobar.com", "https://foobar.com:12345"] {
        let answer = preflight("/any-origin", origin, "PUT", None).await;
        let allowed = answer.line("access-control-allow-origin");
        assert!(allowed == Some(origin) || allowed == Some("*"), "{answer}");
        assert_eq!(answer.line("access-control-allow-methods"), Some("PUT"));
        assert_eq!(answer.line("access-control-allow-credentials"), None);
        let simple = Ask::get("cors.example", "/any-origin").method("PUT").header("Origin", origin);
        let simple = web().await.ask(&simple).await;
        let allowed = simple.line("access-control-allow-origin");
        assert!(simple.status == 200 && (allowed == Some(origin) || allowed == Some("*")), "{simple}");
    }
}

#[tokio::test]
async fn with_credentials_wildcards_are_answered_in_names() {
    // The Fetch standard takes "*" for the letter itself where credentials are sent.
    let origin = "https://other.foo.com";
    let answer = preflight("/all-with-credentials", origin, "PUT", Some("x-header-1, x-header-2")).await;
    assert_eq!(answer.line("access-control-allow-origin"), Some(origin));
    assert_eq!(answer.line("access-control-allow-methods"), Some("PUT"));
    assert_eq!(names(&answer, "access-control-allow-headers"), ["x-header-1", "x-header-2"]);
    assert_eq!(answer.line("access-control-allow-credentials"), Some("true"));
    let simple = Ask::get("cors.example", "/all-with-credentials").header("Origin", origin);
    let simple = web().await.ask(&simple).await;
    assert_eq!(simple.line("access-control-allow-origin"), Some(origin));
    assert_eq!(simple.line("access-control-allow-credentials"), Some("true"));
}

#[tokio::test]
async fn without_credentials_wildcards_need_no_names() {
    let origin = "https://other.foo.com";
    let answer = preflight("/all-without", origin, "PUT", Some("x-header-1, x-header-2")).await;
    let allowed = answer.line("access-control-allow-origin");
    assert!(allowed == Some(origin) || allowed == Some("*"), "{answer}");
    assert!([Some("PUT"), Some("*")].contains(&answer.line("access-control-allow-methods")), "{answer}");
    let headers = names(&answer, "access-control-allow-headers");
    assert!(headers == ["*"] || headers == ["x-header-1", "x-header-2"], "{answer}");
    assert_eq!(answer.line("access-control-allow-credentials"), None);
}

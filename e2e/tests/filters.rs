//! What filters do to a request and its answer, as the backend and the client see it: headers, mirrors, filters of one backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_e2e::rig::manifest::{http_gateway, route};
use portolan_e2e::rig::{Ask, DEADLINE, Shared, Target, World, table};

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("headers.yaml", HEADERS)
                .manifest("mirrors.yaml", MIRRORS)
                .manifest("backend-filters.yaml", BACKEND_FILTERS)
                .start()
                .await
        })
        .await
}

async fn web() -> Target {
    world().await.http("web", 80).await
}

const HEADERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: headers}
spec:
  parentRefs: [{name: web}]
  hostnames: [headers.example]
  rules:
  - matches: [{path: {value: /request}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: set-now}, {name: X-Set-New, value: was-not-there}]
        add: [{name: X-Add, value: added}, {name: X-Add-New, value: alone}]
        remove: [X-Remove, X-Never-There]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /response}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier:
        set: [{name: X-Set, value: set-now}, {name: X-Set-New, value: was-not-there}]
        add: [{name: X-Add, value: added}, {name: X-Add-New, value: alone}]
        remove: [X-Remove, X-Never-There]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /both}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Way, value: to}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Way, value: back}]}}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /cookies}}]
    filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: Set-Cookie, value: b=2}]}}
    backendRefs: [{name: blue, port: 80}]
  # What Envoy would read as a command is text to the API.
  - matches: [{path: {value: /percent}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Percent, value: '100% %REQ(x-secret)%'}], add: [{name: X-Percent-Two, value: '%%'}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Percent, value: '100% %REQ(x-secret)%'}], add: [{name: X-Percent-Two, value: '%%'}]}}
    backendRefs: [{name: blue, port: 80}]
  # A filter that does not exist must not be skipped (HTTPRouteFilter.extensionRef).
  - matches: [{path: {value: /unknown}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: example.org, kind: Filter, name: none}}
    backendRefs: [{name: blue, port: 80}]
";

/// The values of a header: several lines are one list (RFC 9110 §5.3), which is how the suite compares them.
fn values<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect()
}

#[tokio::test]
async fn request_headers_are_set_added_and_removed() {
    let ask = Ask::get("headers.example", "/request").headers(&[
        ("x-set", "before"),
        ("X-ADD", "before"),
        ("x-remove", "gone"),
        ("X-Other", "kept"),
    ]);
    let echoed = web().await.ask(&ask).await.echoed();
    let expected = [
        ("x-set", vec!["set-now"]),
        ("x-set-new", vec!["was-not-there"]),
        ("x-add", vec!["before", "added"]),
        ("x-add-new", vec!["alone"]),
        ("x-remove", vec![]),
        ("x-other", vec!["kept"]),
    ];
    let seen = expected.iter().map(|(name, _)| (*name, values(&echoed.header(name))));
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn response_headers_are_set_added_and_removed() {
    let asked = "X-Set: before, x-add: before, X-Remove: gone, X-Other: kept";
    let ask = Ask::get("headers.example", "/response").header("x-echo-set-header", asked);
    let answer = web().await.ask(&ask).await;
    let expected = [
        ("x-set", vec!["set-now"]),
        ("x-set-new", vec!["was-not-there"]),
        ("x-add", vec!["before", "added"]),
        ("x-add-new", vec!["alone"]),
        ("x-remove", vec![]),
        ("x-other", vec!["kept"]),
    ];
    let seen = expected.iter().map(|(name, _)| (*name, values(&answer.header(name))));
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_added_cookie_is_a_line_of_its_own() {
    // The exception of RFC 9110 §5.3: cookies in one line cannot be told apart.
    let ask = Ask::get("headers.example", "/cookies").header("x-echo-set-header", "Set-Cookie: a=1");
    let answer = web().await.ask(&ask).await;
    assert_eq!(answer.header("set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn values_are_text_and_no_commands() {
    let answer = web().await.ask(&Ask::get("headers.example", "/percent").header("x-secret", "s3cret")).await;
    let expected = (vec!["100% %REQ(x-secret)%"], vec!["%%"]);
    let echoed = answer.echoed();
    assert_eq!((echoed.header("x-percent"), echoed.header("x-percent-two")), expected);
    assert_eq!((answer.header("x-percent"), answer.header("x-percent-two")), expected);
}

#[tokio::test]
async fn the_length_of_a_message_is_not_a_header_to_be_changed() {
    // Message framing belongs to the connection, which requests of other routes share: a length that does not fit makes
    // their bytes part of this message (RFC 9112 §11.2).
    let world = world().await;
    for (name, header, value) in
        [("length", "Content-Length", "3"), ("coding", "Transfer-Encoding", "chunked")]
    {
        for (kind, field) in [("Request", "requestHeaderModifier"), ("Response", "responseHeaderModifier")] {
            let name = format!("{name}-{}", kind.to_lowercase());
            let filter = format!(
                "{{type: {kind}HeaderModifier, {field}: {{set: [{{name: {header}, value: '{value}'}}]}}}}"
            );
            let rule = format!("{{filters: [{filter}], backendRefs: [{{name: blue, port: 80}}]}}");
            world.write(&format!("{name}.yaml"), &route(&name, &format!("{name}.example"), &rule));
            let key = format!("HTTPRoute/default/{name}");
            let status = world
                .until("the route is judged", |status| status.object(&key).is_some() && status.settled())
                .await;
            let accepted = status.condition(&key, "Accepted").unwrap();
            assert!(
                accepted.status == "False" && accepted.message.contains(header),
                "{key} sets {header}: {accepted:?}"
            );
        }
    }
}

#[tokio::test]
async fn request_and_response_headers_are_changed_apart() {
    let answer = web().await.ask(&Ask::get("headers.example", "/both")).await;
    assert_eq!((answer.echoed().header("x-way"), answer.line("x-way")), (vec!["to"], Some("back")));
}

#[tokio::test]
async fn a_filter_that_does_not_exist_is_an_error_not_a_gap() {
    table(&web().await, [(Ask::get("headers.example", "/unknown"), "500")]).await;
    let status = world().await.status().await;
    let resolved = status.condition("HTTPRoute/default/headers", "ResolvedRefs").unwrap();
    assert!(resolved.status == "False" && resolved.message.contains("none"), "{resolved:?}");
}

#[tokio::test]
async fn without_a_rewrite_host_and_path_stay_as_they_are() {
    let echoed = web().await.ask(&Ask::get("headers.example", "/both/a%2Fb?c=%20d")).await.echoed();
    assert_eq!((echoed.host.as_str(), echoed.path.as_str()), ("headers.example", "/both/a%2Fb?c=%20d"));
}

const MIRRORS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirrors}
spec:
  parentRefs: [{name: web}]
  hostnames: [mirrors.example]
  rules:
  - matches: [{path: {value: /one}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: green, port: 80}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: for-all}]}}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /two}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: green, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: red, port: 80}}}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /share}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: green, port: 80}, percent: 20}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: red, port: 80}, fraction: {numerator: 25, denominator: 50}}}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /never}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: green, port: 80}, percent: 0}}
    backendRefs: [{name: blue, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirror-to-nobody}
spec:
  parentRefs: [{name: web}]
  hostnames: [mirror-to-nobody.example]
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}}
    backendRefs: [{name: blue, port: 80}]
";

/// Waits until a backend saw as many requests for a path as a test waits for; mirrors come when they come.
async fn arrived(world: &World, backend: &str, path: &str, wanted: impl Fn(usize) -> bool) -> usize {
    let echo = world.backends.get(backend);
    let count = || usize::try_from(echo.counts().get(path).copied().unwrap_or_default()).unwrap();
    let reached = async {
        while !wanted(count()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(DEADLINE, reached).await;
    assert!(reached.is_ok(), "{backend} saw {} requests for {path}", count());
    count()
}

#[tokio::test]
async fn a_mirror_gets_what_the_backend_gets() {
    let world = world().await;
    let ask = Ask::get("mirrors.example", "/one/a?b=c").method("POST").header("X-Own", "1").body("some body");
    let answer = web().await.ask(&ask).await;
    assert_eq!(answer.instance(), Some("blue"));
    arrived(world, "green", "/one/a", |count| count == 1).await;
    let mirrored = world.backends.get("green").seen("/one/a").remove(0);
    let seen = (mirrored.method.as_str(), mirrored.uri.as_str(), mirrored.host.as_str());
    assert_eq!(seen, ("POST", "/one/a?b=c", "mirrors.example"));
    assert_eq!(
        (&mirrored.headers["x-own"], &mirrored.headers["x-set"]),
        (&vec!["1".to_owned()], &vec!["for-all".to_owned()])
    );
}

#[tokio::test]
async fn a_rule_may_have_several_mirrors() {
    let world = world().await;
    table(
        &web().await,
        [(Ask::get("mirrors.example", "/two"), "blue"), (Ask::get("mirrors.example", "/two"), "blue")],
    )
    .await;
    arrived(world, "green", "/two", |count| count == 2).await;
    arrived(world, "red", "/two", |count| count == 2).await;
}

#[tokio::test]
async fn a_mirror_may_get_a_share() {
    const REQUESTS: usize = 500;
    let world = world().await;
    let mut open = web().await.connect().await.unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(open.ask(&Ask::get("mirrors.example", "/share")).await.unwrap().short(), "blue");
    }
    // Five standard deviations of 500 draws: wrong by chance once in a million runs.
    for (backend, expected, deviation) in [("green", 100, 45), ("red", 250, 56)] {
        let count = arrived(world, backend, "/share", |count| count + deviation >= expected).await;
        assert!(count <= expected + deviation, "{backend}: {count} of {REQUESTS} requests mirrored");
    }
}

#[tokio::test]
async fn a_mirror_of_no_share_gets_nothing() {
    let world = world().await;
    let mut open = web().await.connect().await.unwrap();
    for _ in 0..50 {
        assert_eq!(open.ask(&Ask::get("mirrors.example", "/never")).await.unwrap().short(), "blue");
    }
    // One request that is mirrored comes after all those that were not.
    table(&web().await, [(Ask::get("mirrors.example", "/one/last"), "blue")]).await;
    arrived(world, "green", "/one/last", |count| count == 1).await;
    assert_eq!(world.backends.get("green").counts().get("/never"), None);
}

#[tokio::test]
async fn a_mirror_to_nobody_is_told_and_left_out() {
    table(&web().await, [(Ask::get("mirror-to-nobody.example", "/"), "blue")]).await;
    let status = world().await.status().await;
    let resolved = status.condition("HTTPRoute/default/mirror-to-nobody", "ResolvedRefs").unwrap();
    assert!(resolved.is_false("BackendNotFound") && resolved.message.contains("nobody"), "{resolved:?}");
}

const BACKEND_FILTERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: backend-filters}
spec:
  parentRefs: [{name: web}]
  hostnames: [backend-filters.example]
  rules:
  - matches: [{path: {value: /headers}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Trail, value: rule}]}}
    backendRefs:
    - name: blue
      port: 80
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: X-Chosen, value: blue}], add: [{name: X-Trail, value: blue}], remove: [X-Remove]}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-From, value: blue}]}}
    - name: green
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Chosen, value: green}]}}
  - matches: [{path: {value: /full}}]
    backendRefs:
    - name: blue
      port: 80
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /rewritten}}}]
  - matches: [{path: {value: /prefix}}]
    backendRefs:
    - name: blue
      port: 80
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /rewritten}}}]
  - matches: [{path: {value: /arms}}]
    backendRefs:
    - name: blue
      port: 80
      weight: 3
      filters: [{type: URLRewrite, urlRewrite: {hostname: blue.inside, path: {type: ReplacePrefixMatch, replacePrefixMatch: /to-blue}}}]
    - name: green
      port: 80
      weight: 2
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /to-green}}}]
    - {name: red, port: 80, weight: 5}
";

#[tokio::test]
async fn filters_of_a_backend_reference_act_for_that_backend_alone() {
    let mut open = web().await.connect().await.unwrap();
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let ask = Ask::get("backend-filters.example", "/headers").header("x-remove", "maybe");
        let answer = open.ask(&ask).await.unwrap();
        let echoed = answer.echoed();
        let lines = |name| values(&echoed.header(name)).join("|");
        let from = answer.line("x-from").unwrap_or_default().to_owned();
        seen.insert(echoed.instance.clone(), (lines("x-chosen"), lines("x-trail"), lines("x-remove"), from));
    }
    let row = |texts: [&str; 5]| {
        let [name, rest @ ..] = texts.map(str::to_owned);
        let [chosen, trail, removed, from] = rest;
        (name, (chosen, trail, removed, from))
    };
    let expected =
        [row(["blue", "blue", "rule|blue", "", "blue"]), row(["green", "green", "rule", "maybe", ""])];
    assert_eq!(seen, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_backend_reference_may_rewrite_the_path() {
    let target = web().await;
    let rows = [
        ("/full/original?a=b", "/rewritten?a=b"),
        ("/prefix/original", "/rewritten/original"),
        ("/prefix", "/rewritten"),
    ];
    for (path, expected) in rows {
        assert_eq!(
            target.ask(&Ask::get("backend-filters.example", path)).await.echoed().path,
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn each_backend_has_its_own_rewrite_and_its_share() {
    const REQUESTS: u32 = 500;
    let mut open = web().await.connect().await.unwrap();
    let mut seen: BTreeMap<(String, String, String), u32> = BTreeMap::new();
    for _ in 0..REQUESTS {
        let echoed = open.ask(&Ask::get("backend-filters.example", "/arms/x")).await.unwrap().echoed();
        *seen.entry((echoed.instance, echoed.host, echoed.path)).or_default() += 1;
    }
    let expected = [
        ("blue", "blue.inside", "/to-blue/x", 150),
        ("green", "backend-filters.example", "/to-green", 100),
        ("red", "backend-filters.example", "/arms/x", 250),
    ];
    for (instance, host, path, share) in expected {
        let count = seen.remove(&(instance.to_owned(), host.to_owned(), path.to_owned())).unwrap_or_default();
        // Five standard deviations of 500 draws at most.
        assert!(count.abs_diff(share) <= 56, "{instance}: {count} of {REQUESTS}, expected about {share}");
    }
    assert!(seen.is_empty(), "the rewrite of one backend at another one: {seen:?}");
}

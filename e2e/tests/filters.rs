//! What filters do to a request and its answer, as the backend and the client see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, join, route, secret};
use portolan_e2e::rig::{Answer, Ask, DEADLINE, Shared, Target, World, table};

static WORLD: Shared = Shared::new();

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let authority = Authority::new("test").unwrap();
            let pair = authority.server(&["*.example".to_owned()]).unwrap();
            let listeners = "
                {name: http, port: 80, protocol: HTTP},
                {name: other, port: 8080, protocol: HTTP},
                {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &join([gateway("web", listeners), secret("cert", &pair)]))
                .manifest("headers.yaml", HEADERS)
                .manifest("redirects.yaml", &redirects())
                .manifest("rewrites.yaml", &rewrites())
                .manifest("mirrors.yaml", MIRRORS)
                .manifest("cors.yaml", CORS)
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

/// HTTPPathModifier.replacePrefixMatch, the table in its documentation: path, prefix, replacement, result.
const PREFIXES: [(&str, &str, &str, &str); 11] = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
];

/// One route per pair of prefix and replacement, each on a host of its own.
fn by_prefix(kind: &str, filter: &str, field: &str) -> Vec<String> {
    let pairs: BTreeMap<String, (&str, &str)> = PREFIXES
        .iter()
        .map(|(_, prefix, with, _)| (prefix_host(kind, prefix, with), (*prefix, *with)))
        .collect();
    let document = |(host, (prefix, with)): (&String, &(&str, &str))| {
        let path = format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{with}'}}");
        let rule = format!(
            "{{matches: [{{path: {{value: '{prefix}'}}}}], filters: [{{type: {filter}, {field}: {{{path}}}}}]{}}}",
            if kind == "rewrite" { ", backendRefs: [{name: blue, port: 80}]" } else { "" }
        );
        route(host.trim_end_matches(".example"), host, &rule)
    };
    pairs.iter().map(document).collect()
}

fn prefix_host(kind: &str, prefix: &str, with: &str) -> String {
    let word = |text: &str| text.replace('/', "-s");
    format!("{kind}{}-to{}.example", word(prefix), word(with))
}

fn redirects() -> String {
    let mut documents = by_prefix("redirect", "RequestRedirect", "requestRedirect");
    documents.push(REDIRECTS.to_owned());
    join(documents)
}

const REDIRECTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: redirects}
spec:
  parentRefs: [{name: web}]
  hostnames: [redirects.example]
  rules:
  - matches: [{path: {value: /host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example}}]
  - matches: [{path: {value: /301}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 301}}]
  - matches: [{path: {value: /302}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 302}}]
  - matches: [{path: {value: /303}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 303}}]
  - matches: [{path: {value: /307}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 307}}]
  - matches: [{path: {value: /308}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 308}}]
  - matches: [{path: {value: /full}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /all/new}}}]
  - matches: [{path: {value: /prefix}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: redirect-ports}
spec:
  parentRefs: [{name: web}]
  hostnames: [redirect-ports.example]
  rules:
  - matches: [{path: {value: /nothing}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example}}]
  - matches: [{path: {value: /port-80}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, port: 80}}]
  - matches: [{path: {value: /port-443}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, port: 443}}]
  - matches: [{path: {value: /port-8443}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, port: 8443}}]
  - matches: [{path: {value: /http}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, scheme: http}}]
  - matches: [{path: {value: /https}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, scheme: https}}]
  - matches: [{path: {value: /https-443}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, scheme: https, port: 443}}]
  - matches: [{path: {value: /https-8443}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, scheme: https, port: 8443}}]
  - matches: [{path: {value: /http-80}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, scheme: http, port: 80}}]
  - matches: [{path: {value: /same-host}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
";

/// Asks for redirects; what is expected is the status code and the Location.
async fn redirect_table(target: &Target, rows: impl IntoIterator<Item = (String, String, u16, String)>) {
    let mut wrong = String::new();
    for (host, path, status, location) in rows {
        let ask = Ask::get(&host, &path);
        let answer = target.ask(&ask).await;
        if answer.status != status || answer.line("location") != Some(&location) {
            writeln!(wrong, "{ask}\n    expected {status} {location}, got {answer}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn redirects_have_the_status_that_is_asked_for() {
    let rows =
        [("/host/x?a=b", 302), ("/301/x", 301), ("/302", 302), ("/303", 303), ("/307", 307), ("/308", 308)];
    let row = |(path, status): (&str, u16)| {
        ("redirects.example".to_owned(), path.to_owned(), status, format!("http://new.example{path}"))
    };
    redirect_table(&web().await, rows.map(row)).await;
}

#[tokio::test]
async fn redirects_replace_paths_and_keep_queries() {
    let rows = [
        ("/full/x/y", "http://redirects.example/all/new"),
        ("/full/x?a=b", "http://redirects.example/all/new?a=b"),
        ("/prefix/x?a=b", "http://new.example/p/x?a=b"),
        ("/prefix", "http://new.example/p"),
    ];
    let row = |(path, location): (&str, &str)| {
        ("redirects.example".to_owned(), path.to_owned(), 302, location.to_owned())
    };
    redirect_table(&web().await, rows.map(row)).await;
}

#[tokio::test]
async fn redirects_replace_prefixes_without_double_slashes() {
    let row = |(path, prefix, with, result): (&str, &str, &str, &str)| {
        let host = prefix_host("redirect", prefix, with);
        let location = format!("http://{host}{result}");
        (host, path.to_owned(), 302, location)
    };
    redirect_table(&web().await, PREFIXES.map(row)).await;
}

/// HTTPRequestRedirectFilter.port: the port that is given, else the scheme's, else the listener's; the scheme's own is left out.
#[tokio::test]
async fn the_port_of_a_redirect_follows_its_scheme_or_the_listener() {
    let world = world().await;
    let http = world.http("web", 80).await;
    let other = world.http("web", 8080).await;
    let https = Target::https(world.http("web", 443).await.address(), "redirect-ports.example");
    let rows = [
        (&http, "/nothing", "http://new.example/nothing"),
        (&http, "/port-80", "http://new.example/port-80"),
        (&http, "/port-443", "http://new.example:443/port-443"),
        (&http, "/port-8443", "http://new.example:8443/port-8443"),
        (&http, "/https", "https://new.example/https"),
        (&http, "/https-443", "https://new.example/https-443"),
        (&http, "/https-8443", "https://new.example:8443/https-8443"),
        (&other, "/nothing", "http://new.example:8080/nothing"),
        (&other, "/port-80", "http://new.example/port-80"),
        (&other, "/https", "https://new.example/https"),
        (&other, "/http", "http://new.example/http"),
        (&https, "/nothing", "https://new.example/nothing"),
        (&https, "/port-443", "https://new.example/port-443"),
        (&https, "/port-80", "https://new.example:80/port-80"),
        (&https, "/port-8443", "https://new.example:8443/port-8443"),
        (&https, "/http", "http://new.example/http"),
        (&https, "/http-80", "http://new.example/http-80"),
    ];
    let mut wrong = String::new();
    for (target, path, location) in rows {
        let answer = target.ask(&Ask::get("redirect-ports.example", path)).await;
        if (answer.status, answer.line("location")) != (302, Some(location)) {
            writeln!(wrong, "{target:?} {path}\n    expected {location}, got {answer}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn a_port_in_the_host_header_does_not_reach_the_redirect() {
    let answer = web().await.ask(&Ask::get("redirect-ports.example:8080", "/same-host")).await;
    let location = answer.line("location").unwrap_or_default();
    // The scheme's own port should be left out, and may be said.
    let allowed =
        ["https://redirect-ports.example/same-host", "https://redirect-ports.example:443/same-host"];
    assert!(answer.status == 302 && allowed.contains(&location), "{answer}");
}

fn rewrites() -> String {
    let mut documents = by_prefix("rewrite", "URLRewrite", "urlRewrite");
    documents.push(REWRITES.to_owned());
    join(documents)
}

const REWRITES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rewrites}
spec:
  parentRefs: [{name: web}]
  hostnames: [rewrites.example]
  rules:
  - matches: [{path: {value: /full}}, {path: {type: RegularExpression, value: '/re/[0-9]+'}}, {path: {type: Exact, value: /exactly}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /host}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: inside.example}}]
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {value: /all}}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: inside.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /some}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Add, value: added}], remove: [X-Remove]}}
    backendRefs: [{name: blue, port: 80}]
";

#[tokio::test]
async fn rewrites_replace_prefixes_without_double_slashes() {
    let target = web().await;
    let mut wrong = String::new();
    for (path, prefix, with, result) in PREFIXES {
        for query in ["", "?a=/foo"] {
            let ask = Ask::get(&prefix_host("rewrite", prefix, with), &format!("{path}{query}"));
            let seen = target.ask(&ask).await.echoed().path;
            if seen != format!("{result}{query}") {
                writeln!(wrong, "{ask} {prefix:?} to {with:?}: expected {result}{query}, seen {seen}")
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn rewrites_replace_whole_paths_and_keep_queries() {
    let target = web().await;
    let rows =
        [("/full", "/new"), ("/full/x/y?a=b", "/new?a=b"), ("/re/12", "/new"), ("/exactly?q", "/new?q")];
    for (path, expected) in rows {
        assert_eq!(target.ask(&Ask::get("rewrites.example", path)).await.echoed().path, expected, "{path}");
    }
}

#[tokio::test]
async fn a_rewritten_host_reaches_the_backend() {
    let target = web().await;
    let host = target.ask(&Ask::get("rewrites.example", "/host")).await.echoed();
    assert_eq!((host.host.as_str(), host.path.as_str()), ("inside.example", "/host"));
    let ask = Ask::get("rewrites.example", "/all/x?a=b").headers(&[("x-add", "first"), ("x-remove", "gone")]);
    let all = target.ask(&ask).await.echoed();
    assert_eq!((all.host.as_str(), all.path.as_str()), ("inside.example", "/some/x?a=b"));
    assert_eq!((values(&all.header("x-add")), all.header("x-remove")), (vec!["first", "added"], vec![]));
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

//! Redirects and rewrites of URLs: paths, hosts, ports, and what is left of the query.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, join, route, secret};
use portolan_e2e::rig::{Ask, Shared, Target, World};

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
                .backend("blue")
                .manifest("web.yaml", &join([gateway("web", listeners), secret("cert", &pair)]))
                .manifest("redirects.yaml", &redirects())
                .manifest("rewrites.yaml", &rewrites())
                .start()
                .await
        })
        .await
}

async fn web() -> Target {
    world().await.http("web", 80).await
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
    assert_eq!((all.header("x-add").join(","), all.header("x-remove")), ("first,added".to_owned(), vec![]));
}

//! Given the bytes of a file, expect its objects and its problems.

use std::path::Path;

use super::{Manifest, read};

const ROUTE: &str =
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {}\n";

fn manifest(bytes: impl AsRef<[u8]>) -> Manifest {
    read(&Path::new("m").into(), bytes.as_ref())
}

/// Its objects, with `!` before broken ones, and their places.
fn objects(manifest: &Manifest) -> Vec<String> {
    let show = |one: &super::Definition| {
        format!("{}{} {}:{}", if one.good.is_some() { "" } else { "!" }, one.key, one.line, one.column)
    };
    manifest.definitions.iter().map(show).collect()
}

fn problems(manifest: &Manifest) -> Vec<String> {
    manifest.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_has_documents_and_lists_in_yaml_and_json() {
    let namespace = "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"n\", \"annotations\": {\"a\": \"\\ud83d\\ude00\\/\"}}}\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n";
    let typed = "apiVersion: v1\nkind: NamespaceList\nitems:\n- metadata: {name: c}\n";
    let read = manifest([namespace, ROUTE, list, typed].join("---\n"));
    assert_eq!(problems(&read), [""; 0]);
    assert_eq!(
        objects(&read),
        [
            "Namespace/n 1:1",
            "HTTPRoute/default/r 4:1",
            "Namespace/a 12:3",
            "Namespace/b 15:3",
            "Namespace/c 20:3"
        ]
    );
    assert!(!read.unidentified);
}

#[test]
fn a_broken_document_harms_only_itself() {
    let wrong = ROUTE.replace("{}", "{rules: 1}");
    let read = manifest([ROUTE, "kind: [\n", &wrong, ROUTE].join("---\n"));
    assert_eq!(
        problems(&read),
        [
            "m:7:1: error: is not YAML: while parsing a node, did not find expected node content; the [ in line 6, column 7 is not closed",
            "m:11:15: error: HTTPRoute/default/r: spec.rules: expected a list, found the number 1"
        ]
    );
    assert_eq!(
        objects(&read),
        ["HTTPRoute/default/r 1:1", "!HTTPRoute/default/r 8:1", "HTTPRoute/default/r 13:1"]
    );
    assert!(read.unidentified);
}

#[test]
fn what_is_no_object_of_ours_is_named() {
    for (text, expected, unidentified) in [
        ("a", "m:1:1: error: expected a Kubernetes object, with texts as apiVersion and kind", true),
        ("[]", "m:1:1: error: expected a Kubernetes object, with texts as apiVersion and kind", true),
        (
            "kind: Gateway",
            "m:1:1: error: expected a Kubernetes object, with texts as apiVersion and kind",
            true,
        ),
        (
            "kind: 1\napiVersion: v1",
            "m:1:1: error: expected a Kubernetes object, with texts as apiVersion and kind",
            true,
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HttpRoute",
            "m:2:7: error: HttpRoute is no kind of gateway.networking.k8s.io; did you mean HTTPRoute?",
            true,
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1alpha1\nkind: HTTPRoute",
            "m:1:13: error: HTTPRoute has no version v1alpha1: expected v1 or v1beta1",
            true,
        ),
        (
            "apiVersion: v1\nkind: HTTPRoute",
            "m:1:13: error: HTTPRoute is a kind of gateway.networking.k8s.io: expected apiVersion gateway.networking.k8s.io/v1",
            true,
        ),
        (
            "apiVersion: gateway.networking.x-k8s.io/v1\nkind: Gateway",
            "m:1:13: error: Gateway is a kind of gateway.networking.k8s.io: expected apiVersion gateway.networking.k8s.io/v1",
            true,
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway",
            "m:2:7: warning: networking.istio.io/v1 Gateway is not read by Portolan",
            false,
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment",
            "m:2:7: warning: apps/v1 Deployment is not read by Portolan",
            false,
        ),
        ("apiVersion: v1\nkind: Pod", "m:2:7: warning: v1 Pod is not read by Portolan", false),
    ] {
        let read = manifest(text);
        assert_eq!(problems(&read), [expected], "{text}");
        assert_eq!(read.unidentified, unidentified, "{text}");
    }
}

#[test]
fn a_kind_that_is_not_resolved_is_checked_all_the_same() {
    for (kind, spec) in [
        ("TCPRoute", "{rules: [{backendRefs: [{name: a, port: 1}]}]}"),
        ("UDPRoute", "{rules: [{backendRefs: [{name: a, port: 1}]}]}"),
        ("TLSRoute", "{hostnames: [a.b], rules: [{backendRefs: [{name: a, port: 1}]}]}"),
        ("ListenerSet", "{parentRef: {name: g}, listeners: [{name: a, port: 80, protocol: HTTP}]}"),
        (
            "BackendTLSPolicy",
            "{targetRefs: [{group: '', kind: Service, name: s}], validation: {hostname: a.b, wellKnownCACertificates: System}}",
        ),
    ] {
        let object = |spec: &str| {
            format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}"
            )
        };
        let warning = format!("m:1:1: warning: {kind}/default/x: is valid, but not resolved yet");
        let expected = if crate::model::Kind::from_name(kind).is_some() { Vec::new() } else { vec![warning] };
        assert_eq!(problems(&manifest(object(spec))), expected);
        let broken = problems(&manifest(object("{nonsense: 1}")));
        assert!(
            broken
                .iter()
                .any(|one| one.ends_with(&format!("{kind}/default/x: spec.nonsense: unknown field"))),
            "{broken:?}"
        );
    }
}

#[test]
fn an_object_without_a_usable_name_is_not_identified() {
    for metadata in ["{}", "{name: A}", "{name: r, namespace: a.b}", "{name: 1}", "1"] {
        let read = manifest(ROUTE.replace("{name: r}", metadata));
        assert_eq!(objects(&read), [""; 0], "{metadata}");
        assert!(read.unidentified, "{metadata}");
        assert_eq!(read.problems.len(), 1, "{metadata}: {:?}", problems(&read));
    }
}

#[test]
fn bytes_that_are_no_text_have_their_line() {
    let mut bytes = ROUTE.as_bytes().to_vec();
    bytes.extend([b'#', 0xff, 0xfe]);
    let read = manifest(bytes);
    assert_eq!(problems(&read), ["m:5:1: error: is not UTF-8"]);
    assert!(read.unidentified);
    assert_eq!(problems(&manifest(format!("\u{feff}{ROUTE}"))), [""; 0], "a byte order mark is no mistake");
}

#[test]
fn bombs_are_problems_like_others() {
    let laughs: String = (1..40).fold(String::new(), |text, level| {
        format!("{text}a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1)
    });
    for (bomb, expected) in [
        (format!("a0: &a0 [x]\n{laughs}"), "write them out"),
        ("[".repeat(1_000_000), "nests deeper than 100 levels"),
        ("{a: ".repeat(1_000_000), "nests deeper than 100 levels"),
        ("- ".repeat(1_000_000), "nests deeper than 100 levels"),
        (format!("a: [{}]", "1, ".repeat(2_000_001)), "has more than 2000000 values: split it"),
    ] {
        let read = manifest(format!("{bomb}\n---\n{ROUTE}"));
        assert_eq!(objects(&read).len(), 1, "{bomb:.40}");
        assert_eq!(read.problems.len(), 1, "{bomb:.40}");
        assert!(read.problems[0].message.contains(expected), "{bomb:.40}: {}", read.problems[0]);
    }
}

#[test]
fn a_file_full_of_mistakes_has_a_list_that_ends() {
    let read = manifest("---\nkind: X\n".repeat(1500));
    assert_eq!(read.problems.len(), 1001);
    assert_eq!(read.problems[1000].to_string(), "m: error: has 500 more problems, which are not listed");
}

#[test]
fn no_bytes_make_it_panic() {
    let pieces = [
        "a", ":", " ", "\n", "-", "---", "[", "]", "{", "}", "&a", "*a", "!!", "!", "|", ">", "'", "\"", "#",
        "%", "?", "é", "\t", "\r", "<<",
    ];
    // Every sequence of three, before and after something whole.
    for first in pieces {
        for second in pieces {
            for third in pieces {
                drop(manifest(format!("{first}{second}{third}\n---\n{ROUTE}{first}{second}{third}")));
            }
        }
    }
}

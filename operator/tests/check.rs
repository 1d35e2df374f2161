//! `portolan check` as a person uses it: the binary, files, text and exit codes.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn check(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_portolan")).arg("check").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

const GOOD: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: portolan}\nspec: {controllerName: portolan.dev/gateway-controller}\n";

fn in_folder(files: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    check(&[folder.path().to_str().unwrap()])
}

fn samples() -> String {
    format!("{}/../config/samples/quickstart", env!("CARGO_MANIFEST_DIR"))
}

/// The Secret that the samples leave out, as hack/quickstart makes it.
fn certificate(folder: &Path) -> String {
    let pair = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()]).unwrap();
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop-example-com"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pair.cert.pem(), "tls.key": pair.signing_key.serialize_pem()},
    });
    let path = folder.join("secret.json");
    fs::write(&path, secret.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_quickstart_samples_are_fine_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ran = check(&[&samples(), &certificate(folder.path())]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains("HTTPRoute/default/shop"), "{}", ran.out);
    assert!(ran.out.contains("http: 3, https: 2"), "{}", ran.out);
}

#[test]
fn the_quickstart_samples_lack_their_certificate_and_nothing_else() {
    let ran = check(&[&samples()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{}", ran.out);
    let faults: Vec<_> = ran.out.lines().filter(|line| line.contains("=False")).collect();
    assert!(matches!(faults[..], [one] if one.contains("listener https: ResolvedRefs=False")), "{}", ran.out);
    assert!(faults[0].contains("Secret/default/shop-example-com does not exist"), "{}", ran.out);
}

#[test]
fn status_comes_as_json_too() {
    let ran = check(&[&samples(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["Gateway/default/web"]["listeners"][0]["attachedRoutes"], 3);
}

#[test]
fn a_broken_document_is_named_by_file_and_line_and_the_rest_is_read() {
    let ran = in_folder(&[("a.yaml", &format!("{GOOD}---\nkind: [\n---\n{GOOD}"))]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("a.yaml:7:1: error: is not YAML"), "{}", ran.err);
    assert!(ran.err.contains("GatewayClass/portolan is also defined in"), "{}", ran.err);
    assert!(ran.out.contains("GatewayClass/portolan"), "{}", ran.out);
}

#[test]
fn a_reference_to_nothing_fails_the_check_and_says_what_is_missing() {
    let rest = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec: {gatewayClassName: portolan, listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: web}], rules: [{backendRefs: [{name: nobody, port: 80}]}]}\n";
    let ran = in_folder(&[("a.yaml", &format!("{GOOD}{rest}"))]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("BackendNotFound: Service/default/nobody does not exist"), "{}", ran.out);
}

#[test]
fn unknown_kinds_are_named_and_foreign_ones_are_harmless() {
    let foreign = in_folder(&[
        ("a.yaml", GOOD),
        ("b.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"),
    ]);
    assert_eq!(foreign.code, Some(0), "{}", foreign.err);
    assert!(
        foreign.err.contains("b.yaml:2:7: warning: apps/v1 Deployment is not read by Portolan"),
        "{}",
        foreign.err
    );
    let ours = in_folder(&[("a.yaml", &GOOD.replace("GatewayClass", "GatewayKlass"))]);
    assert_eq!(ours.code, Some(1));
    assert!(
        ours.err.contains("a.yaml:2:7: error: GatewayKlass is no kind of gateway.networking.k8s.io; did you mean GatewayClass?"),
        "{}",
        ours.err
    );
}

#[test]
fn a_schema_error_points_at_the_field_and_says_what_was_expected() {
    let ran = in_folder(&[("a.yaml", &GOOD.replace("controllerName", "controlerName"))]);
    assert_eq!(ran.code, Some(1));
    let lines: Vec<&str> = ran.err.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "portolan: spec.controllerName: is required",
            "portolan: spec.controlerName: unknown field; did you mean controllerName?"
        ]
    );
    assert!(ran.err.contains("a.yaml:4:8: error: GatewayClass/portolan: spec."), "{}", ran.err);
}

#[test]
fn no_input_makes_it_panic() {
    let deep = "[".repeat(100_000);
    let alias = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\n";
    for text in [
        "",
        "---",
        "\u{feff}",
        "\0",
        "a: b: c",
        "- - -\t-",
        "{",
        &deep,
        alias,
        "kind: Secret\napiVersion: v1\nmetadata: {name: s}\ndata: {tls.key: '%%%'}\n",
    ] {
        let ran = in_folder(&[("a.yaml", text)]);
        assert!(
            matches!(ran.code, Some(0 | 1)),
            "{:?} for {:?}: {}",
            ran.code,
            &text[..text.len().min(40)],
            ran.err
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    let ran = check(&[folder.path().to_str().unwrap()]);
    assert!(ran.err.contains("is not UTF-8") && ran.code == Some(1), "{}", ran.err);
}

#[test]
fn ten_megabytes_of_manifest_are_read() {
    let service = |index: usize| {
        let text = "x".repeat(900);
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{index}, annotations: {{a: {text}}}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    let text: String = std::iter::once(GOOD.to_owned()).chain((0..11_000).map(service)).collect();
    assert!(text.len() > 10 << 20, "{} bytes", text.len());
    let ran = in_folder(&[("big.yaml", &text)]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn a_secret_is_never_shown() {
    let secret = |rest: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{rest}\n");
    for rest in [
        "data: {tls.key: hunter2}",
        "data: hunter2",
        "data: {tls.key: [hunter2]}",
        "stringData: {tls.key: {a: hunter2}}",
        "stringData: {tls.key: \"hunter2",
        "stringData:\n  tls.key: hunter2\n    : x",
        "type: hunter2\ndata: 1",
        "stringData: {tls.key: hunter2 *hunter2}\n *hunter2",
        "stringData: {tls.key: !hunter2 a}",
    ] {
        let ran = in_folder(&[("a.yaml", &secret(rest))]);
        assert!(
            !ran.err.contains("hunter2") && !ran.out.contains("hunter2"),
            "{rest}\n{}{}",
            ran.err,
            ran.out
        );
    }
}

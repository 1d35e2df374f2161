//! Given a manifest of a core kind, expect what is wrong with it.

use std::path::Path;

use serde_json::json;

use crate::{model::Object, source::manifest};

/// The errors, each without the file's name.
fn problems(yaml: &str) -> Vec<String> {
    let read = manifest::read(&Path::new("m").into(), yaml.as_bytes());
    let errors = read.problems.iter().filter(|one| one.is_error()).map(ToString::to_string);
    errors.map(|one| one.strip_prefix("m:").unwrap_or_default().to_owned()).collect()
}

fn expect(table: &[(&str, &str)]) {
    for (yaml, expected) in table {
        let found = problems(yaml);
        if expected.is_empty() {
            assert_eq!(found, [""; 0], "{yaml}");
        } else {
            assert_eq!(found.len(), 1, "{yaml}\n{found:?}");
            assert!(found[0].starts_with(expected), "{yaml}\nexpected {expected}\nfound    {}", found[0]);
        }
    }
}

#[test]
fn metadata_is_checked_for_every_kind() {
    let long = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}", "a".repeat(64));
    expect(&[
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a.b}}", ""),
        ("{apiVersion: v1, kind: ConfigMap}", "1:1: error: ConfigMap: metadata: is required"),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: []}",
            "1:45: error: ConfigMap: metadata: expected a map of fields",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {}}",
            "1:45: error: ConfigMap: metadata.name: is required",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-}}",
            "1:45: error: ConfigMap: metadata.name: is required; generateName needs an API server",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: 1}}",
            "1:52: error: ConfigMap: metadata.name: expected a text, found the number 1",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: A_b}}",
            "1:52: error: ConfigMap/default/A_b: metadata.name: expected at most 253 lower",
        ),
        (&long, "1:52: error: Namespace/aaaa"),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}",
            "1:52: error: Namespace/a.b: metadata.name: expected at most 63 lower",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: 1a}, spec: {ports: [{port: 1}]}}",
            "1:50: error: Service/default/1a: metadata.name: expected at most 63 lower case letters, digits and '-', a letter first",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: a.b}}",
            "1:66: error: ConfigMap/a.b/a: metadata.namespace: expected at most 63",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}}",
            "1:45: error: Namespace/a: metadata.namespace: must not be set: Namespace lives outside namespaces",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {a b: c}}}",
            "1:64: error: Namespace/a: metadata.labels[this key]: expected as key a name of at most 63",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {b.c/d: e f}}}",
            "1:71: error: Namespace/a: metadata.labels[b.c/d]: expected at most 63 letters",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {b: 1}}}",
            "1:67: error: Namespace/a: metadata.labels[b]: expected a text, found the number 1: put it in quotes",
        ),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {B.c/D: e f}}}", ""),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labls: {}}}",
            "1:55: error: Namespace/a: metadata.labls: unknown field; did you mean labels?",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, creationTimestamp: null, uid: x, managedFields: [{fieldsV1: {f: {}}}]}}",
            "",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, creationTimestamp: now}}",
            "1:74: error: Namespace/a: metadata.creationTimestamp: expected a time such as",
        ),
    ]);
    let annotations = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: a, annotations: {{b: {}}}}}}}",
        "x".repeat(300_000)
    );
    expect(&[(
        &annotations,
        "1:68: error: Namespace/a: metadata.annotations: expected at most 262144 bytes in all, found 300001",
    )]);
}

#[test]
fn services_are_checked() {
    let service =
        |spec: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}");
    for (spec, expected) in [
        ("{ports: [{port: 80}]}", ""),
        (
            "{ports: [{port: 80, name: a, protocol: TCP}, {port: 80, name: b, protocol: UDP}], type: NodePort}",
            "",
        ),
        ("{clusterIP: None}", ""),
        ("{type: ExternalName, externalName: a.b.}", ""),
        (
            "{ports: [{port: 80, targetPort: web}, {port: 81, targetPort: 8081, name: b}]}",
            "spec.ports[0].name: is required, because",
        ),
        ("{}", "spec.ports: is required"),
        ("{ports: [{}]}", "spec.ports[0].port: is required"),
        ("{ports: [{port: 0}]}", "spec.ports[0].port: expected a port from 1 to 65535, found the number 0"),
        (
            "{ports: [{port: 65536}]}",
            "spec.ports[0].port: expected a port from 1 to 65535, found the number 65536",
        ),
        ("{ports: [{port: http}]}", "spec.ports[0].port: expected an integer, found the text \"http\""),
        ("{ports: [{port: 1, name: A}]}", "spec.ports[0].name: expected at most 63 lower case"),
        (
            "{ports: [{port: 1, name: a}, {port: 2, name: a}]}",
            "spec.ports[1].name: has the same name as the one in line 1",
        ),
        (
            "{ports: [{port: 1, name: a}, {port: 1, name: b}]}",
            "spec.ports[1]: has the same protocol and port as",
        ),
        (
            "{ports: [{port: 1, protocol: tcp}]}",
            "spec.ports[0].protocol: expected one of TCP, UDP, SCTP, found the text \"tcp\"; did you mean TCP?",
        ),
        (
            "{ports: [{port: 1, targetPort: 70000}]}",
            "spec.ports[0].targetPort: expected a port from 1 to 65535",
        ),
        (
            "{ports: [{port: 1, targetPort: web--x}]}",
            "spec.ports[0].targetPort: expected a number or at most 15",
        ),
        (
            "{ports: [{port: 1, targetPort: 123-4}]}",
            "spec.ports[0].targetPort: expected a number or at most 15",
        ),
        (
            "{ports: [{port: 1, targetPort: []}]}",
            "spec.ports[0].targetPort: expected an integer or a text, found a list",
        ),
        ("{ports: [{port: 1, appProtocol: kubernetes.io/h2c}]}", ""),
        (
            "{ports: [{port: 1, appProtocol: a/b/c}]}",
            "spec.ports[0].appProtocol: expected a name of at most 63",
        ),
        (
            "{ports: [{port: 1}], type: clusterip}",
            "spec.type: expected one of ClusterIP, NodePort, LoadBalancer, ExternalName, found the text \"clusterip\"; did you mean ClusterIP?",
        ),
        ("{type: ExternalName}", "spec.externalName: is required for type ExternalName"),
        ("{type: ExternalName, externalName: A_b}", "spec.externalName: expected at most 253"),
        ("{ports: [{port: 1}], selectr: {}}", "spec.selectr: unknown field; did you mean selector?"),
    ] {
        let found = problems(&service(spec));
        let text = found.join("\n");
        assert_eq!(found.is_empty(), expected.is_empty(), "{spec}: {text}");
        assert!(
            text.contains(&format!("error: Service/default/s: {expected}")) || found.is_empty(),
            "{spec}: {text}"
        );
    }
}

#[test]
fn endpoint_slices_are_checked() {
    let slice = |rest: &str| {
        format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: e}}, {rest}}}")
    };
    for (rest, expected) in [
        ("addressType: IPv4", ""),
        ("addressType: IPv4, endpoints: [{addresses: [127.0.0.1]}], ports: [{port: 80}]", ""),
        ("addressType: IPv6, endpoints: [{addresses: ['::1']}], ports: [{name: a, port: 80}, {name: b}]", ""),
        ("addressType: FQDN, endpoints: [{addresses: [a.b]}]", ""),
        ("endpoints: []", "addressType: is required"),
        (
            "addressType: ipv4",
            "addressType: expected one of IPv4, IPv6, FQDN, found the text \"ipv4\"; did you mean IPv4?",
        ),
        ("addressType: IPv4, endpoints: [{}]", "endpoints[0].addresses: is required"),
        (
            "addressType: IPv4, endpoints: [{addresses: []}]",
            "endpoints[0].addresses: expected at least one address",
        ),
        (
            "addressType: IPv4, endpoints: [{addresses: ['::1']}]",
            "endpoints[0].addresses[0]: expected an IPv4 address",
        ),
        (
            "addressType: IPv4, endpoints: [{addresses: [10.0.0.01]}]",
            "endpoints[0].addresses[0]: expected an IPv4 address",
        ),
        (
            "addressType: IPv6, endpoints: [{addresses: [10.0.0.1]}]",
            "endpoints[0].addresses[0]: expected an IPv6 address",
        ),
        (
            "addressType: IPv4, endpoints: [{addresses: [0.0.0.0]}]",
            "endpoints[0].addresses[0]: must not be the unspecified",
        ),
        (
            "addressType: IPv4, endpoints: [{addresses: [169.254.169.254]}]",
            "endpoints[0].addresses[0]: must not be a link-local",
        ),
        (
            "addressType: IPv6, endpoints: [{addresses: ['fe80::1']}]",
            "endpoints[0].addresses[0]: must not be a link-local",
        ),
        (
            "addressType: IPv4, endpoints: [{addresses: [224.0.0.1]}]",
            "endpoints[0].addresses[0]: must not be a multicast",
        ),
        ("addressType: IPv4, ports: [{port: 80}, {port: 81}]", "ports[1].name: has the same name as"),
        ("addressType: IPv4, ports: [{port: -1}]", "ports[0].port: expected a port from 1 to 65535"),
        ("addressType: IPv4, ports: [{name: A, port: 1}]", "ports[0].name: expected at most 63"),
        (
            "addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {ready: 'true'}}]",
            "endpoints[0].conditions.ready: expected true or false, found the text \"true\": remove the quotes",
        ),
    ] {
        let found = problems(&slice(rest));
        let text = found.join("\n");
        assert_eq!(found.is_empty(), expected.is_empty(), "{rest}: {text}");
        assert!(
            text.contains(&format!("error: EndpointSlice/default/e: {expected}")) || found.is_empty(),
            "{rest}: {text}"
        );
    }
}

#[test]
fn secrets_are_checked_and_never_shown() {
    let secret = |rest: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {rest}}}");
    for (rest, expected) in [
        ("data: {a: aGVsbG8=}", ""),
        ("data: {a: \"aGVs\\nbG8=\\n\"}", ""),
        ("data: {a: hunter2!}", "data[a]: is not base64; stringData takes plain text"),
        ("data: {a: 12345678}", "data[a]: expected a text, found a number: put it in quotes"),
        ("data: {a: [hunter2]}", "data[a]: expected a text, found a list"),
        ("data: {a/b: aGVsbG8=}", "data[a/b]: expected a key of at most 253"),
        ("data: hunter2", "data: expected a map of fields, found a text"),
        ("stringData: {a: true}", "stringData[a]: expected a text, found a boolean: put it in quotes"),
        (
            "type: kubernetes.io/tls, data: {tls.crt: aGVsbG8=}",
            "data[tls.key]: is required in a Secret of type kubernetes.io/tls",
        ),
        ("type: kubernetes.io/tls, data: {tls.crt: aGVsbG8=}, stringData: {tls.key: hunter2}", ""),
        ("dta: {a: hunter2}", "dta: unknown field; did you mean data?"),
    ] {
        let found = problems(&secret(rest));
        let text = found.join("\n");
        assert_eq!(found.is_empty(), expected.is_empty(), "{rest}: {text}");
        assert!(
            text.contains(&format!("error: Secret/default/s: {expected}")) || found.is_empty(),
            "{rest}: {text}"
        );
        assert!(!text.contains("hunter") && !text.contains("12345678"), "{text}");
    }
    let big = secret(&format!("stringData: {{a: {}}}", "x".repeat((1 << 20) + 1)));
    assert!(problems(&big)[0].contains("data: expected at most 1048576 bytes in all, found 1048577"));
}

#[test]
fn string_data_is_merged_over_data() {
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {tls.crt: b2xk, tls.key: a2V5}, stringData: {tls.crt: new}}";
    let read = manifest::read(&Path::new("m").into(), text.as_bytes());
    let Some(Object::Secret(secret)) = read.definitions[0].good.as_ref().map(|good| good.object.clone())
    else {
        panic!()
    };
    assert_eq!(secret.certificate.as_deref(), Some(&b"new"[..]));
    assert_eq!(secret.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(&*secret.type_, "Opaque");
}

#[test]
fn config_maps_are_checked() {
    let map = |rest: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, {rest}}}");
    for (rest, expected) in [
        ("data: {ca.crt: x}", ""),
        ("data: {a: 1}", "data[a]: expected a text, found the number 1: put it in quotes"),
        ("data: {a: x}, binaryData: {a: aGVsbG8=}", "data[a]: stands in binaryData too"),
        ("binaryData: {a: x}", "binaryData[a]: is not base64"),
        ("data: {..: x}", "data[..]: expected a key of"),
    ] {
        let found = problems(&map(rest)).join("\n");
        assert_eq!(found.is_empty(), expected.is_empty(), "{rest}: {found}");
        assert!(
            found.contains(&format!("ConfigMap/default/c: {expected}")) || found.is_empty(),
            "{rest}: {found}"
        );
    }
}

#[test]
fn a_trust_bundle_holds_certificates_and_has_its_signers_name() {
    let pem = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap().cert.pem();
    let bundle = |name: &str, signer: &str, text: &str| {
        json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": name},
            "spec": {"signerName": signer, "trustBundle": text},
        })
        .to_string()
    };
    for (name, signer, text, expected) in [
        ("ca", "", &*pem, ""),
        ("example.com:ca:one", "example.com/ca", &*pem, ""),
        ("example.com:ca:one", "", &*pem, "metadata.name: expected at most 253"),
        (
            "one",
            "example.com/ca",
            &*pem,
            "metadata.name: expected a name that begins with \"example.com:ca:\"",
        ),
        ("example.com:ca:one:two", "example.com/ca", &*pem, "metadata.name: expected at most 253"),
        ("ca", "", "nonsense", "spec.trustBundle: holds no certificate"),
        ("ca", "", "", "spec.trustBundle: holds no certificate"),
    ] {
        let found = problems(&bundle(name, signer, text));
        assert_eq!(found.len(), usize::from(!expected.is_empty()), "{name} {signer}: {found:?}");
        assert!(found.iter().all(|one| one.contains(expected)), "{name} {signer}: {found:?}");
    }
    let missing =
        "{apiVersion: certificates.k8s.io/v1beta1, kind: ClusterTrustBundle, metadata: {name: ca}, spec: {}}";
    assert!(problems(missing)[0].contains("spec.trustBundle: is required"), "{:?}", problems(missing));
    // Kubernetes has other kinds in that group, which are none of our business.
    let other = "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: a}}";
    assert_eq!(problems(other), [""; 0]);
}

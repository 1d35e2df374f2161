//! Given a document, expect its value and what is wrong with it.

use std::{collections::BTreeMap, fs, path::Path as FilePath};

use kube_cel::cel::Value as Cel;
use serde_json::{Value, json};

use super::{Findings, Path, Schema, check, of};
use crate::source::manifest::yaml::{Node, Reader};

const GROUP: &str = "gateway.networking.k8s.io";

fn node(yaml: &str) -> Node {
    Reader::new(yaml, 1).next().expect("a document").expect("YAML")
}

fn checked(kind: &str, yaml: &str) -> (Value, Vec<String>) {
    let schema = of(GROUP, "v1", kind).expect(kind);
    let mut findings = Findings::new(false);
    let value = check(&schema.schema, &node(yaml), &Path::Root, &mut findings);
    let list = findings.into_list();
    let show = list.iter().map(|one| format!("{}:{}: {}", one.at.line, one.at.column, one.message));
    (value, show.collect())
}

fn route(spec: &str) -> String {
    format!("apiVersion: {GROUP}/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {spec}\n")
}

fn gateway(spec: &str) -> String {
    format!("apiVersion: {GROUP}/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {spec}\n")
}

#[test]
fn defaults_are_filled_in_as_the_api_server_does() {
    let (value, wrong) = checked(
        "HTTPRoute",
        &route(
            "{parentRefs: [{name: web}], rules: [{backendRefs: [{name: a, port: 80}], filters: null}, {matches: [{headers: [{name: a, value: b}]}]}]}",
        ),
    );
    assert_eq!(wrong, [""; 0]);
    let path = json!({"type": "PathPrefix", "value": "/"});
    assert_eq!(value["spec"]["parentRefs"][0], json!({"name": "web", "group": GROUP, "kind": "Gateway"}));
    let rule = &value["spec"]["rules"][0];
    assert_eq!(rule["matches"], json!([{"path": path}]));
    assert_eq!(
        rule["backendRefs"][0],
        json!({"name": "a", "port": 80, "group": "", "kind": "Service", "weight": 1})
    );
    assert!(rule.get("filters").is_none(), "null is nothing");
    let second = &value["spec"]["rules"][1]["matches"][0];
    assert_eq!(second, &json!({"headers": [{"name": "a", "value": "b", "type": "Exact"}], "path": path}));
    let (value, _) = checked("HTTPRoute", &route("{parentRefs: [{name: web}]}"));
    assert_eq!(value["spec"]["rules"], json!([{"matches": [{"path": path}]}]));
    let (value, wrong) = checked(
        "Gateway",
        &gateway(
            "{gatewayClassName: c, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s}]}}]}",
        ),
    );
    assert_eq!(wrong, [""; 0]);
    let listener = &value["spec"]["listeners"][0];
    assert_eq!(listener["allowedRoutes"], json!({"namespaces": {"from": "Same"}}));
    assert_eq!(
        listener["tls"],
        json!({"mode": "Terminate", "certificateRefs": [{"name": "s", "group": "", "kind": "Secret"}]})
    );
}

#[test]
fn what_somebody_else_writes_is_not_looked_at() {
    let (value, wrong) = checked("HTTPRoute", &format!("{}status: {{nonsense: 1}}\n", route("{}")));
    assert_eq!(wrong, [""; 0]);
    assert!(value.get("status").is_none());
}

#[test]
fn each_wrong_field_has_its_place_and_says_what_was_expected() {
    let long = "x".repeat(1025);
    let hostnames = "a.example.com, ".repeat(17);
    for (spec, expected) in [
        ("{ruless: []}", "4:8: spec.ruless: unknown field; did you mean rules?"),
        ("{rules: {}}", "4:15: spec.rules: expected a list, found a map: put \"- \" before it"),
        ("[]", "4:7: spec: expected a map of fields, found a list"),
        ("{parentRefs: [{}]}", "4:21: spec.parentRefs[0].name: is required"),
        (
            "{parentRefs: [{name: web, port: \"80\"}]}",
            "4:39: spec.parentRefs[0].port: expected an integer, found the text \"80\": remove the quotes",
        ),
        (
            "{parentRefs: [{name: 80}]}",
            "4:28: spec.parentRefs[0].name: expected a text, found the number 80: put it in quotes",
        ),
        (
            "{parentRefs: [{name: on}]}",
            "4:28: spec.parentRefs[0].name: expected a text, found the boolean true: put it in quotes (yes, no, on, off, y and n are booleans in YAML)",
        ),
        ("{parentRefs: [null]}", "4:21: spec.parentRefs[0]: expected a map of fields, found nothing"),
        (
            "{parentRefs: [{name: web, port: 0}]}",
            "4:39: spec.parentRefs[0].port: expected a number from 1 to 65535, found the number 0",
        ),
        (
            "{parentRefs: [{name: web, port: 1.5}]}",
            "4:39: spec.parentRefs[0].port: expected an integer, found the number 1.5",
        ),
        (
            "{parentRefs: [{name: web, port: 99999999999}]}",
            "4:39: spec.parentRefs[0].port: expected a number from 1 to 65535, found the number 99999999999",
        ),
        (
            "{hostnames: [\"http://a<\"]}",
            "4:20: spec.hostnames[0]: expected a host name such as www.example.com or *.example.com (lower case letters, digits, '-' and '.'), found \"http://a<\"",
        ),
        (
            &format!("{{hostnames: [{hostnames}]}}"),
            "4:19: spec.hostnames: expected at most 16 items, found 17",
        ),
        ("{hostnames: [\"\"]}", "4:20: spec.hostnames[0]: expected at least 1 characters, found 0"),
        (
            "{rules: [{matches: [{path: {type: Prefix, value: /}}]}]}",
            "4:41: spec.rules[0].matches[0].path.type: expected one of Exact, PathPrefix, RegularExpression, found the text \"Prefix\"; did you mean PathPrefix?",
        ),
        (
            &format!("{{rules: [{{matches: [{{path: {{type: RegularExpression, value: {long}}}}}]}}]}}"),
            "4:67: spec.rules[0].matches[0].path.value: expected at most 1024 characters, found 1025",
        ),
        (
            "{rules: [{matches: [{path: {value: \"/a b\"}}]}]}",
            "4:34: spec.rules[0].matches[0].path: must only contain valid characters",
        ),
        (
            "{rules: [{matches: [{headers: [{name: a b, value: c}]}]}]}",
            "4:45: spec.rules[0].matches[0].headers[0].name: expected the name of a header or a parameter (letters, digits and !#$%&'*+-.^_`|~), found \"a b\"",
        ),
        (
            "{rules: [{matches: [{headers: [{name: a, value: c}, {name: b, value: c}, {name: a, value: d}]}]}]}",
            "4:80: spec.rules[0].matches[0].headers[2]: has the same name as item 0 in line 4",
        ),
        (
            "{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a, b, a]}}]}]}",
            "4:96: spec.rules[0].filters[0].requestHeaderModifier.remove[2]: has the same value as item 0 in line 4",
        ),
        (
            "{rules: [{filters: [{type: URLRewrite}]}]}",
            "4:27: spec.rules[0].filters[0]: filter.urlRewrite must be specified for URLRewrite filter.type",
        ),
        (
            "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 404}}]}]}",
            "4:81: spec.rules[0].filters[0].requestRedirect.statusCode: expected one of 301, 302, 303, 307, 308, found the number 404",
        ),
        (
            "{rules: [{timeouts: {request: 5 s}}]}",
            "4:37: spec.rules[0].timeouts.request: expected a duration such as 1m30s",
        ),
        (
            "{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}",
            "4:27: spec.rules[0].timeouts: backendRequest timeout cannot be longer than request timeout",
        ),
        (
            "{rules: [{backendRefs: [{name: a}]}]}",
            "4:31: spec.rules[0].backendRefs[0]: Must have port for Service reference",
        ),
        ("{rules: []}", "4:15: spec.rules: expected at least 1 items, found 0"),
    ] {
        let (_, wrong) = checked("HTTPRoute", &route(spec));
        assert_eq!(wrong.len(), 1, "{spec:.200}: {wrong:?}");
        assert!(wrong[0].starts_with(expected), "{spec:.200}\nexpected {expected}\nfound    {}", wrong[0]);
    }
}

#[test]
fn rules_of_gateways_count() {
    for (spec, expected) in [
        (
            "{gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP, hostname: a.b}, {name: b, port: 80, protocol: HTTP, hostname: a.b}]}",
            "4:40: spec.listeners: Combination of port, protocol and hostname must be unique for each listener",
        ),
        (
            "{gatewayClassName: c, listeners: [{name: a, port: 80, protocol: TCP, hostname: a.b}]}",
            "4:40: spec.listeners: hostname must not be specified for protocols ['TCP', 'UDP']",
        ),
        (
            "{gatewayClassName: c, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {}}]}",
            "4:84: spec.listeners[0].tls: certificateRefs or options must be specified when mode is Terminate",
        ),
        (
            "{gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}], addresses: [{value: a.b}]}",
            "4:91: spec.addresses[0]: expected (type IPAddress and value (an IPv4 address or an IPv6 address)) or type other than IPAddress",
        ),
        (
            "{gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}], infrastructure: {labels: {a b: c}}}",
            "4:104: spec.infrastructure.labels: Label keys must be in the form of",
        ),
    ] {
        let (_, wrong) = checked("Gateway", &gateway(spec));
        assert!(
            wrong.iter().any(|one| one.starts_with(expected)),
            "{spec}\nexpected {expected}\nfound    {wrong:?}"
        );
    }
}

#[test]
fn a_document_full_of_mistakes_is_not_a_flood() {
    let rules = "{name: UPPER}, ".repeat(5000);
    let (_, wrong) = checked("HTTPRoute", &route(&format!("{{rules: [{rules}]}}")));
    assert_eq!(wrong, ["4:15: spec.rules: expected at most 16 items, found 5000"]);
    let fields: String = (0..100).fold(String::new(), |text, index| format!("{text}f{index}: 1, "));
    let (_, wrong) = checked("HTTPRoute", &route(&format!("{{{fields}}}")));
    assert_eq!(wrong.len(), 20);
    assert!(wrong[19].ends_with("(and 80 more problems in this object)"), "{}", wrong[19]);
}

/// Every rule along a path of the object, with the value that it is about.
fn rules_along<'s>(
    schema: &'s Schema,
    value: &'s Value,
    path: &[String],
    look: &mut impl FnMut(&'s Schema, &'s Value),
) {
    // No rule looks deeper than this.
    if path.len() <= 6 {
        look(schema, value);
    }
    let Some((step, rest)) = path.split_first() else { return };
    let next = match value {
        Value::Array(items) => {
            step.parse().ok().and_then(|index: usize| items.get(index)).zip(schema.items.as_deref())
        }
        Value::Object(map) => map.get(step).zip(schema.field(step).or(schema.additional.as_deref())),
        _ => None,
    };
    if let Some((value, schema)) = next {
        rules_along(schema, value, rest, look);
    }
}

fn paths(value: &Value, above: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        above.push(step);
        found.push(above.clone());
        paths(child, above, found);
        above.pop();
    }
}

/// The object with something else at a path.
fn changed(object: &Value, path: &[String], change: &dyn Fn(&mut Value, &str)) -> Value {
    let mut object = object.clone();
    let (last, above) = path.split_last().expect("a path");
    let mut at = &mut object;
    for step in above {
        at = match at {
            Value::Array(items) => &mut items[step.parse::<usize>().expect("an index")],
            other => &mut other[step.as_str()],
        };
    }
    change(at, last);
    object
}

fn variants(object: &Value, path: &[String]) -> Vec<Value> {
    let words = [
        "",
        "x",
        "*",
        "/a//b",
        "/a/..",
        "URLRewrite",
        "ReplacePrefixMatch",
        "Exact",
        "HTTPS",
        "UDP",
        "Hostname",
    ];
    let mut variants = vec![changed(object, path, &|above, step| match above {
        Value::Array(items) => drop(items.remove(step.parse().expect("an index"))),
        other => drop(other.as_object_mut().and_then(|map| map.shift_remove(step))),
    })];
    let put = |new: &dyn Fn(&Value) -> Option<Value>| {
        let changed = changed(object, path, &|above, step| {
            let slot = match above {
                Value::Array(items) => &mut items[step.parse::<usize>().expect("an index")],
                other => &mut other[step],
            };
            if let Some(new) = new(slot) {
                *slot = new;
            }
        });
        (changed != *object).then_some(changed)
    };
    for word in words {
        variants.extend(put(&|old| old.is_string().then(|| word.into())));
    }
    for number in [0, 80, 443] {
        variants.extend(put(&|old| old.is_number().then(|| number.into())));
    }
    variants.extend(put(&|old| {
        let items = old.as_array()?;
        Some(items.iter().chain(items).cloned().collect())
    }));
    variants
}

/// Valid objects of every kind that has rules, with defaults filled in.
fn corpus() -> Vec<(String, Value)> {
    let mut corpus = Vec::new();
    let mut texts = vec![include_str!("tests/corpus.yaml").to_owned()];
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for name in [
        "cors",
        "redirects",
        "rewrites",
        "grpc",
        "timeouts-and-retries",
        "listener-conflicts",
        "backend-filters",
    ] {
        texts.push(fs::read_to_string(folder.join(name).join("in.yaml")).expect(name));
    }
    for text in texts {
        for document in text.split("---\n") {
            let node = node(document);
            let kind = node.get("kind").and_then(Node::text).expect("a kind");
            let version = node.get("apiVersion").and_then(Node::text).expect("a version");
            let Some((group, version)) = version.split_once('/') else { continue };
            let schema = of(group, version, kind).expect(kind);
            let value = check(&schema.schema, &node, &Path::Root, &mut Findings::new(false));
            corpus.push((kind.to_owned(), value));
        }
    }
    corpus
}

#[test]
fn the_guard_never_says_anything_else_than_the_interpreter() {
    let (mut decided, mut broken, mut turn) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (kind, object) in corpus() {
        let Some(schema) = of(GROUP, "v1", &kind) else { continue };
        let mut all = Vec::new();
        paths(&object, &mut Vec::new(), &mut all);
        for path in all.iter().filter(|path| path[0] == "spec") {
            // One in two is enough, and enough to wait for.
            for variant in variants(&object, path).into_iter().filter(|_| {
                turn += 1;
                turn % 2 == 0
            }) {
                rules_along(&schema.schema, &variant, path, &mut |schema, value| {
                    for rule in &schema.rules {
                        let (guard, interpreter) = rule.compare(schema, value);
                        if let Some(holds) = guard {
                            let said = interpreter.as_ref().ok();
                            assert_eq!(
                                said,
                                Some(&Cel::Bool(holds)),
                                "{}\n{value:#}\n{interpreter:?}",
                                rule.message()
                            );
                        }
                        *decided.entry(rule.message().to_owned()).or_insert(0) +=
                            usize::from(guard.is_some());
                        *broken.entry(rule.message().to_owned()).or_insert(0) +=
                            usize::from(interpreter == Ok(Cel::Bool(false)));
                    }
                });
            }
        }
    }
    // The test is worth something only where rules were tried, kept and broken.
    let tried = decided.len();
    let by_guard = decided.values().filter(|count| **count > 0).count();
    let ever_broken = broken.values().filter(|count| **count > 0).count();
    assert!(tried > 75, "{tried} rules tried");
    assert!(by_guard * 10 > tried * 9, "{by_guard} of {tried} rules decided by the guard");
    assert!(ever_broken * 2 > tried, "{ever_broken} of {tried} rules broken by some variant");
}

/// The schema of our own kind leaves out what every object has.
#[test]
fn a_crd_need_not_say_what_every_object_has() {
    let schema = of("portolan.dev", "v1alpha1", "FleetConfig").expect("our own kind");
    let check = |more: &str| {
        let text =
            format!("apiVersion: portolan.dev/v1alpha1\nkind: FleetConfig\nmetadata: {{name: a}}\n{more}\n");
        let mut findings = Findings::new(false);
        super::check(&schema.schema, &node(&text), &Path::Root, &mut findings);
        findings.into_list().into_iter().map(|one| one.message).collect::<Vec<_>>()
    };
    assert_eq!(check("spec: {replicas: 2}"), [""; 0]);
    assert_eq!(check("spec: {replicas: 2, autoscaling: {maxReplicas: 3}}").len(), 1);
}

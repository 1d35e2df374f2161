//! ListenerSets.

use super::*;

fn gateway(allowed: &str, listeners: &str) -> String {
    format!(
        "kind: Gateway\nmetadata: {{name: web, namespace: default, generation: 3}}\nspec:\n  gatewayClassName: portolan\n  allowedListeners: {{namespaces: {{{allowed}}}}}\n  listeners: [{listeners}]"
    )
}

fn set(name: &str, year: u16, listeners: &str) -> String {
    format!(
        "kind: ListenerSet\nmetadata: {{name: {name}, namespace: default, generation: 7, creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec:\n  parentRef: {{name: web}}\n  listeners: [{listeners}]"
    )
}

const OWN: &str = "{name: http, port: 80, protocol: HTTP, hostname: own.org}";
const ROUTE: &str = "  rules: [{backendRefs: [{name: blue, port: 80}]}]";

fn rig(allowed: &str) -> Rig {
    Rig::with(&gateway(allowed, OWN))
}

fn on(parent: &str, name: &str) -> String {
    http_route(name, ROUTE).replace("{name: web}", parent)
}

impl Rig {
    fn set(&self, name: &str, type_: &str) -> (String, String) {
        let (status, reason, _) = self.condition(Kind::ListenerSet, name, "/conditions", type_);
        (status, reason)
    }

    fn set_listener(&self, name: &str, index: usize, type_: &str) -> (String, String, String) {
        self.condition(Kind::ListenerSet, name, &format!("/listeners/{index}/conditions"), type_)
    }

    fn attached_sets(&self) -> u64 {
        self.report(Kind::Gateway, "web")["attachedListenerSets"].as_u64().unwrap()
    }
}

#[test]
fn a_gateway_takes_the_sets_that_it_allows() {
    for (allowed, taken) in [
        ("from: All", true),
        ("from: Same", true),
        ("from: None", false),
        ("from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: default}}", true),
        ("from: Selector, selector: {matchLabels: {a: b}}", false),
    ] {
        let mut rig = rig(allowed);
        rig.apply(&set("s", 2020, "{name: a, port: 81, protocol: HTTP}"));
        assert_eq!(rig.web().listeners.contains_key("default/web/81"), taken, "{allowed}");
        let (status, reason) = if taken { ("True", "Accepted") } else { ("False", "NotAllowed") };
        is(rig.set("s", "Accepted"), status, reason);
        is(rig.set("s", "Programmed"), status, if taken { "Programmed" } else { "NotAllowed" });
        let message = rig.condition(Kind::ListenerSet, "s", "/conditions", "Accepted").2;
        let expected = if taken {
            "takes the ListenerSet"
        } else {
            "takes no ListenerSets from namespace default: see its allowedListeners"
        };
        assert!(message.contains(expected), "{message}");
        if allowed != "from: None" {
            assert_eq!(rig.attached_sets(), u64::from(taken));
        }
    }
    // Without a word, none.
    let mut rig = Rig::default();
    rig.apply(BASE);
    rig.apply(&set("s", 2020, "{name: a, port: 81, protocol: HTTP}"));
    is(rig.set("s", "Accepted"), "False", "NotAllowed");
    assert_eq!(rig.attached_sets(), 0);
}

#[test]
fn the_gateway_goes_first_then_the_oldest_set() {
    let mut rig = rig("from: All");
    rig.apply(&set("b-older", 2020, "{name: a, port: 80, protocol: HTTP, hostname: a.org}, {name: own, port: 80, protocol: HTTP, hostname: own.org}"));
    rig.apply(&set("a-younger", 2021, "{name: a, port: 80, protocol: HTTP, hostname: a.org}, {name: t, port: 80, protocol: TCP}, {name: c, port: 80, protocol: HTTP, hostname: c.org}"));
    is(rig.listener(0, "Accepted"), "True", "Accepted");
    let expected = [
        ("b-older", 0, None),
        (
            "b-older",
            1,
            Some(("HostnameConflict", "with the same hostname by listener http, which goes first")),
        ),
        ("a-younger", 0, Some(("HostnameConflict", "by listener default/b-older/a"))),
        (
            "a-younger",
            1,
            Some((
                "ProtocolConflict",
                "with another protocol by listener default/b-older/a, which goes first",
            )),
        ),
        ("a-younger", 2, None),
    ];
    for (name, index, fault) in expected {
        let accepted = rig.set_listener(name, index, "Accepted");
        match fault {
            None => assert_eq!(accepted.0, "True", "{name} {index}"),
            Some((reason, message)) => {
                is((accepted.0, accepted.1), "False", reason);
                assert!(accepted.2.contains(message), "{}", accepted.2);
                let conflicted = rig.set_listener(name, index, "Conflicted");
                is((conflicted.0, conflicted.1), "True", reason);
                assert_eq!(rig.set_listener(name, index, "Programmed").0, "False");
            }
        }
        is(rig.set(name, "Accepted"), "True", "ListenersNotValid");
    }
    // Who went first is gone: the next one follows.
    rig.remove(Kind::ListenerSet, "b-older");
    assert_eq!(rig.set_listener("a-younger", 0, "Accepted").0, "True");
}

#[test]
fn a_set_without_a_valid_listener_is_not_accepted() {
    let mut rig = rig("from: All");
    rig.apply(&set(
        "s",
        2020,
        "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c, namespace: other}]}}",
    ));
    is(rig.set("s", "Accepted"), "False", "ListenersNotValid");
    is(rig.set("s", "Programmed"), "False", "ListenersNotValid");
    let (status, reason, message) = rig.set_listener("s", 0, "ResolvedRefs");
    is((status, reason), "False", "RefNotPermitted");
    assert!(message.contains("from ListenerSet in default"), "{message}");
    assert_eq!(rig.attached_sets(), 0);
    // A grant for Gateways is none for ListenerSets.
    let grant = |kind: &str| {
        format!(
            "kind: ReferenceGrant\nmetadata: {{name: g, namespace: other}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: default}}], to: [{{group: '', kind: Secret}}]}}"
        )
    };
    rig.apply(&certificate_secret("c", "a.org").replace("namespace: default", "namespace: other"));
    rig.apply(&grant("Gateway"));
    is(rig.set("s", "Accepted"), "False", "ListenersNotValid");
    rig.apply(&grant("ListenerSet"));
    is(rig.set("s", "Accepted"), "True", "Accepted");
    assert_eq!(rig.attached_sets(), 1);
    assert!(rig.web().secrets.contains_key("other/c"));
    rig.remove(Kind::ListenerSet, "s");
    assert!(rig.web().secrets.is_empty());
}

#[test]
fn a_set_whose_gateway_is_not_accepted_says_so() {
    let mut rig = rig("from: All");
    rig.apply(&set("s", 2020, "{name: a, port: 81, protocol: HTTP}"));
    let refused = gateway("from: All", OWN)
        .replace("  listeners:", "  addresses: [{type: Hostname, value: a.org}]\n  listeners:");
    rig.apply(&refused);
    is(rig.set("s", "Accepted"), "False", "ParentNotAccepted");
    assert!(rig.last.reports.contains(&ObjectKey::new(Kind::ListenerSet, "default", "s")));
    assert_eq!(rig.attached_sets(), 0);
}

#[test]
fn a_route_sees_the_listeners_of_its_parent_alone() {
    let mut rig = rig("from: All");
    rig.apply(&set(
        "s",
        2020,
        "{name: a, port: 80, protocol: HTTP, hostname: a.org}, {name: b, port: 81, protocol: HTTP}",
    ));
    rig.apply(&on("{kind: ListenerSet, name: s}", "on-set"));
    rig.apply(&on("{name: web}", "on-gateway"));
    rig.apply(&on("{name: web, sectionName: a}", "lost"));
    rig.apply(&on("{kind: ListenerSet, name: s, sectionName: http}", "lost-too"));
    let routes = |domain: &str, table: &str| rig.web().host(table, domain).unwrap().routes.len();
    assert_eq!(routes("a.org", "default/web/80"), 1);
    assert_eq!(routes("own.org", "default/web/80"), 1);
    assert_eq!(routes("*", "default/web/81"), 1);
    for name in ["lost", "lost-too"] {
        is(rig.route(name, "Accepted"), "False", "NoMatchingParent");
    }
    for name in ["on-set", "on-gateway"] {
        is(rig.route(name, "Accepted"), "True", "Accepted");
    }
    let report = rig.report(Kind::ListenerSet, "s");
    assert_eq!(report["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(rig.report(Kind::Gateway, "web")["listeners"].as_array().unwrap().len(), 1);
    assert_eq!(rig.report(Kind::HttpRoute, "on-set")["parents"][0]["parentRef"]["kind"], "ListenerSet");
}

#[test]
fn a_host_that_moves_from_one_parent_to_another_takes_its_route_along() {
    // In both directions, since one of the two attachments is always looked at before the other.
    let owners = [
        (OWN, "{name: a, port: 80, protocol: HTTP, hostname: a.org}"),
        (
            "{name: http, port: 80, protocol: HTTP, hostname: a.org}",
            "{name: a, port: 80, protocol: HTTP, hostname: b.org}",
        ),
    ];
    let mut rig = rig("from: All");
    rig.apply(
        &http_route("r", &format!("  hostnames: [a.org]\n{ROUTE}"))
            .replace("{name: web}", "{name: web}, {kind: ListenerSet, name: s}"),
    );
    for (own, added) in [owners[0], owners[1], owners[0]] {
        let mut both = objects(&gateway("from: All", own));
        both.extend(objects(&set("s", 2020, added)));
        rig.change(both);
        assert_eq!(rig.web().host("default/web/80", "a.org").unwrap().routes.len(), 1, "{own}");
    }
}

#[test]
fn one_set_among_a_thousand_is_cheap() {
    let mut rig = rig("from: All");
    let many: Vec<_> = (0..1000)
        .flat_map(|index| {
            let listener = format!("{{name: a, port: 80, protocol: HTTP, hostname: h{index}.org}}");
            let mut both = objects(&set(&format!("s{index}"), 2020, &listener));
            both.extend(objects(&on(
                &format!("{{kind: ListenerSet, name: s{index}}}"),
                &format!("r{index}"),
            )));
            both
        })
        .collect();
    rig.change(many);
    assert_eq!(rig.attached_sets(), 1000);
    rig.change(objects(&set("s500", 2020, "{name: a, port: 80, protocol: HTTP, hostname: new.org}")));
    let sets = rig.last.reports.iter().filter(|key| key.kind == Kind::ListenerSet).count();
    assert_eq!(sets, 1, "only what changed is reported");
    let delta = rig.last.deltas.values().next().unwrap();
    assert_eq!(delta.virtual_hosts.len(), 2, "one host came, one went");
    assert!(delta.listeners.is_empty(), "{:?}", delta.listeners);
    assert!(rig.web().host("default/web/80", "new.org").is_some());
}

/// What moving one of so many ListenerSets to another host costs: units, and the virtual hosts that go out. Each has a route.
fn cost_among(count: usize, protocol: &str) -> (usize, usize) {
    let mut rig = rig("from: All");
    rig.apply(&certificate_secret("c", "a.org"));
    let tls = if protocol == "HTTPS" { ", tls: {certificateRefs: [{name: c}]}" } else { "" };
    let set = |index: usize, host: &str| {
        let port = if protocol == "HTTPS" { 443 } else { 80 };
        let listener = format!(
            "{{name: a, port: {port}, protocol: {protocol}, hostname: {host}{index}.example.org{tls}}}"
        );
        set(&format!("s{index}"), 2020, &listener)
    };
    let sets = (0..count).flat_map(|index| objects(&set(index, "h")));
    let routes = (0..count).flat_map(|index| {
        objects(&on(&format!("{{kind: ListenerSet, name: s{index}}}"), &format!("r{index}")))
    });
    rig.change(sets.chain(routes).collect());
    assert_eq!(rig.attached_sets(), count as u64);
    rig.change(objects(&set(count / 2, "moved")));
    let hosts = rig.last.deltas.values().map(|delta| delta.virtual_hosts.len()).sum();
    (rig.last.units_run, hosts)
}

#[test]
fn a_change_of_one_listener_set_among_a_thousand_costs_what_it_costs_among_ten() {
    let few = cost_among(10, "HTTP");
    assert_eq!(cost_among(1_000, "HTTP"), few, "units and virtual hosts");
    // The set's certificates; the Gateway's listeners, fleet and chains; the route's attachment; the old and the new host.
    assert!(few.0 <= 8, "{} units", few.0);
    assert_eq!(few.1, 2, "virtual hosts: the one that goes and the one that comes");
}

#[test]
fn a_change_of_one_https_listener_set_among_a_thousand_is_about_it_alone() {
    let (units, hosts) = cost_among(1_000, "HTTPS");
    assert!(units <= 12 && hosts <= 4, "{units} units, {hosts} virtual hosts");
}

#[test]
fn a_listener_that_comes_takes_its_host_from_the_routes_of_a_wider_one_and_gives_it_back() {
    let mut rig = rig("from: All");
    rig.apply(&set("wide", 2020, "{name: a, port: 81, protocol: HTTP, hostname: '*.example.org'}"));
    let route = http_route("r", &format!("  hostnames: [one.example.org]\n{ROUTE}"));
    rig.apply(&route.replace("{name: web}", "{kind: ListenerSet, name: wide}"));
    let routes =
        |rig: &Rig| rig.web().host("default/web/81", "one.example.org").map_or(0, |host| host.routes.len());
    assert_eq!(routes(&rig), 1);
    rig.apply(&set("narrow", 2021, "{name: a, port: 81, protocol: HTTP, hostname: one.example.org}"));
    assert_eq!(routes(&rig), 0);
    rig.remove(Kind::ListenerSet, "narrow");
    assert_eq!(routes(&rig), 1);
}

#[test]
fn a_port_more_than_a_gateway_can_have_is_refused_and_the_older_ones_stay() {
    let mut rig = rig("from: All");
    let listeners = |ports: std::ops::Range<u16>| {
        let one = |port| format!("{{name: p{port}, port: {port}, protocol: TCP}}");
        ports.map(one).collect::<Vec<_>>().join(", ")
    };
    // With port 80 of the Gateway itself these are 512.
    for (index, from) in (1_000..1_511).step_by(64).enumerate() {
        let year = 2000 + u16::try_from(index).unwrap();
        rig.apply(&set(&format!("s{index}"), year, &listeners(from..(from + 64).min(1_511))));
    }
    rig.apply(&set(
        "late",
        2020,
        "{name: a, port: 2000, protocol: TCP}, {name: b, port: 80, protocol: HTTP, hostname: b.org}",
    ));
    assert_eq!(rig.engine.wanted_ports().values().map(std::collections::BTreeSet::len).sum::<usize>(), 512);
    let (status, reason, message) = rig.set_listener("late", 0, "Accepted");
    assert_eq!((&*status, &*reason), ("False", "TooManyListeners"));
    assert!(message.contains("port 2000") && message.contains("512"), "{message}");
    let (status, reason, _) = rig.set_listener("late", 1, "Accepted");
    is((status, reason), "True", "Accepted");
    // An older one goes, and there is room.
    rig.remove(Kind::ListenerSet, "s3");
    let (status, reason, _) = rig.set_listener("late", 0, "Accepted");
    is((status, reason), "True", "Accepted");
}

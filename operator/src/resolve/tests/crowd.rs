//! A hostname that many routes share.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;

const CROWD: usize = 200;

type Change = (ObjectKey, Option<Object>);

/// A member of the crowd: of any length of path, so that order is not that of names.
fn member(index: usize, path: &str, backend: &str, hostname: &str, gateway: &str) -> Vec<Change> {
    let slashes = "/x".repeat(index % 5 + 1);
    objects(&http_route_on(
        &[gateway],
        &format!("r{index}"),
        &format!(
            "  hostnames: [{hostname}]\n  rules: [{{matches: [{{path: {{value: {slashes}/{index}{path}}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}]"
        ),
    ))
}

static CHANGES: LazyLock<Vec<Vec<Change>>> = LazyLock::new(|| {
    let mut changes = Vec::new();
    for index in (0..CROWD + 5).step_by(9) {
        changes.push(member(index, "/new", "blue", "h.example.com", "web"));
        changes.push(member(index, "", "missing", "h.example.com", "web"));
        changes.push(member(index, "", "blue", "'*.example.com'", "web"));
        changes.push(member(index, "", "blue", "h.example.com", "elsewhere"));
        let key = changes[0][0].0.clone();
        changes.push(vec![(ObjectKey { name: format!("r{index}").into(), ..key }, None)]);
    }
    changes.push(objects("kind: Service\nmetadata: {name: blue}\nspec: {ports: [{port: 81}]}"));
    changes.push(objects(BASE));
    changes.push(objects("kind: Service\nmetadata: {name: missing}\nspec: {ports: [{port: 80}]}"));
    for hostname in ["h.example.com", "'*.com'"] {
        changes.push(objects(&format!(
            "kind: Gateway\nmetadata: {{name: web, namespace: default}}\nspec: {{gatewayClassName: portolan, listeners: [{{name: http, hostname: {hostname}, port: 80, protocol: HTTP}}]}}"
        )));
    }
    changes
});

fn crowd() -> Vec<Change> {
    let members = (0..CROWD).flat_map(|index| member(index, "", "blue", "h.example.com", "web"));
    objects(BASE).into_iter().chain(members).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_of_single_members_end_in_what_a_fresh_resolve_gives(
        picks in prop::collection::vec(0usize..10_000, 1..40),
    ) {
        let mut rig = Rig::default();
        rig.change(crowd());
        let mut last: BTreeMap<ObjectKey, Option<Object>> = crowd().into_iter().collect();
        for pick in picks {
            let change = CHANGES[pick % CHANGES.len()].clone();
            last.extend(change.iter().cloned());
            rig.change(change);
        }
        let mut fresh = Rig::default();
        fresh.change(last.into_iter().collect());
        rig.told.retain(|_, told| *told != Told::default());
        prop_assert_eq!(&rig.told, &fresh.told);
    }
}

#[test]
fn an_edit_keeps_every_other_route_as_it_is() {
    let mut rig = Rig::default();
    rig.change(crowd());
    let host = |rig: &Rig| {
        let delta = rig.last.deltas.values().next().unwrap();
        delta.virtual_hosts.values().next().unwrap().clone().unwrap()
    };
    rig.change(member(17, "/new", "blue", "h.example.com", "web"));
    let before = host(&rig);
    rig.change(member(70, "/new", "blue", "h.example.com", "web"));
    let after = host(&rig);
    assert!(rig.last.units_run <= 4, "{} units", rig.last.units_run);
    assert_eq!((before.routes.len(), after.routes.len()), (CROWD, CROWD));
    assert!(after.routes.is_sorted_by(|one, other| one.rank < other.rank));
    let kept = after.routes.iter().filter(|route| before.routes.iter().any(|old| Arc::ptr_eq(old, route)));
    assert_eq!(kept.count(), CROWD - 1);
}

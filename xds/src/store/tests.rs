use super::*;

fn resource(name: &str, body: &str) -> Resource {
    Resource::new(name, body.as_bytes().to_vec().into(), Vec::new())
}

fn put(store: &mut Store, name: &str, body: &str) -> bool {
    store.edit(Instant::now()).upsert(ResourceType::Cluster, resource(name, body))
}

fn delete(store: &mut Store, name: &str) -> bool {
    store.edit(Instant::now()).remove(ResourceType::Cluster, name)
}

/// Changes as `name=body` or `name-` for a removal.
fn changes(store: &Store, since: Seq) -> Option<Vec<String>> {
    match store.changes_since(ResourceType::Cluster, since) {
        Changes::Unknown => None,
        Changes::Known(changes) => Some(
            changes
                .map(|change| match change.resource {
                    Some(resource) => {
                        format!("{}={}", change.name, String::from_utf8_lossy(&resource.body().to_bytes()))
                    }
                    None => format!("{}-", change.name),
                })
                .collect(),
        ),
    }
}

#[test]
fn equal_bytes_change_nothing_and_take_no_number() {
    let mut store = Store::default();
    assert!(put(&mut store, "a", "1"));
    assert!(!put(&mut store, "a", "1"));
    assert!(!delete(&mut store, "unknown"));
    assert_eq!(store.seq(), Seq(1));
}

#[test]
fn an_edit_shares_one_number() {
    let mut store = Store::default();
    let mut edit = store.edit(Instant::now());
    edit.upsert(ResourceType::RouteConfiguration, resource("r", "1"));
    edit.upsert(ResourceType::Cluster, resource("c", "1"));
    assert_eq!(store.seq(), Seq(1));
    let seqs = [(ResourceType::RouteConfiguration, "r"), (ResourceType::Cluster, "c")]
        .map(|(kind, name)| store.get(kind, name).map(|live| live.seq));
    assert_eq!(seqs, [Some(Seq(1)), Some(Seq(1))]);
}

#[test]
fn changes_are_found_from_a_cursor_and_a_second_change_moves_the_first() {
    let mut store = Store::default();
    for name in ["a", "b", "c"] {
        put(&mut store, name, "1");
    }
    put(&mut store, "a", "2");
    delete(&mut store, "b");
    assert_eq!(changes(&store, Seq(0)).unwrap(), ["c=1", "a=2", "b-"]);
    assert_eq!(changes(&store, Seq(4)).unwrap(), ["b-"]);
    assert_eq!(changes(&store, store.seq()).unwrap(), [""; 0]);
}

#[test]
fn a_name_that_comes_back_is_no_longer_a_tombstone() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    delete(&mut store, "a");
    assert_eq!(store.len(ResourceType::Cluster), 0);
    put(&mut store, "a", "1");
    assert_eq!(store.len(ResourceType::Cluster), 1);
    assert_eq!(changes(&store, Seq(0)).unwrap(), ["a=1"]);
}

#[test]
fn tombstones_are_bounded_and_an_older_cursor_is_told_to_compare() {
    let mut store = Store::new(2);
    for name in ["a", "b", "c"] {
        put(&mut store, name, "1");
    }
    for name in ["a", "b", "c"] {
        delete(&mut store, name);
    }
    assert_eq!(changes(&store, Seq(3)), None, "the removal of a is forgotten");
    assert_eq!(changes(&store, Seq(4)).unwrap(), ["b-", "c-"]);
}

#[test]
fn names_are_sorted_and_leave_out_what_is_removed() {
    let mut store = Store::default();
    for name in ["c", "a", "b"] {
        put(&mut store, name, "1");
    }
    delete(&mut store, "b");
    let names: Vec<_> = store.names(ResourceType::Cluster).map(ToString::to_string).collect();
    assert_eq!(names, ["a", "c"]);
}

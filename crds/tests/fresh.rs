//! The committed CRDs are what `portolan-crds` writes.

use std::{fs, path::Path};

use portolan_crds::install;

#[test]
fn committed_crds_are_fresh() {
    for folder in ["config/crd/portolan", "config/helm/crds"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let expected = install::own_files().unwrap();
        for (name, text) in &expected {
            let committed = fs::read_to_string(path.join(name)).unwrap_or_default();
            assert!(
                committed == *text,
                "{folder}/{name} is stale: run `cargo run -p portolan-crds {folder}`"
            );
        }
        let mut listed: Vec<String> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        listed.sort();
        assert_eq!(
            listed,
            expected.into_keys().collect::<Vec<_>>(),
            "{folder} holds a kind that is no longer there"
        );
    }
}

//! Clusters, their endpoints and the secrets that they and listeners name.

use std::collections::BTreeMap;

use super::*;

fn plain_cluster(protocol: AppProtocol) -> Cluster {
    Cluster {
        name: "apps/one/80".into(),
        protocol,
        tls: None,
        sockets: BTreeMap::new(),
        connect_timeout: Millis(5000),
        origin: Origin::new("Service/apps/one"),
    }
}

#[test]
fn clusters() {
    golden("cluster-http1", &cluster(&plain_cluster(AppProtocol::Http1)));
    golden("cluster-h2c", &cluster(&plain_cluster(AppProtocol::Http2)));
    golden("cluster-opaque", &cluster(&plain_cluster(AppProtocol::Opaque)));
    let tls = UpstreamTls {
        server_name: "backend.test".into(),
        trust: UpstreamTrust::Authorities("apps/ca".into()),
        subject_alt_names: vec!["other.test".into(), "spiffe://cluster.local/ns/apps/sa/one".into()],
        client_certificate: Some("apps/client".into()),
    };
    let system = UpstreamTls {
        trust: UpstreamTrust::System,
        subject_alt_names: vec![],
        client_certificate: None,
        ..tls.clone()
    };
    let several = Cluster {
        sockets: [("one".into(), tls.clone()), ("two".into(), system.clone())].into(),
        ..plain_cluster(AppProtocol::Opaque)
    };
    golden("cluster-sockets", &cluster(&several));
    golden("cluster-tls", &cluster(&Cluster { tls: Some(tls), ..plain_cluster(AppProtocol::Http2) }));
    golden(
        "cluster-tls-system",
        &cluster(&Cluster { tls: Some(system), ..plain_cluster(AppProtocol::Http1) }),
    );
}

#[test]
fn endpoints_by_zone() {
    let at = |address: &str, zone: Option<&str>| Endpoint {
        address: address.parse().unwrap(),
        zone: zone.map(text),
        weight: 1,
        socket: None,
    };
    let some = Endpoints {
        endpoints: vec![at("10.0.0.2:80", Some("b")), at("10.0.0.1:80", Some("a")), at("[fd00::1]:80", None)],
        nowhere: 0,
    };
    golden("endpoints", &endpoints("apps/one/80", &some, [].into_iter()));
    let weighted = Endpoints {
        endpoints: vec![
            Endpoint { weight: 70, ..at("10.0.0.1:80", None) },
            Endpoint { weight: 20, socket: Some("one".into()), ..at("10.0.0.2:80", None) },
        ],
        nowhere: 10,
    };
    golden("endpoints-weighted", &endpoints("apps/public/9000/tcp", &weighted, [].into_iter()));
    let nothing = Endpoints { nowhere: 10, ..Endpoints::default() };
    assert_eq!(
        endpoints("x", &nothing, [].into_iter()),
        endpoints("x", &Endpoints::default(), [].into_iter()),
        "an empty cluster fails by itself"
    );
    golden("endpoints-empty", &endpoints("apps/one/80", &Endpoints::default(), [].into_iter()));
}

#[test]
fn secrets_are_redacted() {
    let body = SecretBody::Certificate { chain: "chain".into(), key: "the key".into() };
    golden("secret-certificate", &secret(&Secret { name: "apps/tls".into(), body }));
    let body = SecretBody::Authorities { bundle: "bundle".into() };
    golden("secret-authorities", &secret(&Secret { name: "apps/ca".into(), body }));
}

#[test]
fn a_secret_has_the_same_source_bytes_everywhere() {
    assert_eq!(secret::reference("a/b").sds_config, Some(wire::ads()));
    assert_eq!(wire::ads().encode_to_vec(), [0x1a, 0, 0x30, 2], "Envoy takes other bytes for another secret");
}

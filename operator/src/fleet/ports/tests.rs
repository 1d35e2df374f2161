//! Port mapping against a host of the test's own, and the probe against the real one.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;

/// A host where some ports are taken.
#[derive(Debug, Default, Clone)]
struct Host {
    in_use: BTreeSet<u16>,
}

impl Probe for Host {
    fn probe(&self, address: SocketAddr, _: Transport) -> Probed {
        if address.ip().to_string().starts_with("10.") {
            Probed::Refused("not here".to_owned())
        } else if self.in_use.contains(&address.port()) {
            Probed::InUse
        } else {
            Probed::Free
        }
    }

    fn any(&self, _: IpAddr, _: Transport) -> Option<u16> {
        (50_000..60_000).find(|port| !self.in_use.contains(port))
    }
}

const AUTO: PortPolicy = PortPolicy::Auto { unprivileged_start: 1024 };
const HTTP: ApiPort = (80, Transport::Tcp);

fn gateway(name: &str) -> GatewayName {
    GatewayName::new("default", name).unwrap()
}

fn ports(policy: PortPolicy, in_use: &[u16]) -> Ports<Host> {
    Ports::new(Host { in_use: in_use.iter().copied().collect() }, policy, AddressPolicy::Own, "")
}

fn assigned(ports: &mut Ports<Host>, name: &str, port: u16) -> Result<u16, PortError> {
    let api = (port, Transport::Tcp);
    ports.assign(&gateway(name), &[api]).remove(&api).unwrap().map(|bound| bound.port())
}

#[test]
fn low_ports_move_up_and_others_stay() {
    let mut ports = ports(AUTO, &[10_443, 20_443, 30_443, 50_000]);
    assert_eq!(assigned(&mut ports, "a", 80), Ok(10_080));
    assert_eq!(assigned(&mut ports, "a", 8080), Ok(8080));
    assert_eq!(assigned(&mut ports, "a", 443), Ok(50_001), "all stand-ins are taken");
    // Each Gateway has its own address, so the same ports are free.
    assert_eq!(assigned(&mut ports, "b", 80), Ok(10_080));
    let mut exact = self::ports(PortPolicy::Exact, &[443]);
    assert_eq!(assigned(&mut exact, "a", 80), Ok(80));
    let error = assigned(&mut exact, "a", 443).unwrap_err().to_string();
    assert!(error.contains("TCP 127.") && error.contains(":443 is in use by another process"), "{error}");
}

#[test]
fn a_stand_in_never_takes_a_port_that_is_asked_for() {
    let mut ports = ports(AUTO, &[]);
    let got = ports.assign(&gateway("a"), &[HTTP, (10_080, Transport::Tcp), (80, Transport::Udp)]);
    let port = |api: ApiPort| got[&api].clone().unwrap().port();
    assert_eq!(port(HTTP), 20_080);
    assert_eq!(port((10_080, Transport::Tcp)), 10_080);
    assert_eq!(port((80, Transport::Udp)), 10_080, "UDP has ports of its own");
    // The other way round: the port came later, and says who is there.
    let mut ports = self::ports(AUTO, &[]);
    assert_eq!(assigned(&mut ports, "a", 80), Ok(10_080));
    assert!(
        assigned(&mut ports, "a", 10_080)
            .unwrap_err()
            .to_string()
            .contains("already serves port 80 of Gateway default/a")
    );
}

#[test]
fn gateways_on_one_address_collide() {
    let address = AddressPolicy::Shared("127.0.0.1".parse().unwrap());
    let mut ports = Ports::new(Host::default(), PortPolicy::Exact, address, "");
    assert_eq!(assigned(&mut ports, "a", 8080), Ok(8080));
    assert!(matches!(assigned(&mut ports, "b", 8080), Err(PortError::Taken { port: 8080, .. })));
    ports.release(&gateway("a"));
    assert_eq!(assigned(&mut ports, "b", 8080), Ok(8080));
    let mut elsewhere =
        Ports::new(Host::default(), AUTO, AddressPolicy::Shared("10.0.0.1".parse().unwrap()), "");
    assert!(matches!(assigned(&mut elsewhere, "a", 80), Err(PortError::Refused { .. })));
}

#[test]
fn mappings_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ports.json");
    let mut first = ports(AUTO, &[10_080]);
    assert_eq!(assigned(&mut first, "a", 80), Ok(20_080));
    assert_eq!(assigned(&mut first, "a", 8080), Ok(8080));
    first.save(&path).unwrap();
    let load = |in_use: &[u16]| ports(AUTO, in_use).load(&path).unwrap();

    let mut again = load(&[]);
    assert_eq!(again.address(&gateway("a")), first.address(&gateway("a")));
    assert_eq!(assigned(&mut again, "a", 80), Ok(20_080), "kept though 10080 is free now");

    // Our own Envoy holds both ports: known when it is trusted, a stranger's when not.
    let mut attached = load(&[20_080, 8080]);
    attached.trust(&gateway("a"));
    assert_eq!(assigned(&mut attached, "a", 80), Ok(20_080));
    assert_eq!(assigned(&mut attached, "a", 8080), Ok(8080));
    attached.distrust(&gateway("a"));
    assert_eq!(assigned(&mut attached, "a", 80), Ok(10_080));
    assert!(matches!(assigned(&mut attached, "a", 8080), Err(PortError::InUse { .. })));
}

#[test]
fn mappings_of_other_settings_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ports.json");
    let mut first = ports(AUTO, &[]);
    assert_eq!(assigned(&mut first, "a", 80), Ok(10_080));
    first.save(&path).unwrap();
    let mut exact = ports(PortPolicy::Exact, &[]).load(&path).unwrap();
    exact.trust(&gateway("a"));
    assert_eq!(assigned(&mut exact, "a", 80), Ok(80));
}

#[test]
fn an_error_is_tried_again() {
    let mut ports = ports(AUTO, &[8080]);
    assert!(assigned(&mut ports, "a", 8080).is_err());
    ports.probe.in_use.clear();
    assert_eq!(assigned(&mut ports, "a", 8080), Ok(8080));
    ports.probe.in_use.insert(8080);
    assert_eq!(assigned(&mut ports, "a", 8080), Ok(8080), "our own Envoy is not a stranger");
}

#[test]
fn the_system_is_probed() {
    let listener = TcpListener::bind("127.77.1.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(SystemProbe.probe(address, Transport::Tcp), Probed::InUse);
    drop(listener);
    // The child of another test holds it for a moment, between fork and exec.
    let until = Instant::now() + Duration::from_secs(5);
    while SystemProbe.probe(address, Transport::Tcp) != Probed::Free {
        assert!(Instant::now() < until, "it does not come free");
        thread::sleep(Duration::from_millis(1));
    }
    let everywhere = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    assert_eq!(SystemProbe.probe(SocketAddr::new(address.ip(), port), Transport::Udp), Probed::InUse);
    // Documentation addresses (RFC 5737) are nobody's.
    let foreign = "192.0.2.1:8080".parse().unwrap();
    assert!(matches!(SystemProbe.probe(foreign, Transport::Tcp), Probed::Refused(_)));
    assert!(SystemProbe.any(address.ip(), Transport::Tcp).is_some());
}

#[test]
fn the_capability_is_read() {
    assert!(may_bind_all("Name:\tx\nCapEff:\t000001ffffffffff\n"));
    assert!(may_bind_all("CapEff:\t0000000000000400\n"));
    assert!(!may_bind_all("CapEff:\t0000000000000000\n"));
    assert!(!may_bind_all(""));
}

//! Where clients reach a fleet: pure, from its Services as the API server has them.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use portolan_crds::fleet_config::ServiceType;
use serde_json::Value;

use super::fleet::Fleet;

/// How long a load balancer may take to assign an address that was asked for by name.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An address of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name: some load balancers have no address of their own.
    Hostname(String),
    /// An IP address that only the cluster reaches, where that was asked for.
    Inside(IpAddr),
}

/// The addresses of a fleet, and why it does not have others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What it has, sorted.
    pub assigned: Vec<Address>,
    /// Why one that the Gateway asks for cannot be had.
    pub refused: Option<String>,
    /// What is still being waited for.
    pub pending: Option<String>,
}

/// One Service of a fleet: the address that it asks for, and how it went.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The Service's name.
    pub name: &'a str,
    /// The address that it asks for, if any.
    pub address: Option<IpAddr>,
    /// Whether only the cluster is to reach it.
    pub inside: bool,
    /// The Service, or why the API server refuses it.
    pub service: Result<&'a Value, String>,
    /// How long it has been asking.
    pub since: Duration,
}

/// Reads the addresses off the Services.
pub fn addresses(fleet: &Fleet, asked: &[Asked<'_>]) -> Found {
    let mut found = Found::default();
    for one in asked {
        let service = match &one.service {
            Ok(service) => service,
            Err(why) => {
                match one.address {
                    Some(address) => refuse(&mut found, format!("address {address} cannot be had: {why}")),
                    None => wait(&mut found, why.clone()),
                }
                continue;
            }
        };
        let balanced = !one.inside && fleet.settings.service.type_ == ServiceType::LoadBalancer;
        let made = if one.inside { Address::Inside } else { Address::Ip };
        let assigned = if balanced { balancer(service) } else { cluster(service, made) };
        match one.address {
            Some(address) if assigned.contains(&made(address)) => {
                found.assigned.push(made(address));
            }
            Some(address) if balanced && one.since < PATIENCE => {
                wait(&mut found, format!("the load balancer has not assigned address {address} yet"));
            }
            Some(address) => refuse(&mut found, not_assigned(address, one.name, &assigned)),
            None if assigned.is_empty() => wait(&mut found, unassigned(one.name, balanced)),
            None => found.assigned.extend(assigned),
        }
    }
    found.assigned.sort();
    found.assigned.dedup();
    found
}

fn refuse(found: &mut Found, why: String) {
    found.refused.get_or_insert(why);
}

fn wait(found: &mut Found, why: String) {
    found.pending.get_or_insert(why);
}

fn not_assigned(address: IpAddr, service: &str, assigned: &[Address]) -> String {
    let how = match assigned.first() {
        None => {
            format!(
                "the load balancer of Service {service} has not assigned it within {} s",
                PATIENCE.as_secs()
            )
        }
        Some(Address::Ip(ip) | Address::Inside(ip)) => format!("Service {service} has {ip} instead"),
        Some(Address::Hostname(name)) => format!("Service {service} has {name} instead"),
    };
    format!("address {address} cannot be had: {how}")
}

fn unassigned(service: &str, balanced: bool) -> String {
    if balanced {
        format!(
            "the load balancer has not assigned an address to Service {service} yet; in a cluster without load balancers set spec.service.type of a FleetConfig to ClusterIP or NodePort"
        )
    } else {
        format!("Service {service} has no address yet")
    }
}

/// status.loadBalancer.ingress.
fn balancer(service: &Value) -> Vec<Address> {
    let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    let address = |entry: &Value| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let ip = text("ip").and_then(|text| text.parse().ok()).map(Address::Ip);
        ip.or_else(|| text("hostname").map(|name| Address::Hostname(name.to_owned())))
    };
    ingress.into_iter().flatten().filter_map(address).collect()
}

/// spec.clusterIPs.
fn cluster(service: &Value, made: fn(IpAddr) -> Address) -> Vec<Address> {
    let ips = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    let address = |ip: &Value| ip.as_str()?.parse().ok().map(made);
    ips.into_iter().flatten().filter_map(address).collect()
}

/// Since when each address has been asked for without an answer.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<(String, IpAddr), tokio::time::Instant>);

impl Waits {
    /// How long a Service has been asking for an address; from now on, if it is new.
    pub fn since(&mut self, service: &str, address: IpAddr, now: tokio::time::Instant) -> Duration {
        let since = *self.0.entry((service.to_owned(), address)).or_insert(now);
        now.saturating_duration_since(since)
    }

    /// Keeps only what is still asked for.
    pub fn retain(&mut self, asked: &[(String, IpAddr)]) {
        self.0.retain(|key, _| asked.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fleet::{GatewayName, cluster::Settings};

    fn fleet(type_: &str) -> Fleet {
        let spec = serde_json::from_value(json!({"service": {"type": type_}})).unwrap();
        Fleet {
            gateway: GatewayName::new("apps", "web").unwrap(),
            uid: "u".into(),
            class: "portolan".into(),
            ports: [(80, portolan_xds::ir::Transport::Tcp)].into(),
            addresses: Vec::new(),
            inside: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            settings: Settings::of(&spec).unwrap(),
        }
    }

    fn service(ingress: &Value) -> Value {
        json!({"spec": {"clusterIPs": ["10.96.0.7"]}, "status": {"loadBalancer": {"ingress": ingress}}})
    }

    fn ask(type_: &str, wanted: Option<&str>, service: Result<&Value, String>, seconds: u64) -> Found {
        let asked = Asked {
            name: "web-portolan",
            address: wanted.map(|text| text.parse().unwrap()),
            inside: false,
            service,
            since: Duration::from_secs(seconds),
        };
        addresses(&fleet(type_), &[asked])
    }

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_load_balancer_gives_addresses_or_names() {
        let entries = json!([{"ip": "192.0.2.7"}, {"hostname": "lb.example"}, {"ip": ""}, {"ip": "x"}]);
        let found = ask("LoadBalancer", None, Ok(&service(&entries)), 0);
        assert_eq!(found.assigned, [ip("192.0.2.7"), Address::Hostname("lb.example".to_owned())]);
        assert_eq!((found.refused, found.pending), (None, None));
    }

    #[test]
    fn a_load_balancer_that_does_not_answer_is_waited_for_and_the_way_out_is_named() {
        let found = ask("LoadBalancer", None, Ok(&service(&json!([]))), 1000);
        assert_eq!(found.assigned, []);
        let why = found.pending.unwrap();
        assert!(why.contains("web-portolan") && why.contains("spec.service.type"), "{why}");
    }

    #[test]
    fn other_services_have_their_address_in_the_cluster() {
        for type_ in ["ClusterIP", "NodePort"] {
            let found = ask(type_, None, Ok(&service(&json!([]))), 0);
            assert_eq!(found.assigned, [ip("10.96.0.7")], "{type_}");
        }
    }

    #[test]
    fn a_static_address_is_assigned_or_refused_after_a_while() {
        let ask =
            |ingress: Value, seconds| ask("LoadBalancer", Some("192.0.2.7"), Ok(&service(&ingress)), seconds);
        assert_eq!(ask(json!([{"ip": "192.0.2.7"}]), 0).assigned, [ip("192.0.2.7")]);
        let early = ask(json!([]), 9);
        assert!(early.refused.is_none() && early.pending.is_some(), "{early:?}");
        let late = ask(json!([]), 10);
        assert!(late.refused.unwrap().contains("192.0.2.7"));
        let other = ask(json!([{"ip": "192.0.2.9"}]), 10);
        assert!(other.refused.unwrap().contains("192.0.2.9 instead"));
        assert_eq!(other.assigned, [], "an address that nobody asked for is not reported");
    }

    #[test]
    fn an_address_inside_the_cluster_is_the_services_own_whatever_its_load_balancer_says() {
        let found = |address: Option<&str>| {
            let service = service(&json!([{"ip": "192.0.2.7"}]));
            let address = address.map(|text| text.parse().unwrap());
            let asked =
                Asked { name: "inside", address, inside: true, service: Ok(&service), since: Duration::ZERO };
            addresses(&fleet("LoadBalancer"), &[asked])
        };
        let inside = Address::Inside("10.96.0.7".parse().unwrap());
        assert_eq!(found(None).assigned, std::slice::from_ref(&inside));
        assert_eq!(found(Some("10.96.0.7")).assigned, [inside]);
        let other = found(Some("10.96.0.8"));
        assert_eq!(other.assigned, []);
        assert!(other.refused.unwrap().contains("10.96.0.7 instead"));
    }

    #[test]
    fn what_the_api_server_refuses_is_told() {
        let refused = Err("the range of valid IPs is 10.96.0.0/16".to_owned());
        let found = ask("ClusterIP", Some("192.0.2.1"), refused, 0);
        let why = found.refused.unwrap();
        assert!(why.contains("192.0.2.1") && why.contains("10.96.0.0/16"), "{why}");
        let found = ask("ClusterIP", None, Err("exceeded quota".to_owned()), 0);
        assert_eq!(found.pending.as_deref(), Some("exceeded quota"));
    }

    #[test]
    fn one_refused_address_does_not_hide_another() {
        let good = service(&json!([{"ip": "192.0.2.8"}]));
        let wanted = |text: &str| Some(text.parse().unwrap());
        let asked = [
            Asked {
                name: "a",
                address: wanted("192.0.2.7"),
                inside: false,
                service: Err("no".to_owned()),
                since: PATIENCE,
            },
            Asked {
                name: "b",
                address: wanted("192.0.2.8"),
                inside: false,
                service: Ok(&good),
                since: PATIENCE,
            },
        ];
        let found = addresses(&fleet("LoadBalancer"), &asked);
        assert_eq!(found.assigned, [ip("192.0.2.8")]);
        assert!(found.refused.is_some());
    }
}

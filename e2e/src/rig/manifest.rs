//! Manifests that many tests need, as YAML.

use std::net::SocketAddr;

use base64::Engine as _;

use crate::echo::Addresses;
use crate::echo::cert::Pair;

/// The GatewayClass of all Gateways here.
pub const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portolan}
spec: {controllerName: portolan.dev/gateway-controller}
";

/// A Gateway in the default namespace; its listeners as a YAML flow sequence's items.
pub fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  gatewayClassName: portolan
  listeners: [{listeners}]
"
    )
}

/// A Gateway with one HTTP listener, named `http`, on port 80.
pub fn http_gateway(name: &str) -> String {
    gateway(name, "{name: http, port: 80, protocol: HTTP}")
}

/// An HTTPRoute of Gateway `web` in the default namespace for one hostname; its rules as a YAML flow sequence's items.
pub fn route(name: &str, hostname: &str, rules: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  hostnames: ['{hostname}']
  rules: [{rules}]
"
    )
}

/// A Service without selector and one EndpointSlice per endpoint. Ports: 80 (`http`, no protocol named), 81 (`h2c`) and
/// 82 (`ws`).
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let slices: String =
        endpoints.iter().enumerate().map(|(index, endpoint)| slice(name, index, *endpoint)).collect();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports:
  - {{name: http, port: 80}}
  - {{name: h2c, port: 81, appProtocol: kubernetes.io/h2c}}
  - {{name: ws, port: 82, appProtocol: kubernetes.io/ws}}
{slices}"
    )
}

fn slice(service: &str, index: usize, endpoint: SocketAddr) -> String {
    let (family, ip, port) =
        (if endpoint.is_ipv4() { "IPv4" } else { "IPv6" }, endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-{index}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
ports: [{{name: http, port: {port}}}, {{name: h2c, port: {port}}}, {{name: ws, port: {port}}}]
endpoints: [{{addresses: ['{ip}']}}]
"
    )
}

/// A Service of everything that a backend answers, and its EndpointSlice. Ports: 80 (`http`), 81 (`h2c`), 82 (`ws`), 443
/// (`https`) where it speaks TLS, 90 (`tcp`) and 90 of UDP (`udp`).
pub fn echo(name: &str, addresses: &Addresses) -> String {
    let (Some(http), Some(tcp), Some(udp)) = (addresses.http, addresses.tcp, addresses.udp) else {
        panic!("{name} does not answer everything: {addresses:?}");
    };
    let (http, tcp, udp, ip) = (http.port(), tcp.port(), udp.port(), http.ip());
    let https = |text: &dyn Fn(u16) -> String| addresses.https.map(|at| text(at.port())).unwrap_or_default();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports:
  - {{name: http, port: 80}}
  - {{name: h2c, port: 81, appProtocol: kubernetes.io/h2c}}
  - {{name: ws, port: 82, appProtocol: kubernetes.io/ws}}
  - {{name: tcp, port: 90}}
  - {{name: udp, port: 90, protocol: UDP}}
{}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-0, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports:
- {{name: http, port: {http}}}
- {{name: h2c, port: {http}}}
- {{name: ws, port: {http}}}
- {{name: tcp, port: {tcp}}}
- {{name: udp, port: {udp}, protocol: UDP}}
{}endpoints: [{{addresses: ['{ip}']}}]
",
        https(&|_| "  - {name: https, port: 443}\n".to_owned()),
        https(&|port| format!("- {{name: https, port: {port}}}\n")),
    )
}

/// A Secret of type `kubernetes.io/tls` in the default namespace.
pub fn secret(name: &str, pair: &Pair) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
data: {{tls.crt: {}, tls.key: {}}}
",
        encode(&pair.certificate),
        encode(&pair.key)
    )
}

/// A ConfigMap in the default namespace with certificates of authorities, under the key that references take them from.
pub fn authorities(name: &str, certificates: &str) -> String {
    let text = quoted(certificates);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{ca.crt: {text}}}\n")
}

/// A ClusterTrustBundle of the signer `example.com/SIGNER`; its name is `example.com:SIGNER:NAME`, as the API server demands.
pub fn trust_bundle(signer: &str, name: &str, certificates: &str) -> String {
    format!(
        "apiVersion: certificates.k8s.io/v1
kind: ClusterTrustBundle
metadata: {{name: 'example.com:{signer}:{name}'}}
spec: {{signerName: example.com/{signer}, trustBundle: {}}}
",
        quoted(certificates)
    )
}

/// Text of several lines as one scalar: a string of JSON is one of YAML.
fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// Several documents as one file.
pub fn join<T: AsRef<str>>(documents: impl IntoIterator<Item = T>) -> String {
    documents.into_iter().map(|one| one.as_ref().trim().to_owned()).collect::<Vec<_>>().join("\n---\n")
}

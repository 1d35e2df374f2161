//! Portolan: a Kubernetes Gateway API implementation on Envoy.

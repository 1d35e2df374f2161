//! The kinds of Kubernetes itself that Portolan reads.

pub use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
pub use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
pub use k8s_openapi::api::discovery::v1::EndpointSlice;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

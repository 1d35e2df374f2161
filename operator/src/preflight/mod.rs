//! `portolan preflight`: what a cluster lacks before Portolan can be installed in it, or run.
//!
//! It asks, and changes nothing. Each thing that is missing comes with what to do about it.

mod permissions;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use portolan_crds::names::{BUNDLE_VERSION, GATEWAY_API_GROUP};
use serde::Serialize;

pub use permissions::{Permission, installer, operator};

use crate::{
    model::Kind,
    source::kubernetes::{Installed, SecretAccess, chain, installed, served},
};

/// How long one question may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How many questions are asked at a time.
const AT_ONCE: usize = 8;

/// The oldest Kubernetes that Portolan is made for: it has the CEL rules of the Gateway API's CRDs v1.7. `config/helm/Chart.yaml` says the
/// same.
const OLDEST_MINOR: u32 = 32;

/// Kinds without which there is nothing to serve.
const NEEDED: [Kind; 4] = [Kind::GatewayClass, Kind::Gateway, Kind::HttpRoute, Kind::ReferenceGrant];

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// Portolan works without it, but not for everything.
    Warning,
    /// Portolan does not work without it.
    Missing,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub message: String,
}

impl Finding {
    fn new(check: impl Into<String>, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, message: message.into() }
    }
}

/// On whose behalf permissions are looked at. The identity is always the one of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A person who installs Portolan.
    Installer,
    /// The operator itself.
    Operator,
}

/// Looks at everything.
pub async fn preflight(client: &Client, role: Role, secrets: SecretAccess, namespace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = match tokio::time::timeout(REQUEST, client.apiserver_version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => {
            findings.push(Finding::new("API server", Verdict::Missing, chain(&error)));
            return findings;
        }
        Err(_) => {
            let message = format!("no answer for {} s", REQUEST.as_secs());
            findings.push(Finding::new("API server", Verdict::Missing, message));
            return findings;
        }
    };
    findings.push(judge_version(&version.major, &version.minor, &version.git_version));
    let kinds = match tokio::time::timeout(REQUEST, installed(client)).await {
        Ok(Ok(kinds)) => kinds,
        Ok(Err(error)) => {
            findings.push(Finding::new("Gateway API CRDs", Verdict::Missing, chain(&error)));
            Vec::new()
        }
        Err(_) => {
            let message = format!("no answer for {} s", REQUEST.as_secs());
            findings.push(Finding::new("Gateway API CRDs", Verdict::Missing, message));
            Vec::new()
        }
    };
    findings.extend(kinds.iter().map(|(kind, state)| judge_kind(*kind, state)));
    let (bundles, served) = judge_trust_bundles(client).await;
    findings.push(bundles);
    let there = |kind: &Kind| match kinds.iter().find(|(known, _)| known == kind) {
        Some((_, state)) => matches!(state, Installed::Yes(_)),
        None if *kind == Kind::ClusterTrustBundle => served,
        // It is built in.
        None => true,
    };
    let permissions = match role {
        Role::Operator => operator(Kind::ALL.into_iter().filter(there), secrets, namespace),
        Role::Installer => installer(namespace),
    };
    let mut judged = futures::stream::iter(permissions.into_iter().map(|one| judge_permission(client, one)))
        .buffered(AT_ONCE);
    while let Some(finding) = judged.next().await {
        findings.push(finding);
    }
    findings
}

/// Nothing lacks where nobody refers to a ClusterTrustBundle, and most API servers do not serve them.
async fn judge_trust_bundles(client: &Client) -> (Finding, bool) {
    let kind = Kind::ClusterTrustBundle;
    let finding = |verdict, message: String| Finding::new(format!("kind {kind}"), verdict, message);
    match tokio::time::timeout(REQUEST, served(client, kind)).await {
        Ok(Ok(Some(version))) => (finding(Verdict::Ok, format!("{}/{version}", kind.group())), true),
        Ok(Ok(None)) => {
            (finding(Verdict::Ok, "is not served: references to it are refused, and say so".into()), false)
        }
        Ok(Err(error)) => (finding(Verdict::Warning, chain(&error)), false),
        Err(_) => (finding(Verdict::Warning, format!("no answer for {} s", REQUEST.as_secs())), false),
    }
}

fn judge_version(major: &str, minor: &str, shown: &str) -> Finding {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let old = match (major.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(1), Ok(minor)) => minor < OLDEST_MINOR,
        (Ok(major), _) => major < 1,
        _ => false,
    };
    if old {
        let message =
            format!("{shown}: Portolan is made for 1.{OLDEST_MINOR} and newer; upgrade the cluster");
        return Finding::new("API server", Verdict::Warning, message);
    }
    Finding::new("API server", Verdict::Ok, shown)
}

fn judge_kind(kind: Kind, state: &Installed) -> Finding {
    let check = format!("kind {kind}");
    let lacking = if NEEDED.contains(&kind) { Verdict::Missing } else { Verdict::Warning };
    let install = if kind.group() == GATEWAY_API_GROUP {
        "install the CRDs: kubectl apply --server-side -f config/crd/gateway-api/standard"
    } else {
        "it comes with Portolan: kubectl apply --server-side -k config/default"
    };
    match state {
        Installed::Yes(Some(release)) if *release.version == *BUNDLE_VERSION => {
            Finding::new(check, Verdict::Ok, format!("{} {}", release.version, release.channel))
        }
        Installed::Yes(Some(release)) => {
            let message = format!(
                "{} {}: Portolan knows the Gateway API up to {BUNDLE_VERSION}",
                release.version, release.channel
            );
            Finding::new(check, Verdict::Ok, message)
        }
        // Of our own there is one.
        Installed::Yes(None) if kind.group() != GATEWAY_API_GROUP => Finding::new(check, Verdict::Ok, "yes"),
        Installed::Yes(None) => {
            Finding::new(check, Verdict::Warning, "its CRD does not say which release it is from")
        }
        Installed::OtherVersions(versions) => {
            let message =
                format!("serves {}, not the version that Portolan reads; {install}", versions.join(", "));
            Finding::new(check, lacking, message)
        }
        Installed::No => Finding::new(check, lacking, format!("is not installed; {install}")),
    }
}

async fn judge_permission(client: &Client, permission: Permission) -> Finding {
    let check = format!("may {permission}");
    let attributes = ResourceAttributes {
        group: Some(permission.group),
        resource: Some(permission.resource),
        subresource: permission.subresource.map(ToOwned::to_owned),
        verb: Some(permission.verb.to_owned()),
        namespace: permission.namespace,
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let params = PostParams::default();
    match tokio::time::timeout(REQUEST, api.create(&params, &review)).await {
        Ok(Ok(answer)) if answer.status.as_ref().is_some_and(|status| status.allowed) => {
            Finding::new(check, Verdict::Ok, "yes")
        }
        Ok(Ok(answer)) => {
            let reason = answer.status.and_then(|status| status.reason).filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let (verdict, message) = lacking(&reason, permission.by_namespace);
            Finding::new(check, verdict, message)
        }
        Ok(Err(error)) => Finding::new(check, Verdict::Missing, chain(&error)),
        Err(_) => Finding::new(check, Verdict::Missing, format!("no answer for {} s", REQUEST.as_secs())),
    }
}

/// What it means that the API server said no. Who has a role in some namespaces alone is refused everywhere else; which
/// those are is not known here.
fn lacking(reason: &str, by_namespace: Option<&str>) -> (Verdict, String) {
    match by_namespace {
        Some(role) => {
            let message = format!(
                "not everywhere{reason}: it works in the namespaces where a RoleBinding gives ClusterRole {role}"
            );
            (Verdict::Warning, message)
        }
        None => (Verdict::Missing, format!("no{reason}; see the roles in config/rbac")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kubernetes::Release;

    #[test]
    fn an_old_api_server_is_a_warning() {
        assert_eq!(judge_version("1", "35", "v1.35.4").verdict, Verdict::Ok);
        assert_eq!(judge_version("1", "32+", "v1.32.2-gke").verdict, Verdict::Ok);
        assert_eq!(judge_version("1", "31", "v1.31.0").verdict, Verdict::Warning);
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let release = |version: &str| {
            Installed::Yes(Some(Release { version: version.into(), channel: "standard".into() }))
        };
        assert_eq!(judge_kind(Kind::Gateway, &release("v1.7.0")).verdict, Verdict::Ok);
        assert_eq!(judge_kind(Kind::GrpcRoute, &Installed::No).verdict, Verdict::Warning);
        let missing = judge_kind(Kind::Gateway, &Installed::OtherVersions(vec!["v1beta1".into()]));
        assert_eq!(missing.verdict, Verdict::Missing);
        assert!(
            missing.message.contains("v1beta1") && missing.message.contains("kubectl apply"),
            "{missing:?}"
        );
    }

    #[test]
    fn what_may_be_bound_by_namespace_is_a_warning() {
        let (verdict, message) = lacking("", Some("portolan-fleets"));
        assert_eq!(verdict, Verdict::Warning);
        assert!(message.contains("RoleBinding") && message.contains("portolan-fleets"), "{message}");
        assert_eq!(lacking("", None).0, Verdict::Missing);
    }
}

//! Why a fleet has no proxies: pure, from its workload and pods as the API server has them.
//!
//! The proxies themselves say nothing when their image cannot be pulled or no node has room for them. Kubernetes does, in
//! places that few people know.

use serde_json::Value;

use super::objects::OwnedKind;

/// How many proxies of a workload serve.
pub fn ready(kind: OwnedKind, workload: &Value) -> i64 {
    let field = if kind == OwnedKind::DaemonSet { "/status/numberReady" } else { "/status/readyReplicas" };
    workload.pointer(field).and_then(Value::as_i64).unwrap_or(0)
}

/// What keeps a workload from making pods: quota, admission, a missing account.
pub fn of_workload(workload: &Value) -> Option<String> {
    let conditions = workload.pointer("/status/conditions").and_then(Value::as_array)?;
    let failure = conditions
        .iter()
        .find(|one| text(one, "type") == Some("ReplicaFailure") && text(one, "status") == Some("True"))?;
    Some(format!("no pod can be made: {}", text(failure, "message")?))
}

/// What keeps pods from running; of several pods, what the newest says.
pub fn of_pods(pods: &[Value]) -> Option<String> {
    let mut pods: Vec<&Value> = pods.iter().collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(text(pod, "/metadata/creationTimestamp").unwrap_or_default()));
    pods.into_iter().find_map(|pod| {
        let why = unscheduled(pod).or_else(|| waiting(pod))?;
        Some(format!("pod {}: {why}", text(pod, "/metadata/name").unwrap_or_default()))
    })
}

fn unscheduled(pod: &Value) -> Option<String> {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array)?;
    let failed = conditions
        .iter()
        .find(|one| text(one, "type") == Some("PodScheduled") && text(one, "status") == Some("False"))?;
    Some(format!("no node takes it: {}", text(failed, "message")?))
}

/// A container that cannot start. One that is just being made is no trouble.
fn waiting(pod: &Value) -> Option<String> {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array)?;
    statuses.iter().find_map(|status| {
        let waiting = status.pointer("/state/waiting")?;
        let reason = text(waiting, "reason").filter(|reason| *reason != "ContainerCreating")?;
        let last = status.pointer("/lastState/terminated").and_then(|last| text(last, "message"));
        let message = text(waiting, "message").or(last).unwrap_or_default();
        Some(format!("{reason}: {message}"))
    })
}

/// A field by name, or by pointer.
fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    let found = if field.starts_with('/') { value.pointer(field) } else { value.get(field) };
    found.and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, created: &str, status: &Value) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created}, "status": status})
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told() {
        let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""});
        let status = json!({"containerStatuses": [{"state": {"waiting": waiting}}]});
        let why = of_pods(&[pod("web-1", "2026-01-01T00:00:00Z", &status)]).unwrap();
        assert_eq!(why, "pod web-1: ImagePullBackOff: Back-off pulling image \"x\"");
    }

    #[test]
    fn a_pod_without_a_node_is_told() {
        let condition =
            json!({"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"});
        let why = of_pods(&[pod("web-1", "", &json!({"conditions": [condition]}))]).unwrap();
        assert!(why.contains("no node takes it: 0/1 nodes"), "{why}");
    }

    #[test]
    fn a_pod_that_is_just_starting_is_no_trouble() {
        let creating =
            json!({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]});
        let running = json!({"containerStatuses": [{"state": {"running": {}}}]});
        let pods = [pod("a", "1", &creating), pod("b", "2", &running), pod("c", "3", &json!({}))];
        assert_eq!(of_pods(&pods), None);
    }

    #[test]
    fn of_several_pods_the_newest_is_heard() {
        let says = |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
        let pods = [
            pod("old", "2026-01-01T00:00:00Z", &says("Old")),
            pod("new", "2026-01-02T00:00:00Z", &says("New")),
        ];
        assert!(of_pods(&pods).unwrap().starts_with("pod new: New"));
    }

    #[test]
    fn what_admission_refuses_is_told() {
        let condition =
            json!({"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"});
        let workload = json!({"status": {"conditions": [condition], "readyReplicas": 2, "numberReady": 3}});
        assert_eq!(of_workload(&workload).unwrap(), "no pod can be made: exceeded quota: small");
        assert_eq!(ready(OwnedKind::Deployment, &workload), 2);
        assert_eq!(ready(OwnedKind::DaemonSet, &workload), 3);
        assert_eq!(of_workload(&json!({})), None);
    }
}

//! Retries (GEP-1731) and the limit of one try (GEP-1742).

use portolan_xds_proto::envoy::config::route::v3::{
    RetryPolicy,
    retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
};
use portolan_xds_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use super::wire;
use crate::ir::{Millis, Retry, Timeouts};

/// Connection errors in the API's sense: refused, reset, and a try that timed out.
const CONNECTION_ERRORS: &str = "connect-failure,refused-stream,reset";

/// How often another host is sought before a host that failed is taken again.
const HOST_SELECTION_TRIES: i64 = 5;

/// The longest pause between tries, as a multiple of the shortest: Envoy's own default.
const LONGEST_BACKOFF: u64 = 10;

/// Lowers retries and the limit of one try. Envoy keeps the latter in the retry policy, so a policy without any
/// retry carries it.
pub(super) fn policy(retry: Option<&Retry>, timeouts: Timeouts) -> Option<RetryPolicy> {
    let per_try_timeout = timeouts.backend_request.filter(|limit| limit.0 > 0).map(wire::duration);
    let Some(retry) = retry.filter(|retry| retry.attempts > 0) else {
        let without_retry = |limit| RetryPolicy {
            num_retries: wire::uint(0),
            per_try_timeout: Some(limit),
            ..RetryPolicy::default()
        };
        return per_try_timeout.map(without_retry);
    };
    let mut codes: Vec<u32> = retry.codes.iter().copied().map(u32::from).collect();
    codes.sort_unstable();
    codes.dedup();
    let retry_on = if codes.is_empty() {
        CONNECTION_ERRORS.to_owned()
    } else {
        format!("{CONNECTION_ERRORS},retriable-status-codes")
    };
    Some(RetryPolicy {
        retry_on,
        num_retries: wire::uint(retry.attempts),
        per_try_timeout,
        retriable_status_codes: codes,
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(ConfigType::TypedConfig(portolan_xds_proto::any(&PreviousHostsPredicate {}))),
        }],
        host_selection_retry_max_attempts: HOST_SELECTION_TRIES,
        retry_back_off: retry.backoff.filter(|least| least.0 > 0).map(|least| RetryBackOff {
            base_interval: Some(wire::duration(least)),
            max_interval: Some(wire::duration(Millis(least.0.saturating_mul(LONGEST_BACKOFF)))),
        }),
        ..RetryPolicy::default()
    })
}

//! Routes: what happens to a request that matches.

use std::collections::BTreeMap;

use portolan_xds_proto::envoy::config::core::v3::{DataSource, data_source};
use portolan_xds_proto::envoy::config::route::v3::{
    DirectResponseAction, Route as ProtoRoute, RouteAction, RouteMatch, WeightedCluster,
    route::Action as ProtoAction,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier},
    weighted_cluster::ClusterWeight,
};
use portolan_xds_proto::google::protobuf::Any;

use super::{
    INVALID_CLUSTER, auth, cors,
    filters::{self, Edits, NewPath},
    listener::STREAM_IDLE_SECONDS,
    matches, redirect, retry, session, wire,
};
use crate::ir::{
    Action, Arm, Backend, Cors, ExternalAuth, HeaderEdits, Millis, Route, RouteTable, Session, Target,
    UrlRewrite,
};

/// Lowers one route to the Envoy routes that do the same, in the order in which they are tried.
///
/// Most become one. A redirect whose port is implied becomes two. Arms with a rewrite, mirrors, CORS, authorization or a
/// redirect of their own become one each: Envoy's weighted clusters cannot carry these.
pub fn route(route: &Route, table: &RouteTable) -> Vec<ProtoRoute> {
    let action = &*route.action;
    let base = || ProtoRoute {
        name: route.name.to_string(),
        r#match: Some(matches::route_match(&route.matches)),
        ..ProtoRoute::default()
    };
    match &action.target {
        Target::Redirect(to) => {
            let base = dress(base(), &HeaderEdits::default(), &action.response_headers, &Around::of(action));
            redirect::routes(base, to, table)
        }
        Target::Answer { status, body } => {
            let base = dress(base(), &HeaderEdits::default(), &action.response_headers, &Around::of(action));
            vec![ProtoRoute { action: Some(answer(*status, body)), ..base }]
        }
        Target::Forward { arms, .. } => {
            let forward = Forward { route, action, table };
            if arms.iter().any(needs_own_route) {
                forward.split(arms, &base)
            } else {
                forward.whole(arms, base())
            }
        }
    }
}

/// A fixed answer.
pub(super) fn answer(status: u16, body: &str) -> ProtoAction {
    let body = (!body.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineString(body.to_owned())),
        ..DataSource::default()
    });
    ProtoAction::DirectResponse(DirectResponseAction {
        status: status.into(),
        body,
        ..DirectResponseAction::default()
    })
}

/// Adds what a route carries beside its match and its action.
fn dress(base: ProtoRoute, request: &HeaderEdits, response: &HeaderEdits, around: &Around<'_>) -> ProtoRoute {
    let (request, response) = (filters::edits(request), filters::edits(response));
    ProtoRoute {
        request_headers_to_add: request.add,
        request_headers_to_remove: request.remove,
        response_headers_to_add: response.add,
        response_headers_to_remove: response.remove,
        typed_per_filter_config: around.lower(),
        ..base
    }
}

/// What filters do around a route.
struct Around<'a> {
    cors: Option<&'a Cors>,
    rule_auth: Option<&'a ExternalAuth>,
    backend_auth: Option<&'a ExternalAuth>,
    session: Option<&'a Session>,
}

impl<'a> Around<'a> {
    fn of(action: &'a Action) -> Self {
        let session = match &action.target {
            Target::Forward { session, .. } => session.as_deref(),
            Target::Redirect(_) | Target::Answer { .. } => None,
        };
        Self { cors: action.cors.as_ref(), rule_auth: action.auth.as_deref(), backend_auth: None, session }
    }

    /// The same, with what an arm has of its own.
    fn and(mut self, arm: &'a Arm) -> Self {
        self.cors = arm.cors.as_ref().or(self.cors);
        self.backend_auth = arm.auth.as_deref();
        self
    }

    fn lower(&self) -> BTreeMap<String, Any> {
        let mut filters = BTreeMap::new();
        if let Some(policy) = self.cors {
            filters.insert(cors::FILTER.to_owned(), portolan_xds_proto::any(&cors::policy(policy)));
        }
        for (place, server) in [(auth::OF_RULE, self.rule_auth), (auth::OF_BACKEND, self.backend_auth)] {
            let content = server.map(|server| portolan_xds_proto::any(&auth::late_content(server)));
            filters.extend(content.map(|content| (place.to_owned(), content)));
        }
        if let Some(session) = self.session {
            filters.insert(session::FILTER.to_owned(), portolan_xds_proto::any(&session::per_route(session)));
        }
        filters
    }
}

fn needs_own_route(arm: &Arm) -> bool {
    arm.rewrite.is_some()
        || !arm.mirrors.is_empty()
        || arm.cors.is_some()
        || arm.auth.is_some()
        || arm.redirect.is_some()
}

/// A rule that forwards.
#[derive(Clone, Copy)]
struct Forward<'a> {
    route: &'a Route,
    action: &'a Action,
    table: &'a RouteTable,
}

impl Forward<'_> {
    /// One Envoy route for all arms.
    fn whole(self, arms: &[Arm], base: ProtoRoute) -> Vec<ProtoRoute> {
        if let [arm] = arms {
            return self.single(arm, base);
        }
        if arms.iter().all(|arm| arm.backend == Backend::Invalid) {
            return vec![self.refuse(base)];
        }
        // Edits live at the arms as soon as one arm has its own, so that they apply in the API's order.
        let at_arms = |of: fn(&Arm) -> &HeaderEdits| arms.iter().any(|arm| !of(arm).is_empty());
        let requests = at_arms(|arm| &arm.request_headers);
        let responses = at_arms(|arm| &arm.response_headers);
        let nothing = HeaderEdits::default();
        let base = dress(
            base,
            if requests { &nothing } else { &self.action.request_headers },
            if responses { &nothing } else { &self.action.response_headers },
            &Around::of(self.action),
        );
        let clusters = arms
            .iter()
            .map(|arm| {
                let request = if requests { self.request_edits(arm) } else { HeaderEdits::default() };
                let response = if responses { self.response_edits(arm) } else { HeaderEdits::default() };
                weighted(arm, filters::edits(&request), filters::edits(&response))
            })
            .collect();
        let specifier =
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..WeightedCluster::default() });
        vec![self.forward(base, specifier, None)]
    }

    /// One Envoy route per arm. Envoy draws one number per request for all of them, so the fractions are cumulative,
    /// and the last arm takes what is left.
    fn split(self, arms: &[Arm], base: &dyn Fn() -> ProtoRoute) -> Vec<ProtoRoute> {
        let total: u64 = arms.iter().map(|arm| u64::from(arm.weight)).sum();
        let mut below = 0;
        let mut routes = Vec::new();
        for arm in arms {
            below += u64::from(arm.weight);
            let mut base = base();
            if below < total
                && let Some(RouteMatch { runtime_fraction, .. }) = &mut base.r#match
            {
                *runtime_fraction = Some(wire::millionths(wire::part_of_million(below, total)));
            }
            routes.extend(self.single(arm, base));
        }
        routes
    }

    /// The Envoy routes of one arm.
    fn single(self, arm: &Arm, base: ProtoRoute) -> Vec<ProtoRoute> {
        let base = dress(
            base,
            &self.request_edits(arm),
            &self.response_edits(arm),
            &Around::of(self.action).and(arm),
        );
        match (&arm.redirect, &arm.backend) {
            (Some(to), _) => redirect::routes(base, to, self.table),
            (None, Backend::Invalid) => vec![self.refuse(base)],
            (None, Backend::Cluster(name)) => {
                vec![self.forward(base, ClusterSpecifier::Cluster(name.to_string()), Some(arm))]
            }
        }
    }

    fn request_edits(self, arm: &Arm) -> HeaderEdits {
        filters::then(&self.action.request_headers, &arm.request_headers)
    }

    fn response_edits(self, arm: &Arm) -> HeaderEdits {
        filters::then(&arm.response_headers, &self.action.response_headers)
    }

    /// The answer for a share without a valid backend: 500, and 503 for gRPC, which clients see as UNAVAILABLE.
    fn refuse(self, base: ProtoRoute) -> ProtoRoute {
        let status = if self.route.matches.grpc { 503 } else { 500 };
        ProtoRoute { action: Some(answer(status, "no valid backend")), ..base }
    }

    fn forward(self, base: ProtoRoute, specifier: ClusterSpecifier, arm: Option<&Arm>) -> ProtoRoute {
        let Target::Forward { rewrite, mirrors, timeouts, retry, .. } = &self.action.target else {
            return base;
        };
        let rewrite = arm.and_then(|arm| arm.rewrite.as_ref()).unwrap_or(rewrite);
        let own_mirrors = arm.map(|arm| arm.mirrors.as_slice()).unwrap_or_default();
        let host = self.host(rewrite, arm);
        let not_found = if self.route.matches.grpc {
            ClusterNotFoundResponseCode::ServiceUnavailable
        } else {
            ClusterNotFoundResponseCode::InternalServerError
        };
        let mut action = RouteAction {
            cluster_specifier: Some(specifier),
            cluster_not_found_response_code: not_found.into(),
            // Without a limit of our own, Envoy would cut every request at 15 s.
            timeout: Some(wire::duration(timeouts.request.unwrap_or(Millis(0)))),
            idle_timeout: idle_timeout(timeouts.request).map(wire::duration),
            retry_policy: retry::policy(retry.as_ref(), *timeouts),
            request_mirror_policies: mirrors.iter().chain(own_mirrors).map(filters::mirror).collect(),
            host_rewrite_specifier: host.map(HostRewriteSpecifier::HostRewriteLiteral),
            ..RouteAction::default()
        };
        match rewrite.path.as_ref().map_or(NewPath::Keep, filters::new_path) {
            NewPath::Keep => {}
            NewPath::Prefix(prefix) => action.prefix_rewrite = prefix,
            NewPath::Regex(substitution) => action.regex_rewrite = Some(substitution),
            NewPath::Full(path) => action.regex_rewrite = Some(wire::substitute("^/.*$", &path)),
        }
        ProtoRoute { action: Some(ProtoAction::Route(action)), ..base }
    }

    /// The new Host header: a rewrite's, else what header edits set.
    fn host(self, rewrite: &UrlRewrite, arm: Option<&Arm>) -> Option<String> {
        rewrite
            .hostname
            .as_ref()
            .or_else(|| arm.and_then(|arm| filters::host_set_by(&arm.request_headers)))
            .or_else(|| filters::host_set_by(&self.action.request_headers))
            .map(ToString::to_string)
    }
}

/// A request timeout that is longer than a stream may be idle, or off, takes the idle limit with it: otherwise a
/// backend that needs ten minutes to answer would be cut off after five.
fn idle_timeout(request: Option<Millis>) -> Option<Millis> {
    const IDLE: Millis = Millis(STREAM_IDLE_SECONDS.unsigned_abs() * 1000);
    request.filter(|limit| limit.0 == 0 || *limit > IDLE)
}

fn weighted(arm: &Arm, request: Edits, response: Edits) -> ClusterWeight {
    use portolan_xds_proto::envoy::config::route::v3::weighted_cluster::cluster_weight;
    let name = match &arm.backend {
        Backend::Cluster(name) => name.to_string(),
        Backend::Invalid => INVALID_CLUSTER.to_owned(),
    };
    ClusterWeight {
        name,
        weight: wire::uint(arm.weight),
        request_headers_to_add: request.add,
        request_headers_to_remove: request.remove,
        response_headers_to_add: response.add,
        response_headers_to_remove: response.remove,
        host_rewrite_specifier: filters::host_set_by(&arm.request_headers)
            .map(|host| cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host.to_string())),
        ..ClusterWeight::default()
    }
}

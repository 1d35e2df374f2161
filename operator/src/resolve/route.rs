//! A route's rules: matches, filters and backends, the same for every parent.

use std::{collections::BTreeSet, sync::Arc};

use portolan_xds::ir::{
    Action, Arm, Backend, Millis, PathMatch, Retry, RouteMatch, Session, Target, Timeouts, UrlRewrite,
};

use super::{
    BackendTarget, ClusterId, Fault, RefFrom, attach, backend,
    engine::State,
    filters::{self, Filters},
    matches::{self, Precedence},
    session,
};
use crate::{
    model::{Kind, ObjectKey, Route, RouteMatches, Rule, WeightedRef, parse_duration},
    world::View,
};

/// A route, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteOut {
    /// metadata.generation.
    pub generation: i64,
    /// Seconds since the epoch.
    pub created: i64,
    /// Rules for requests that can be served.
    pub rules: Vec<RuleOut>,
    /// The rule for connections or datagrams.
    pub stream: Option<StreamRule>,
    /// References that cannot be followed; the first one gives the reason of ResolvedRefs.
    pub unresolved: Vec<Fault>,
    /// Hostnames that are none, with what is wrong.
    pub ignored: Vec<String>,
    /// Rules that cannot be expressed and are dropped, by position.
    pub dropped: Vec<(usize, Fault)>,
    /// Backends that rules and mirrors use.
    pub clusters: Arc<BTreeSet<ClusterId>>,
    /// Policies about the Services that it refers to, in force or not: their status tells of its Gateways.
    pub policies: BTreeSet<ObjectKey>,
}

impl RouteOut {
    /// Whether any rule can be served.
    pub(super) fn serves(&self) -> bool {
        !self.rules.is_empty() || self.stream.is_some()
    }

    /// Why no rule of the route can be served, if none can: then the route is not accepted.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let (index, fault) = self.dropped.first().filter(|_| !self.serves())?;
        Some(Fault::new(fault.reason, format!("no rule can be used: rules[{index}]: {}", fault.message)))
    }
}

/// A rule of a route whose connections or datagrams are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRule {
    /// Weights, and the backends that get these shares; none is an invalid one.
    pub arms: Vec<(u32, Option<BackendTarget>)>,
}

/// A rule, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleOut {
    /// Its position in the route.
    pub index: usize,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its matches with what happens then.
    pub matches: Vec<(RouteMatch, Precedence, Arc<Action>)>,
}

/// The largest weight of the API (BackendRef.weight).
const MOST_WEIGHT: u32 = 1_000_000;

/// Resolves [`super::Unit::Route`], if the route is attached to a Gateway of ours: others' routes are others' work. Each
/// attachment that comes or goes has this run again.
pub(super) fn route(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<RouteOut> {
    let route = view.route(key)?;
    if !attach::parents_of(&route).iter().any(|parent| state.attach(key, parent).is_some()) {
        return None;
    }
    let mut out = RouteOut {
        generation: route.meta.generation,
        created: route.meta.created,
        rules: Vec::with_capacity(route.rules.len()),
        stream: None,
        unresolved: Vec::new(),
        ignored: route
            .hostnames
            .iter()
            .filter_map(|name| name.as_ref().err())
            .map(ToString::to_string)
            .collect(),
        dropped: Vec::new(),
        clusters: Arc::default(),
        policies: BTreeSet::new(),
    };
    for (index, rule) in route.rules.iter().enumerate() {
        let resolved = match rule {
            Ok(rule) if rule.matches == RouteMatches::Everything => {
                stream_rule(view, state, &route, index, rule, &mut out)
            }
            Ok(rule) => resolve_rule(view, state, &route, index, rule, &mut out),
            Err(message) => Err(Fault::unsupported(message.clone())),
        };
        if let Err(fault) = resolved {
            out.dropped.push((index, fault));
        }
    }
    out.policies = view.policies_seen();
    Some(out)
}

fn resolve_rule(
    view: &View<'_>,
    state: &State,
    route: &Route,
    index: usize,
    rule: &Rule,
    out: &mut RouteOut,
) -> Result<(), Fault> {
    let parsed: Vec<(RouteMatch, Precedence)> = match &rule.matches {
        RouteMatches::Http(specs) => each(specs, matches::http),
        RouteMatches::Grpc(specs) => each(specs, matches::grpc),
        RouteMatches::Everything => Ok(Vec::new()),
    }
    .map_err(Fault::unsupported)?;
    let rule_filters = filters::collect(view, state, &RefFrom::of(&route.meta.key), &rule.filters)?;
    let mut arms = Vec::with_capacity(rule.backends.len());
    for (position, reference) in rule.backends.iter().enumerate() {
        let field = format!("backendRefs[{position}]");
        check_weight(reference).map_err(|fault| fault.at(&field))?;
        arms.push((reference, resolve_arm(view, state, route, reference).map_err(|fault| fault.at(&field))?));
    }
    let session = session::session(&route.meta.key, rule)?;
    let parts = Parts { route, rule, filters: &rule_filters, arms: &arms, session };
    let per_match = filters::needs_prefix(&rule_filters)
        || arms.iter().any(|(_, arm)| filters::needs_prefix(&arm.filters));
    let mut shared: Option<Arc<Action>> = None;
    let mut resolved = Vec::with_capacity(parsed.len());
    for (matching, precedence) in parsed {
        let action = match &shared {
            Some(action) if !per_match => action.clone(),
            _ => shared.insert(Arc::new(parts.action(&matching.path)?)).clone(),
        };
        resolved.push((matching, precedence, action));
    }
    let rule_field = format!("rules[{index}]");
    out.unresolved.extend(rule_filters.faults.iter().map(|fault| fault.clone().at(&rule_field)));
    let clusters = Arc::make_mut(&mut out.clusters);
    clusters.extend(rule_filters.clusters.iter().cloned());
    for (position, (_, arm)) in arms.into_iter().enumerate() {
        let field = format!("{rule_field}.backendRefs[{position}]");
        out.unresolved.extend(arm.filters.faults.into_iter().map(|fault| fault.at(&field)));
        clusters.extend(arm.filters.clusters);
        match arm.cluster {
            Ok(cluster) => clusters.extend(cluster.filter(|_| arm.weight > 0)),
            Err(fault) => out.unresolved.push(fault.at(&field)),
        }
    }
    let name = rule.name.clone().unwrap_or_else(|| index.to_string().into());
    out.rules.push(RuleOut { index, name: format!("{}/{name}", route.meta.key).into(), matches: resolved });
    Ok(())
}

/// The rule of a TLSRoute, TCPRoute or UDPRoute: backends and nothing else.
fn stream_rule(
    view: &View<'_>,
    state: &State,
    route: &Route,
    index: usize,
    rule: &Rule,
    out: &mut RouteOut,
) -> Result<(), Fault> {
    if out.stream.is_some() {
        return Err(Fault::unsupported(format!("a {} has exactly one rule", route.meta.key.kind)));
    }
    let (mut arms, mut unresolved) = (Vec::new(), Vec::new());
    for (position, reference) in rule.backends.iter().enumerate() {
        let field = format!("backendRefs[{position}]");
        check_weight(reference).map_err(|fault| fault.at(&field))?;
        match backend::target(view, state, &RefFrom::of(&route.meta.key), &reference.reference) {
            Ok((target, _)) => arms.push((reference.weight, Some(target))),
            Err(fault) => {
                arms.push((reference.weight, None));
                unresolved.push(fault.at(format!("rules[{index}].{field}")));
            }
        }
    }
    out.unresolved.append(&mut unresolved);
    out.stream = Some(StreamRule { arms });
    Ok(())
}

fn check_weight(reference: &WeightedRef) -> Result<(), Fault> {
    let weight = reference.weight;
    if weight > MOST_WEIGHT {
        return Err(Fault::unsupported(format!("weight {weight} is more than {MOST_WEIGHT}")));
    }
    Ok(())
}

/// Every match of a rule, or what is wrong with the first that is.
fn each<S>(
    specs: &[S],
    read: impl Fn(&S) -> Result<(RouteMatch, Precedence), String>,
) -> Result<Vec<(RouteMatch, Precedence)>, String> {
    let one = |(position, spec)| read(spec).map_err(|message| format!("matches[{position}].{message}"));
    specs.iter().enumerate().map(one).collect()
}

struct ArmParts {
    weight: u32,
    cluster: Result<Option<ClusterId>, Fault>,
    filters: Filters,
}

fn resolve_arm(
    view: &View<'_>,
    state: &State,
    route: &Route,
    reference: &WeightedRef,
) -> Result<ArmParts, Fault> {
    let from = RefFrom::of(&route.meta.key);
    Ok(ArmParts {
        weight: reference.weight,
        cluster: backend::backend(view, state, &from, &reference.reference, None),
        filters: filters::collect(view, state, &from, &reference.filters)?,
    })
}

struct Parts<'a> {
    route: &'a Route,
    rule: &'a Rule,
    filters: &'a Filters,
    arms: &'a [(&'a WeightedRef, ArmParts)],
    session: Option<Arc<Session>>,
}

impl Parts<'_> {
    fn action(&self, matched: &PathMatch) -> Result<Action, Fault> {
        Ok(Action {
            request_headers: self.filters.request_headers.clone(),
            response_headers: self.filters.response_headers.clone(),
            cors: self.filters.cors.clone(),
            auth: self.filters.auth.clone(),
            target: self.target(matched)?,
        })
    }

    fn target(&self, matched: &PathMatch) -> Result<Target, Fault> {
        if let Some(why) = self.filters.closed {
            return Ok(self.answer(why));
        }
        if let Some(redirect) = &self.filters.redirect {
            return Ok(Target::Redirect(filters::redirect(redirect, matched)?));
        }
        // There may be ten thousand of these: no more room than is needed.
        let mut arms = Vec::with_capacity(self.arms.len());
        for (_, arm) in self.arms.iter().filter(|(_, arm)| arm.weight > 0) {
            arms.push(arm_ir(arm, matched)?);
        }
        if self.arms.is_empty() {
            return Ok(self.answer("the rule has no backends"));
        }
        if arms.is_empty() {
            return Ok(self.answer("all weights of the rule are 0"));
        }
        if arms.iter().all(|arm| arm.backend == Backend::Invalid) {
            return Ok(self.answer("no backend of the rule can be resolved"));
        }
        Ok(Target::Forward {
            arms,
            rewrite: filters::rewrite(self.filters.rewrite.as_ref(), matched)?,
            mirrors: self.filters.mirrors.clone(),
            timeouts: self.timeouts()?,
            retry: self.retry()?,
            session: self.session.clone(),
        })
    }

    /// HTTPRouteRule.backendRefs: 500. GRPCRouteRule.backendRefs: UNAVAILABLE, which gRPC clients read from a 503.
    fn answer(&self, body: &str) -> Target {
        let status = if self.route.meta.key.kind == Kind::GrpcRoute { 503 } else { 500 };
        Target::Answer { status, body: body.into() }
    }

    fn timeouts(&self) -> Result<Timeouts, Fault> {
        let parse = |field: &str, text: &Option<Arc<str>>| -> Result<Option<Millis>, Fault> {
            let parsed = text.as_deref().map(parse_duration).transpose();
            parsed.map_err(|error| Fault::unsupported(format!("timeouts.{field}: {error}")))
        };
        let (request, backend_request) = (
            parse("request", &self.rule.request_timeout)?,
            parse("backendRequest", &self.rule.backend_timeout)?,
        );
        Ok(Timeouts { request, backend_request })
    }

    fn retry(&self) -> Result<Option<Retry>, Fault> {
        let Some(spec) = &self.rule.retry else { return Ok(None) };
        let backoff = spec.backoff.as_deref().map(parse_duration).transpose();
        let backoff = backoff.map_err(|error| Fault::unsupported(format!("retry.backoff: {error}")))?;
        let mut codes = spec.codes.clone();
        codes.sort_unstable();
        codes.dedup();
        Ok(Some(Retry { attempts: spec.attempts.unwrap_or(1), codes, backoff }))
    }
}

fn arm_ir(arm: &ArmParts, matched: &PathMatch) -> Result<Arm, Fault> {
    let filters = &arm.filters;
    let rewrite: Option<UrlRewrite> =
        filters.rewrite.as_ref().map(|spec| filters::rewrite(Some(spec), matched)).transpose()?;
    let backend = match &arm.cluster {
        Ok(Some(cluster)) if filters.closed.is_none() => Backend::Cluster(cluster.name()),
        _ => Backend::Invalid,
    };
    // A redirect must not pass what must not pass.
    let redirect = filters.redirect.as_ref().filter(|_| filters.closed.is_none());
    Ok(Arm {
        weight: arm.weight,
        backend,
        request_headers: filters.request_headers.clone(),
        response_headers: filters.response_headers.clone(),
        rewrite,
        mirrors: filters.mirrors.clone(),
        cors: filters.cors.clone(),
        auth: filters.auth.clone(),
        redirect: redirect.map(|spec| filters::redirect(spec, matched)).transpose()?,
    })
}

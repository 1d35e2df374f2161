//! The namespaces in which a benchmark's apps live. Each app has a Service, its EndpointSlice and the routes to it in one namespace; the
//! Gateway is in a namespace of its own where there are several (gateway-api-bench's route scale: 50 of 100 apps each).

use std::sync::Arc;

/// See the module. One at least.
#[derive(Debug, Clone)]
pub(super) struct Homes(Arc<[String]>);

impl Homes {
    /// All apps in one namespace.
    pub(super) fn one(namespace: &str) -> Self {
        Self([namespace.to_owned()].into())
    }

    /// Apps in so many namespaces, in turn, named after this one.
    pub(super) fn spread(namespace: &str, namespaces: usize) -> Self {
        Self((0..namespaces.max(1)).map(|index| format!("{namespace}-{index}")).collect())
    }

    /// The namespace of a Service, its EndpointSlice and the routes to it.
    pub(super) fn of(&self, service: usize) -> &str {
        &self.0[service % self.0.len()]
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// What a list or watch of all apps asks for: their namespace, or (empty) every namespace.
    pub(super) fn asked(&self) -> &str {
        if self.0.len() == 1 { &self.0[0] } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_spread_in_turn() {
        let one = Homes::one("bench");
        assert_eq!((one.of(7), one.asked()), ("bench", "bench"));
        let many = Homes::spread("bench", 50);
        assert_eq!((many.of(0), many.of(49), many.of(50)), ("bench-0", "bench-49", "bench-0"));
        assert_eq!((many.all().count(), many.asked()), (50, ""));
    }
}

//! What the engine is told about the world outside the objects: where they come from, which API they follow, what time
//! it is. All of it is given, nothing is asked: resolving stays pure.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use portolan_crds::names::BUNDLE_VERSION;

use super::{Engine, Resolved};
use crate::{model::Kind, world::Read};

/// Where the objects come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    /// Files of the person who runs Portolan: endpoints on loopback are theirs to name.
    #[default]
    Files,
    /// An API server with many authors: an endpoint on loopback would be the proxy's own host.
    Kubernetes,
}

/// The channel of the Gateway API CRDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Kinds and fields that are stable.
    Standard,
    /// Those that may still change, too.
    Experimental,
}

/// The release of the Gateway API that the objects follow, as the CRDs' annotations tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// `gateway.networking.k8s.io/bundle-version`, such as `v1.7.0`.
    pub version: Arc<str>,
    /// `gateway.networking.k8s.io/channel`.
    pub channel: Channel,
}

impl Bundle {
    /// Major and minor version, if the text is one.
    fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.strip_prefix('v')?.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Whether Portolan knows this release.
    pub fn supported(&self) -> bool {
        let known = (MAJOR, OLDEST_MINOR)..=(MAJOR, Self::NEWEST_MINOR);
        self.release().is_some_and(|release| known.contains(&release))
    }

    /// The minor version; of a release that is not known, the newest that is.
    pub(super) fn minor(&self) -> u32 {
        self.release().filter(|(major, _)| *major == MAJOR).map_or(Self::NEWEST_MINOR, |(_, minor)| minor)
    }

    /// The newest minor version that Portolan knows.
    pub(super) const NEWEST_MINOR: u32 = 7;
}

/// The major version of the Gateway API that Portolan knows, and the oldest minor version.
const MAJOR: u32 = 1;
const OLDEST_MINOR: u32 = 5;

/// What holds for all objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where the objects come from.
    pub provenance: Provenance,
    /// Which release they follow; none when the CRDs do not say.
    pub bundle: Option<Bundle>,
    /// Kinds that nobody can make objects of here: of the Gateway API, not installed or not in the version that is read; of
    /// Kubernetes, not served.
    pub absent: BTreeSet<Kind>,
}

impl Default for Environment {
    /// Files, which follow the release whose schemas are embedded.
    fn default() -> Self {
        let bundle = Bundle { version: BUNDLE_VERSION.into(), channel: Channel::Experimental };
        Self { provenance: Provenance::Files, bundle: Some(bundle), absent: BTreeSet::new() }
    }
}

impl Engine {
    /// An engine that knows no objects, in this environment.
    pub fn within(environment: Environment) -> Self {
        let mut engine = Self::new();
        engine.state.environment = environment;
        engine
    }

    /// Tells that the environment changed: CRDs were installed or upgraded.
    pub fn set_environment(&mut self, environment: Environment) -> Resolved {
        let mut resolved = Resolved::default();
        if self.state.environment != environment {
            self.state.environment = environment;
            self.touch(&Read::Environment);
            resolved.reports.extend(self.classes());
            self.settle(&mut resolved);
        }
        resolved
    }

    /// Tells the time in seconds since the epoch. Reports say which certificates have expired; nothing else looks at
    /// the clock, and an expired certificate is still served: which client minds it is the client's choice.
    pub fn set_time(&mut self, now: i64) -> Resolved {
        let mut resolved = Resolved::default();
        let (from, to) = (self.state.now.min(now), self.state.now.max(now));
        self.state.now = now;
        let crossed = self.effects.expiries.range((Bound::Excluded(from), Bound::Included(to)));
        resolved.reports.extend(crossed.flat_map(|(_, holders)| holders.iter().cloned()));
        resolved
    }

    /// When the next certificate expires, in seconds since the epoch: the next moment at which
    /// [`Engine::set_time`] changes a report.
    pub fn next_expiry(&self) -> Option<i64> {
        let later = (Bound::Excluded(self.state.now), Bound::Unbounded);
        self.effects.expiries.range(later).next().map(|(at, _)| *at)
    }
}

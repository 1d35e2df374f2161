//! Who leads: decisions over one Lease object. Pure; times are given, and only differences of them are used.
//!
//! A Lease's own times are written by another machine's clock, so they are shown to people and compared for equality, never
//! subtracted. Whether another leader is gone is judged by how long its Lease has not changed, as seen from here.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::core::ObjectMeta;

/// A leader that has not renewed for this long may be replaced.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// A leader that has not managed to renew for this long stops writing. The rest of [`LEASE`] is for what is under way.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a Lease is looked at or renewed.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// The annotation that says where the leader is.
pub(super) const PEER_ADDRESS: &str = "portolan.dev/peer-address";

/// A replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its identity.
    pub identity: String,
    /// Where the other replicas reach it, `<address>:<port>`; none where it does not say.
    pub address: Option<String>,
}

/// What to do with the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Somebody else leads.
    Follow,
    /// It does not exist.
    Create(Box<Lease>),
    /// It is ours, or free: write it back like this, on the condition that nobody else has.
    Replace(Box<Lease>),
}

/// What is known of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    /// Where the other replicas reach this one.
    address: Option<String>,
    namespace: String,
    name: String,
    lease: Option<Lease>,
    /// When the Lease was last seen to be another one than before.
    changed: Duration,
}

impl Election {
    pub(super) fn new(namespace: &str, name: &str, identity: &str, address: Option<&str>) -> Self {
        Self {
            address: address.map(ToOwned::to_owned),
            identity: identity.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            lease: None,
            changed: Duration::ZERO,
        }
    }

    /// Takes in the Lease as it was just read or written.
    pub(super) fn observe(&mut self, lease: Option<Lease>, now: Duration) {
        let version = |lease: &Option<Lease>| {
            lease.as_ref().map(|lease| (lease.metadata.uid.clone(), lease.metadata.resource_version.clone()))
        };
        if version(&lease) != version(&self.lease) {
            self.changed = now;
        }
        self.lease = lease;
    }

    /// Whether the Lease is ours, as far as we know.
    pub(super) fn is_ours(&self) -> bool {
        self.holder() == Some(self.identity.as_str())
    }

    /// Who holds it; nobody after a release.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// Who leads, and where that replica is.
    pub(super) fn leader(&self) -> Option<Leader> {
        let annotations = self.lease.as_ref()?.metadata.annotations.as_ref();
        let address = annotations.and_then(|all| all.get(PEER_ADDRESS)).filter(|it| !it.is_empty()).cloned();
        Some(Leader { identity: self.holder()?.to_owned(), address })
    }

    /// The metadata with our address in it, and no other's.
    fn addressed(&self, mut metadata: ObjectMeta) -> ObjectMeta {
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        match &self.address {
            Some(address) => _ = annotations.insert(PEER_ADDRESS.to_owned(), address.clone()),
            None => _ = annotations.remove(PEER_ADDRESS),
        }
        metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        metadata
    }

    /// What to do now.
    pub(super) fn decide(&self, now: Duration, clock: Timestamp) -> Decision {
        let Some(lease) = &self.lease else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            };
            let spec = Some(self.acquired(0, clock));
            return Decision::Create(Box::new(Lease { metadata: self.addressed(metadata), spec }));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.is_ours() {
            let spec = LeaseSpec { renew_time: Some(MicroTime(clock)), ..spec };
            let metadata = self.addressed(lease.metadata.clone());
            return Decision::Replace(Box::new(Lease { metadata, spec: Some(spec) }));
        }
        // Each holder says how long its silence must last; nonsense counts as the usual.
        let seconds = spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0);
        let patience = seconds.map_or(LEASE, Duration::from_secs);
        if self.holder().is_some() && now < self.changed + patience {
            return Decision::Follow;
        }
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
        let taken = LeaseSpec { ..self.acquired(transitions, clock) };
        let spec = LeaseSpec { strategy: spec.strategy, preferred_holder: spec.preferred_holder, ..taken };
        let metadata = self.addressed(lease.metadata.clone());
        Decision::Replace(Box::new(Lease { metadata, spec: Some(spec) }))
    }

    /// The Lease given back, for the next leader to take at once; nothing if it is not ours.
    pub(super) fn release(&self, clock: Timestamp) -> Option<Lease> {
        let lease = self.lease.clone().filter(|_| self.is_ours())?;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(clock)),
            ..lease.spec.unwrap_or_default()
        };
        Some(Lease { spec: Some(spec), ..lease })
    }

    fn acquired(&self, transitions: i32, clock: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: Some(MicroTime(clock)),
            renew_time: Some(MicroTime(clock)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u64) -> Duration {
        Duration::from_secs(at)
    }

    /// A Lease in the API server that counts its versions.
    struct Server(Option<Lease>, u32);

    impl Server {
        /// Does what was decided, as an API server does: with the version that was read, or not at all.
        fn takes(&mut self, decision: Decision) -> bool {
            let lease = match decision {
                Decision::Create(lease) if self.0.is_none() => lease,
                Decision::Follow | Decision::Create(_) => return false,
                Decision::Replace(lease) => {
                    let current = self.0.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                    if current.is_none() || lease.metadata.resource_version != current {
                        return false;
                    }
                    lease
                }
            };
            self.1 += 1;
            let mut lease = *lease;
            lease.metadata.resource_version = Some(self.1.to_string());
            self.0 = Some(lease);
            true
        }
    }

    fn elections() -> (Election, Election, Server) {
        let election = |name, address| Election::new("ns", "portolan", name, address);
        (election("a", Some("192.0.2.1:18000")), election("b", None), Server(None, 0))
    }

    /// One look and what follows from it.
    fn round(election: &mut Election, server: &mut Server, now: Duration) -> bool {
        election.observe(server.0.clone(), now);
        let took = server.takes(election.decide(now, Timestamp::UNIX_EPOCH));
        election.observe(server.0.clone(), now);
        took && election.is_ours()
    }

    #[test]
    fn the_first_one_leads_and_goes_on_leading_while_it_renews() {
        let (mut a, mut b, mut server) = elections();
        assert!(round(&mut a, &mut server, second(0)));
        for at in (2..60).step_by(2) {
            assert!(round(&mut a, &mut server, second(at)), "{at}");
            assert!(!round(&mut b, &mut server, second(at)), "{at}");
        }
    }

    #[test]
    fn of_two_that_saw_the_same_lease_one_wins() {
        let (mut a, mut b, mut server) = elections();
        a.observe(None, second(0));
        b.observe(None, second(0));
        let (of_a, of_b) =
            (a.decide(second(0), Timestamp::UNIX_EPOCH), b.decide(second(0), Timestamp::UNIX_EPOCH));
        assert!(server.takes(of_a) && !server.takes(of_b));
    }

    #[test]
    fn a_silent_leader_is_replaced_after_its_lease_and_not_before() {
        let (mut a, mut b, mut server) = elections();
        assert!(round(&mut a, &mut server, second(0)));
        assert!(!round(&mut b, &mut server, second(1)));
        // Its clock says what it likes: what counts is how long nothing changed here.
        assert!(!round(&mut b, &mut server, second(15)));
        assert!(round(&mut b, &mut server, second(16)));
        assert_eq!(server.0.as_ref().unwrap().spec.as_ref().unwrap().lease_transitions, Some(1));
        // The old one comes back, finds another holder, and follows.
        assert!(!round(&mut a, &mut server, second(17)));
        assert!(!a.is_ours());
    }

    #[test]
    fn a_leader_that_was_asleep_cannot_renew_over_the_next_one() {
        let (mut a, mut b, mut server) = elections();
        assert!(round(&mut a, &mut server, second(0)));
        assert!(!round(&mut b, &mut server, second(0)));
        assert!(round(&mut b, &mut server, second(20)));
        // It still thinks that the Lease is its own; the version says otherwise.
        assert!(a.is_ours() && !server.takes(a.decide(second(20), Timestamp::UNIX_EPOCH)));
    }

    #[test]
    fn the_lease_says_where_its_holder_is_and_where_no_other_is() {
        let (mut a, mut b, mut server) = elections();
        assert_eq!(b.leader(), None);
        assert!(round(&mut a, &mut server, second(0)));
        assert!(!round(&mut b, &mut server, second(1)));
        let leader = Leader { identity: "a".into(), address: Some("192.0.2.1:18000".into()) };
        assert_eq!(b.leader(), Some(leader));
        assert!(round(&mut b, &mut server, second(17)));
        assert!(!round(&mut a, &mut server, second(17)));
        assert_eq!(a.leader(), Some(Leader { identity: "b".into(), address: None }));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut a, mut b, mut server) = elections();
        assert!(round(&mut a, &mut server, second(0)));
        assert!(!round(&mut b, &mut server, second(1)));
        let released = a.release(Timestamp::UNIX_EPOCH).unwrap();
        assert!(server.takes(Decision::Replace(Box::new(released))));
        assert!(round(&mut b, &mut server, second(2)));
    }
}

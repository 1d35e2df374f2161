//! A virtual host with its encoded routes.
//!
//! A small host is one piece. A host of many routes is cut into pieces after routes that their identity picks, so that a
//! changed route replaces one piece; where it is cut depends on nothing but its content.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::{admission::Admission, chunk::Chunk, hosts::host_resource};
use crate::{
    ir::{Origin, Route, RouteTable, VirtualHost},
    lower::table,
    store::{Body, Piece},
};

/// A host of more routes than this is cut.
const SMALL: usize = 128;
/// One route of so many begins a new piece, on average.
const ROUTES_PER_PIECE: u64 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Host {
    desired: Arc<VirtualHost>,
    /// The desired routes of each origin in order, in a host that is not small.
    by_origin: HashMap<Origin, Vec<Arc<Route>>>,
    /// Served routes in order, as they were encoded last; reused while equal.
    encoded: Vec<Encoded>,
    /// What they were encoded to.
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Encoded {
    route: Arc<Route>,
    /// A slice of a piece that has its neighbours too.
    bytes: Bytes,
    begins_piece: bool,
}

/// How the routes of one origin in one host changed.
pub(super) struct OriginChange {
    pub(super) origin: Origin,
    pub(super) before: Option<Vec<Arc<Route>>>,
    pub(super) after: Option<Vec<Arc<Route>>>,
}

impl Host {
    /// What is desired of it.
    pub(super) fn desired(&self) -> &Arc<VirtualHost> {
        &self.desired
    }

    /// Replaces what is desired, and says what that means per origin.
    pub(super) fn set(&mut self, desired: Arc<VirtualHost>) -> Vec<OriginChange> {
        let difference = difference(&self.desired, &desired);
        let mut changes = Vec::with_capacity(difference.len());
        for (origin, Difference { gone, new }) in difference {
            let before = self.routes_of(origin);
            let kept = before.iter().filter(|route| !gone.iter().any(|gone| gone.rank == route.rank));
            let mut after: Vec<Arc<Route>> = kept.chain(new).cloned().collect();
            after.sort_by(|one, other| one.rank.cmp(&other.rank));
            let some = |routes: Vec<_>| (!routes.is_empty()).then_some(routes);
            changes.push(OriginChange { origin: origin.clone(), before: some(before), after: some(after) });
        }
        self.index(&desired, &changes);
        self.desired = desired;
        changes
    }

    fn index(&mut self, desired: &VirtualHost, changes: &[OriginChange]) {
        if desired.routes.len() <= SMALL {
            self.by_origin = HashMap::new();
        } else if self.by_origin.is_empty() {
            for route in &desired.routes {
                self.by_origin.entry(route.origin.clone()).or_default().push(Arc::clone(route));
            }
        } else {
            for OriginChange { origin, after, .. } in changes {
                match after {
                    Some(routes) => _ = self.by_origin.insert(origin.clone(), routes.clone()),
                    None => _ = self.by_origin.remove(origin),
                }
            }
        }
    }

    /// The origins of its routes, each once.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let mut origins: Vec<Origin> = self.desired.routes.iter().map(|route| route.origin.clone()).collect();
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// The desired routes of an origin in order.
    pub(super) fn routes_of(&self, origin: &Origin) -> Vec<Arc<Route>> {
        if self.by_origin.is_empty() {
            self.desired.routes.iter().filter(|route| route.origin == *origin).cloned().collect()
        } else {
            self.by_origin.get(origin).cloned().unwrap_or_default()
        }
    }

    /// Forgets what was encoded.
    pub(super) fn forget(&mut self) {
        self.encoded.clear();
    }

    /// What is to be served of it; encodes what was not encoded before.
    pub(super) fn encode(&mut self, domain: &str, head: &RouteTable, admission: &Admission) -> Body {
        let desired = Arc::clone(&self.desired);
        let served = served(&desired, head, domain, admission);
        let mut known = std::mem::take(&mut self.encoded).into_iter().peekable();
        self.encoded.reserve_exact(served.len());
        for route in &*served {
            // Both are in order of rank, so what is smaller is gone.
            while known
                .peek()
                .is_some_and(|old| !Arc::ptr_eq(&old.route, route) && old.route.rank < route.rank)
            {
                known.next();
            }
            let same = known.next_if(|old| Arc::ptr_eq(&old.route, route) || old.route == *route);
            self.encoded.push(same.unwrap_or_else(|| Encoded {
                bytes: table::route_chunk(route, head),
                begins_piece: begins_piece(route),
                route: Arc::clone(route),
            }));
        }
        let end = table::virtual_host_end(&desired);
        let start = table::virtual_host_start(&head.name, domain, &desired);
        self.pieces =
            if self.encoded.len() <= SMALL { vec![self.join(&start, &end)] } else { self.cut(start, end) };
        Body::new(&self.pieces)
    }

    /// The one piece of a small host, where its routes then keep their bytes.
    fn join(&mut self, start: &Bytes, end: &Bytes) -> Piece {
        let routes: usize = self.encoded.iter().map(|one| one.bytes.len()).sum();
        let mut bytes = BytesMut::with_capacity(start.len() + routes + end.len());
        bytes.extend_from_slice(start);
        self.encoded.iter().for_each(|one| bytes.extend_from_slice(&one.bytes));
        bytes.extend_from_slice(end);
        let bytes = bytes.freeze();
        move_to(&mut self.encoded, &bytes, start.len());
        Piece::new(bytes)
    }

    /// The pieces of a large host. Pieces whose routes are all the same are used again.
    fn cut(&mut self, start: Bytes, end: Bytes) -> Vec<Piece> {
        let old: HashMap<*const u8, &Piece> =
            self.pieces.iter().map(|piece| (piece.bytes().as_ptr(), piece)).collect();
        let mut pieces = vec![Piece::new(start)];
        for group in self.encoded.chunk_by_mut(|_, next| !next.begins_piece) {
            let same = group.first().and_then(|first| old.get(&first.bytes.as_ptr()));
            if let Some(same) = same.filter(|piece| is_exactly(piece, group)) {
                pieces.push(Piece::clone(same));
                continue;
            }
            let mut bytes = BytesMut::with_capacity(group.iter().map(|one| one.bytes.len()).sum());
            for one in group.iter() {
                bytes.extend_from_slice(&one.bytes);
            }
            let bytes = bytes.freeze();
            move_to(group, &bytes, 0);
            pieces.push(Piece::new(bytes));
        }
        if !end.is_empty() {
            pieces.push(Piece::new(end));
        }
        pieces
    }
}

/// Points routes that follow each other in `bytes` from `start` on to their places there.
fn move_to(routes: &mut [Encoded], bytes: &Bytes, mut start: usize) {
    for one in routes {
        let end = start + one.bytes.len();
        one.bytes = bytes.slice(start..end);
        start = end;
    }
}

/// Whether these routes are, one after the other, the memory of a piece.
fn is_exactly(piece: &Piece, routes: &[Encoded]) -> bool {
    let mut next = piece.bytes().as_ptr() as usize;
    for one in routes {
        if one.bytes.as_ptr() as usize != next {
            return false;
        }
        next += one.bytes.len();
    }
    next == piece.bytes().as_ptr() as usize + piece.bytes().len()
}

fn begins_piece(route: &Route) -> bool {
    let rank = &route.rank;
    let place = format!("{}/{}/{}/{}", rank.object.1, rank.object.0, rank.rule, rank.matching);
    xxh3_64(place.as_bytes()).is_multiple_of(ROUTES_PER_PIECE)
}

/// The routes of a host, with those that are put back replaced by what was acknowledged.
fn served<'a>(
    desired: &'a VirtualHost,
    table: &RouteTable,
    domain: &str,
    admission: &'a Admission,
) -> Cow<'a, [Arc<Route>]> {
    let host = host_resource(&table.name, domain);
    let put_back: HashMap<&Origin, Option<&Chunk>> = admission.put_back(&host).collect();
    if put_back.is_empty() {
        return Cow::Borrowed(&desired.routes);
    }
    let mut served: Vec<_> =
        desired.routes.iter().filter(|route| !put_back.contains_key(&route.origin)).cloned().collect();
    for proven in put_back.into_values() {
        if let Some(Chunk::Routes(routes)) = proven {
            served.extend(routes.iter().cloned());
        }
    }
    served.sort_by(|one, other| one.rank.cmp(&other.rank));
    Cow::Owned(served)
}

/// What differs between two versions of an origin's routes.
#[derive(Debug, Default)]
struct Difference<'a> {
    gone: Vec<&'a Arc<Route>>,
    new: Vec<&'a Arc<Route>>,
}

/// What differs between two versions of a host, by origin. Routes that both share cost a comparison of pointers.
fn difference<'a>(before: &'a VirtualHost, after: &'a VirtualHost) -> BTreeMap<&'a Origin, Difference<'a>> {
    let mut found: BTreeMap<&Origin, Difference<'_>> = BTreeMap::new();
    let (mut old, mut new) = (before.routes.iter().peekable(), after.routes.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) || one == other => {
                old.next();
                new.next();
                continue;
            }
            // Both are in order of rank.
            (Some(one), Some(other)) => one.rank.cmp(&other.rank),
        };
        if order.is_le()
            && let Some(gone) = old.next()
        {
            found.entry(&gone.origin).or_default().gone.push(gone);
        }
        if order.is_ge()
            && let Some(route) = new.next()
        {
            found.entry(&route.origin).or_default().new.push(route);
        }
    }
}

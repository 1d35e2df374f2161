//! Who defines what: one object, one definition in force.
//!
//! The first definition wins, by path and then by position, so that the outcome does not depend on the order of events.
//! When it goes, the next one takes over. A change costs what it touches: no operation looks at all objects.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use crate::{
    model::{Object, ObjectKey},
    source::{
        Change, Problem, Severity,
        manifest::{Definition, Good},
    },
};

/// All definitions of all files.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<ObjectKey, Entry>,
    files: HashMap<Arc<Path>, Vec<ObjectKey>>,
    /// Objects with several definitions, and what is to be said about the ones that lose.
    duplicates: BTreeMap<ObjectKey, Vec<Problem>>,
    touched: BTreeSet<ObjectKey>,
}

/// One object.
#[derive(Debug, Default)]
struct Entry {
    /// Its definitions, sorted by file and place. Broken ones are here with their last good version.
    claims: Vec<Claim>,
    told: Option<Told>,
}

/// What was last said about an object.
#[derive(Debug)]
struct Told {
    object: Object,
    /// 1 + edits since load (design.md §4).
    generation: i64,
    spec: u128,
}

#[derive(Clone, Debug)]
struct Claim {
    file: Arc<Path>,
    order: usize,
    line: usize,
    column: usize,
    good: Good,
}

impl Claim {
    fn place(&self) -> (&Arc<Path>, usize) {
        (&self.file, self.order)
    }
}

impl Ledger {
    /// Puts the definitions of a file in the place of its earlier ones. A broken definition keeps its last good version;
    /// with `keep_missing` so does an object that the file no longer shows.
    pub(super) fn replace(&mut self, file: &Arc<Path>, definitions: Vec<Definition>, keep_missing: bool) {
        let mut before: HashMap<ObjectKey, Vec<Claim>> = HashMap::new();
        for key in self.files.remove(file).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&key) {
                before.entry(key.clone()).or_default().extend(entry.take(file));
            }
            self.touched.insert(key);
        }
        let mut keys = Vec::with_capacity(definitions.len());
        for (order, definition) in definitions.into_iter().enumerate() {
            let Definition { key, line, column, good } = definition;
            let last_good = before.remove(&key).and_then(|claims| claims.into_iter().next());
            let Some(good) = good.or_else(|| last_good.map(|claim| claim.good)) else { continue };
            self.claim(&key, Claim { file: file.clone(), order, line, column, good });
            keys.push(key);
        }
        if keep_missing {
            for (key, claims) in before {
                for claim in claims {
                    self.claim(&key, claim);
                }
                keys.push(key);
            }
        }
        if !keys.is_empty() {
            self.files.insert(file.clone(), keys);
        }
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, file: &Path) {
        for key in self.files.remove(file).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.take(file).for_each(drop);
            }
            self.touched.insert(key);
        }
    }

    /// How many objects a file defines.
    pub(super) fn defined_by(&self, file: &Path) -> usize {
        self.files.get(file).map_or(0, Vec::len)
    }

    fn claim(&mut self, key: &ObjectKey, claim: Claim) {
        let claims = &mut self.entries.entry(key.clone()).or_default().claims;
        let at = claims.partition_point(|other| other.place() <= claim.place());
        // Nearly every object has one.
        claims.reserve_exact(1);
        claims.insert(at, claim);
        self.touched.insert(key.clone());
    }

    /// What changed since the last call, sorted by key, and whether other problems are there.
    pub(super) fn settle(&mut self) -> (Vec<Change>, bool) {
        let mut news = false;
        let touched = std::mem::take(&mut self.touched);
        let changes = touched.into_iter().filter_map(|key| self.settle_one(key, &mut news)).collect();
        (changes, news)
    }

    fn settle_one(&mut self, key: ObjectKey, news: &mut bool) -> Option<Change> {
        let entry = self.entries.get_mut(&key)?;
        let [winner, losers @ ..] = entry.claims.as_mut_slice() else {
            *news |= self.duplicates.remove(&key).is_some();
            let told = self.entries.remove(&key)?.told;
            return told.map(|_| (key, None));
        };
        if losers.is_empty() {
            *news |= self.duplicates.remove(&key).is_some();
        } else {
            let problems: Vec<Problem> = losers.iter().map(|loser| duplicate(&key, winner, loser)).collect();
            *news |= self.duplicates.get(&key) != Some(&problems);
            self.duplicates.insert(key.clone(), problems);
        }
        let generation = match &entry.told {
            None => 1,
            Some(told) if told.spec == winner.good.spec => told.generation,
            Some(told) => told.generation + 1,
        };
        winner.good.object.set_generation(generation);
        let object = winner.good.object.clone();
        let told = Told { object: object.clone(), generation, spec: winner.good.spec };
        let before = entry.told.replace(told);
        let same = before.is_some_and(|before| before.object == object);
        (!same).then_some((key, Some(object)))
    }

    /// What is wrong between files.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.duplicates.values().flatten()
    }

    /// Where the definition in force stands.
    pub(super) fn place(&self, key: &ObjectKey) -> Option<(&Path, usize)> {
        let winner = self.entries.get(key)?.claims.first()?;
        Some((&winner.file, winner.line))
    }
}

impl Entry {
    /// Takes the definitions of one file out.
    fn take<'a>(&'a mut self, file: &'a Path) -> impl Iterator<Item = Claim> + 'a {
        self.claims.extract_if(.., move |claim| &*claim.file == file)
    }
}

fn duplicate(key: &ObjectKey, winner: &Claim, loser: &Claim) -> Problem {
    let message = format!(
        "{key} is also defined in {}:{}, which wins because it comes first; remove one of the two",
        winner.file.display(),
        winner.line
    );
    Problem {
        file: loser.file.clone(),
        line: loser.line,
        column: loser.column,
        severity: Severity::Error,
        message: message.into(),
        object: Some(key.clone()),
    }
}

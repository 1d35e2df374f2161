//! Status of routes, the same for every kind.

use super::{Condition, Judge, ParentReport, Programmed, RouteReport};
use crate::{
    model::{Object, ObjectKey},
    resolve::{Engine, Fault, RouteOut, Unit, attach, class::CONTROLLER},
};

impl Engine {
    pub(super) fn route_report(
        &self,
        key: &ObjectKey,
        programmed: &dyn Fn(&ObjectKey, &ObjectKey) -> Programmed,
    ) -> Option<RouteReport> {
        let Some(Object::Route(model)) = self.world.get(key) else { return None };
        // Who is attached nowhere is not resolved, and keeps no entry of ours.
        let out = self.state.route(key);
        let mut parents = Vec::new();
        for parent in &model.parents {
            let Some(object) = attach::parent_of(model, parent) else { continue };
            let Some(attached) = self.state.attach(key, &object) else { continue };
            let Some(outcome) = attached.parents.iter().find(|outcome| outcome.parent == *parent) else {
                continue;
            };
            let conditions = self
                .parent_conditions(out?, key, outcome.fault.as_ref(), &|| programmed(key, &attached.gateway));
            parents.push(ParentReport {
                parent_ref: parent.clone(),
                controller_name: CONTROLLER,
                conditions,
            });
        }
        Some(RouteReport { parents })
    }

    fn parent_conditions(
        &self,
        out: &RouteOut,
        key: &ObjectKey,
        fault: Option<&Fault>,
        programmed: &dyn Fn() -> Programmed,
    ) -> Vec<Condition> {
        let judge = Judge(out.generation);
        let panicked = self.state.panics.get(&Unit::Route(key.clone())).map(|text| {
            Fault::new(
                "UnsupportedValue",
                format!("a defect of Portolan: resolving it panicked ({text}); please report it"),
            )
        });
        let refusal = out.refusal();
        let fault = fault.or(panicked.as_ref()).or(refusal.as_ref());
        let accepted = out
            .ignored
            .iter()
            .fold("the route is accepted".to_owned(), |text, ignored| format!("{text}; ignored: {ignored}"));
        let mut conditions = vec![
            judge.of("Accepted", fault, ("Accepted", &accepted)),
            match out.unresolved.as_slice() {
                [] => judge.yes("ResolvedRefs", "ResolvedRefs", "all references are resolved"),
                [first, ..] => {
                    let all: Vec<_> = out.unresolved.iter().map(|fault| fault.message.as_str()).collect();
                    judge.no("ResolvedRefs", first.reason, all.join("; "))
                }
            },
        ];
        if out.serves() && !out.dropped.is_empty() {
            let all: Vec<_> = out
                .dropped
                .iter()
                .map(|(index, fault)| format!("rules[{index}]: {}", fault.message))
                .collect();
            conditions.push(judge.yes(
                "PartiallyInvalid",
                "UnsupportedValue",
                format!("Dropped Rule: {}", all.join("; ")),
            ));
        }
        if fault.is_none() {
            conditions.push(judge.programmed("portolan.dev/Programmed", &programmed()));
        }
        conditions
    }
}

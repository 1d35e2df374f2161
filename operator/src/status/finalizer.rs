//! The finalizer that keeps a GatewayClass while Gateways use it (Gateway API, `GatewayClassFinalizerGatewaysExist`).
//! Pure.

use portolan_crds::names::GATEWAY_CLASS_FINALIZER;

/// The finalizers that a class of ours should have; nothing where it has them. A class that is being deleted gets no new
/// one: the API server would refuse it.
pub(super) fn finalizers(there: &[String], in_use: bool, deleted: bool) -> Option<Vec<String>> {
    let held = there.iter().any(|one| one == GATEWAY_CLASS_FINALIZER);
    if held == in_use || (in_use && deleted) {
        return None;
    }
    let others = there.iter().filter(|one| *one != GATEWAY_CLASS_FINALIZER);
    let ours = in_use.then(|| GATEWAY_CLASS_FINALIZER.to_owned());
    Some(others.cloned().chain(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_while_gateways_exist_and_others_stay() {
        let (other, ours) = ("other".to_owned(), GATEWAY_CLASS_FINALIZER.to_owned());
        let both = [other.clone(), ours.clone()];
        for (there, in_use, deleted, expected) in [
            (&both[..0], true, false, Some(vec![ours.clone()])),
            (&both[..1], true, false, Some(both.to_vec())),
            (&both[..], true, false, None),
            (&both[..], true, true, None),
            (&both[..], false, true, Some(vec![other.clone()])),
            (&both[1..], false, false, Some(Vec::new())),
            (&both[..0], true, true, None),
            (&both[..0], false, false, None),
        ] {
            assert_eq!(finalizers(there, in_use, deleted), expected, "{there:?} {in_use} {deleted}");
        }
    }
}

//! A rotation that goes wrong takes no certificate away: a Secret whose new pair cannot be used remembers the good one that it
//! replaced (performance-and-faults: half-written Secrets are a normal case).
//!
//! Only the version just before is asked, and only when a Secret changes: the resolver stays a function of its objects. A Secret
//! that is deleted, or a grant that is taken away, ends the old pair as well. After a restart nobody knows it any more.

use std::sync::Arc;

use crate::{model::Object, resolve::holds_pair, source::Change, world::World};

/// Tells the changed Secrets of a batch which good pair each of them replaced, if its own cannot be used.
pub(super) fn remember(changes: &mut [Change], world: &World) {
    for (key, change) in changes {
        let Some(Object::Secret(new)) = change else { continue };
        let Some(Object::Secret(old)) = world.get(key) else { continue };
        if old == new || holds_pair(new) {
            continue;
        }
        let before = if holds_pair(old) { Some(Box::new((**old).clone())) } else { old.before.clone() };
        Arc::make_mut(new).before = before;
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::{
        model::{Kind, parse},
        resolve::Engine,
    };

    fn pem() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn secret(certificate: &str, key: &str) -> Change {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let json = json!({"metadata": {"name": "s"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": encode(certificate), "tls.key": encode(key)}});
        let object = parse(Kind::Secret, &json).unwrap();
        (object.key().clone(), Some(object))
    }

    fn told(engine: &mut Engine, change: Change) -> Option<Vec<u8>> {
        let mut changes = [change];
        remember(&mut changes, engine.world());
        let Some(Object::Secret(secret)) = &changes[0].1 else { return None };
        let before = secret.before.as_ref().map(|before| before.key.as_deref().unwrap().to_vec());
        engine.apply(changes);
        before
    }

    #[test]
    fn a_bad_pair_remembers_the_good_one_until_a_good_one_comes() {
        let (one, two) = (pem(), pem());
        let mut engine = Engine::new();
        assert_eq!(told(&mut engine, secret(&one.0, &one.1)), None);
        let first = Some(one.1.clone().into_bytes());
        assert_eq!(told(&mut engine, secret(&two.0, &one.1)), first);
        assert_eq!(told(&mut engine, secret("broken", &two.1)), first, "from one bad pair to the next");
        assert_eq!(told(&mut engine, secret(&two.0, &two.1)), None);
    }

    #[test]
    fn a_secret_that_was_never_good_or_was_deleted_remembers_nothing() {
        let (one, two) = (pem(), pem());
        let mut engine = Engine::new();
        assert_eq!(told(&mut engine, secret(&one.0, &two.1)), None);
        assert_eq!(told(&mut engine, secret("broken", &two.1)), None);
        assert_eq!(told(&mut engine, secret(&one.0, &one.1)), None);
        let (key, _) = secret(&one.0, &one.1);
        engine.apply([(key, None)]);
        assert_eq!(told(&mut engine, secret(&one.0, &two.1)), None);
    }
}

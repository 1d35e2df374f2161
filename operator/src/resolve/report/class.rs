//! Status of GatewayClasses.

use super::{ClassReport, FeatureReport, Judge};
use crate::{
    model::ObjectKey,
    resolve::{Engine, Environment, Fault, features},
};

impl Engine {
    pub(super) fn class_report(&self, key: &ObjectKey) -> Option<ClassReport> {
        let class = self.state.class(key)?;
        let environment = &self.state.environment;
        let judge = Judge(class.generation);
        let accepted = ("Accepted", "Portolan serves this class");
        let version =
            ("SupportedVersion", "the installed Gateway API CRDs are of a release that Portolan knows");
        Some(ClassReport {
            conditions: vec![
                judge.of("Accepted", class.fault.as_ref(), accepted),
                judge.of("SupportedVersion", unsupported(environment).as_ref(), version),
            ],
            supported_features: features::supported(environment)
                .into_iter()
                .map(|name| FeatureReport { name })
                .collect(),
        })
    }
}

fn unsupported(environment: &Environment) -> Option<Fault> {
    let message = match &environment.bundle {
        Some(bundle) if bundle.supported() => return None,
        Some(bundle) => format!(
            "the installed Gateway API CRDs are of release {}; Portolan knows v1.5 to v1.7 and goes on as well as it can",
            bundle.version
        ),
        None => "the installed Gateway API CRDs do not say of which release they are".to_owned(),
    };
    Some(Fault::new("UnsupportedVersion", message))
}

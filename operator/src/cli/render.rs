//! `portolan render`: the Envoy configuration that manifests would become.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use super::manifests::Manifests;
use crate::render::render;

/// Renders manifests as YAML, by Gateway; `false` when a document is broken. Keys are redacted.
pub(super) fn run(paths: &[PathBuf], gateway: Option<&str>) -> io::Result<bool> {
    let manifests = Manifests::read(paths);
    manifests.complain()?;
    let configuration = render(&manifests.objects).map_err(io::Error::other)?;
    let shown: BTreeMap<_, _> =
        configuration.into_iter().filter(|(name, _)| gateway.is_none_or(|wanted| wanted == name)).collect();
    if let (Some(wanted), true) = (gateway, shown.is_empty()) {
        writeln!(
            io::stderr(),
            "no Gateway {wanted} of a class with our controllerName: expected <namespace>/<name>"
        )?;
        return Ok(false);
    }
    write!(io::stdout().lock(), "{}", serde_saphyr::to_string(&shown).map_err(io::Error::other)?)?;
    Ok(manifests.sound())
}

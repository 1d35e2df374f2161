//! Header edits, rewrites and mirrors.
//!
//! Envoy applies a route's edits after those of the chosen weighted cluster, for requests and responses alike. The
//! API wants the rule's first on the way in and last on the way out, so [`then`] composes both into one list.

use std::sync::Arc;

use portolan_xds_proto::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use portolan_xds_proto::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use portolan_xds_proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::wire;
use crate::ir::{HeaderEdit, HeaderEdits, Mirror, PathRewrite};

/// Envoy's form of [`HeaderEdits`].
#[derive(Default)]
pub(super) struct Edits {
    pub(super) add: Vec<HeaderValueOption>,
    pub(super) remove: Vec<String>,
}

/// Envoy refuses edits of pseudo headers and of `host`; a request's `host` is rewritten instead ([`host_set_by`]).
fn editable(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

/// Lowers edits. `add` appends a second line to an existing header, which RFC 9110 §5.3 makes equal to one line with
/// both values joined by a comma.
pub(super) fn edits(edits: &HeaderEdits) -> Edits {
    let option = |edit: &HeaderEdit, action: HeaderAppendAction| {
        editable(&edit.name).then(|| HeaderValueOption {
            header: Some(HeaderValue {
                key: edit.name.to_string(),
                value: edit.value.replace('%', "%%"),
                ..HeaderValue::default()
            }),
            append_action: action.into(),
            keep_empty_value: true,
            ..HeaderValueOption::default()
        })
    };
    let set = edits.set.iter().filter_map(|edit| option(edit, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = edits.add.iter().filter_map(|edit| option(edit, HeaderAppendAction::AppendIfExistsOrAdd));
    Edits {
        add: set.chain(add).collect(),
        remove: edits.remove.iter().filter(|name| editable(name)).map(ToString::to_string).collect(),
    }
}

/// The value that edits set the request's `host` to.
pub(super) fn host_set_by(edits: &HeaderEdits) -> Option<&Arc<str>> {
    edits.set.iter().rev().find(|edit| edit.name.eq_ignore_ascii_case("host")).map(|edit| &edit.value)
}

/// Edits that do what `first` and then `second` would do.
pub(super) fn then(first: &HeaderEdits, second: &HeaderEdits) -> HeaderEdits {
    let replaced = |name: &str| {
        second.set.iter().any(|edit| *edit.name == *name) || second.remove.iter().any(|gone| **gone == *name)
    };
    let keep = |list: &[HeaderEdit]| list.iter().filter(|edit| !replaced(&edit.name)).cloned().collect();
    let mut both = HeaderEdits { set: keep(&first.set), add: keep(&first.add), remove: first.remove.clone() };
    both.set.extend(second.set.iter().cloned());
    both.add.extend(second.add.iter().cloned());
    both.remove.extend(second.remove.iter().cloned());
    both
}

/// What becomes of the path.
pub(super) enum NewPath {
    /// Nothing changes.
    Keep,
    /// The matched prefix is replaced, character by character.
    Prefix(String),
    /// A substitution on the path without its query.
    Regex(RegexMatchAndSubstitute),
    /// The whole path, literally.
    Full(String),
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Resolves a rewrite so that no `//` and no empty path comes out (the table at `HTTPPathModifier`).
pub(super) fn new_path(rewrite: &PathRewrite) -> NewPath {
    match rewrite {
        PathRewrite::Full(path) => NewPath::Full(rooted(path)),
        PathRewrite::Prefix { matched, replacement } => {
            let matched = matched.trim_end_matches('/');
            let replacement = replacement.trim_end_matches('/');
            match (matched, replacement) {
                ("", "") => NewPath::Keep,
                ("", new) => NewPath::Regex(wire::substitute("^/", &format!("{}/", rooted(new)))),
                (old, "") => NewPath::Regex(wire::substitute(format!("^{}/*", wire::quote(old)), "/")),
                (_, new) => NewPath::Prefix(rooted(new)),
            }
        }
    }
}

/// Lowers a mirror. The copy keeps its Host header: Envoy would append `-shadow` to it.
pub(super) fn mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: mirror.cluster.to_string(),
        runtime_fraction: mirror.fraction.map(wire::fraction),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

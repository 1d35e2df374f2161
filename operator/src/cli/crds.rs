//! `portolan crds`: the CRDs that an install needs, for `kubectl apply`.

use std::io::{self, Write as _};

use clap::ValueEnum;
use portolan_crds::install;

/// Which of the Gateway API's CRDs are printed with our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ChannelChoice {
    /// Kinds and fields that are stable.
    Standard,
    /// Those that may still change, too.
    Experimental,
    /// None: the cluster has them.
    None,
}

/// Prints them as YAML documents, those of the Gateway API first.
pub(super) fn crds(channel: ChannelChoice) -> io::Result<bool> {
    let channel = match channel {
        ChannelChoice::Standard => Some(install::Channel::Standard),
        ChannelChoice::Experimental => Some(install::Channel::Experimental),
        ChannelChoice::None => None,
    };
    let mut out = io::stdout().lock();
    for file in channel.into_iter().flat_map(install::gateway_api) {
        writeln!(out, "---\n{}", file.text.trim_end())?;
    }
    for text in install::own_files().map_err(io::Error::other)?.values() {
        writeln!(out, "---\n{}", text.trim_end())?;
    }
    Ok(true)
}

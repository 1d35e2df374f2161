//! Why a benchmark has no figures. A bar that is missed is a figure, not an error.

use std::io;

use portolan_xds::ads::client::StreamEnded;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Files, sockets, /proc.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The API server refuses or does not answer.
    #[error("the API server: {0}")]
    Api(Box<kube::Error>),
    /// There is no configuration that leads to an API server.
    #[error("no API server: {0}")]
    Server(String),
    /// A program cannot be started.
    #[error("{what} does not start: {why}")]
    Start {
        /// The program.
        what: &'static str,
        /// What the system said.
        why: String,
    },
    /// A program ended that should not have.
    #[error("{what} ended: {why}")]
    Ended {
        /// The program.
        what: &'static str,
        /// Its status and the end of its log.
        why: String,
    },
    /// The ADS stream ended.
    #[error(transparent)]
    Stream(#[from] StreamEnded),
    /// Something did not come in time.
    #[error("not within {seconds} s: {of}")]
    Late {
        /// What was awaited.
        of: String,
        /// How long.
        seconds: u64,
    },
    /// The arguments, or the files that they name, are of no use.
    #[error("{0}")]
    Setting(String),
    /// A plot cannot be drawn.
    #[error("the plot {file}: {why}")]
    Plot {
        /// Where it should be.
        file: String,
        /// Why it is not.
        why: String,
    },
}

impl From<kube::Error> for BenchError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

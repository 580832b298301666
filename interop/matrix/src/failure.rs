//! Why a scenario did not pass.

use serde_json::Value;

/// Why a scenario did not pass, in words for whoever reads the table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{program} does not start: {source}")]
    Start {
        program: String,
        source: std::io::Error,
    },
    #[error("{node} ended instead of answering {command:?}")]
    Ended { node: String, command: String },
    #[error("{node} did not answer {command:?} within {seconds} s")]
    NoReply {
        node: String,
        command: String,
        seconds: u64,
    },
    #[error("{node} answered {command:?} with {reply}")]
    Reply {
        node: String,
        command: String,
        reply: Value,
    },
    #[error("{node} cannot be talked to: {source}")]
    Pipe {
        node: String,
        source: std::io::Error,
    },
    #[error("block {cid} cannot be read: {reason}")]
    Block { cid: String, reason: String },
    #[error("after {seconds} s still: {obstacle}")]
    Timeout { seconds: u64, obstacle: String },
    #[error("{0}")]
    Wrong(String),
    #[error("a test file: {0}")]
    File(#[from] std::io::Error),
}

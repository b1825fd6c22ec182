//! retell: owns an append-only event log and retells it into read models.
//!
//! An application can embed what the `retell` binary is made of: the [`log`], the replay engine and
//! the lifecycle of projection versions. Data flows one way: log, reader, parsers, applier, writer,
//! read model.

pub mod build;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash_point;
pub mod digest;
pub mod event;
#[doc(hidden)]
pub mod fuzz;
mod key_prefix;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod postgres;
pub mod read_model;
pub mod replay;
mod sqlite_format;
#[cfg(test)]
#[path = "../../tests/support/cluster.rs"]
#[allow(dead_code, reason = "these tests need only some of it")]
mod test_cluster;
pub mod wasm;

/// An error and its causes in one line, for places that have room for only that.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

//! retell: owns an append-only event log and retells it into read models.
//!
//! An application can embed what the `retell` binary is made of: the [`log`], the replay engine and
//! the lifecycle of projection versions. Data flows one way: log, reader, parsers, applier, writer,
//! read model.

pub mod build;
pub mod cli;
pub mod clock;
pub mod config;
pub mod digest;
pub mod event;
pub mod limits;
pub mod log;
pub mod read_model;

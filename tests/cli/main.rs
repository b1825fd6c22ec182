//! The command line through the real binary. One test binary for all topics: each one links the
//! whole host, which takes longer than running it.

#[path = "../support/mod.rs"]
mod support;

mod append;
mod build;
mod events;
mod instance;

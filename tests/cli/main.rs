//! The command line through the real binary. One test binary for all topics: each one links the
//! whole host, which takes longer than running it.

#[path = "../support/scripted.rs"]
mod scripts;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/waiting.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod waiting;

// What the examples are made of.
#[path = "../../examples/demo/content.rs"]
mod generated;
#[path = "../../examples/git_history/history.rs"]
mod history;
#[path = "../../examples/git_history/tree.rs"]
mod tree;

mod append;
mod backup;
mod build;
mod check;
mod content;
mod dead_letters;
mod deploy;
mod digest;
mod events;
mod examples;
mod git_tree;
mod inspect;
mod instance;
mod limits;
mod misbehaviour;
mod modules;
mod query;
mod readme;
mod repository;
mod scripted;
mod serve;
mod shown;
mod status;
mod switch;
mod usage;
mod verify;
mod wait;

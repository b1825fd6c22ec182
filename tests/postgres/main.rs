//! retell on PostgreSQL, through the real binary, on servers that the tests start themselves.

#[path = "../support/cluster.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod cluster;
#[path = "../support/content.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod content;
#[path = "../support/scripted.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod scripts;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod support;
#[path = "../support/waiting.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod waiting;

#[cfg(debug_assertions)]
mod crash_points;
mod crashes;
mod dead_letters;
mod everywhere;
mod hosts;
mod instance;
mod names;
mod passwords;
mod poolers;
mod walls;

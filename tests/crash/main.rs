//! Crashes through the real binary: processes are killed at random moments, again and again, and in
//! the end everything is as if nothing had happened. Delays are drawn from a seed, which a failure
//! prints; what is waited for is always a condition.

#[path = "../support/content.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod content;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod support;
#[path = "../support/waiting.rs"]
mod waiting;

mod appender;
mod instance;
mod kills;
mod soak;
mod together;

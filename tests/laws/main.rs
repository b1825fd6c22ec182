//! The laws of retell, through its library: what must hold for any log, any batch cut, any crash and
//! any switch.

#[path = "../support/content.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod content;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod support;
#[path = "../support/waiting.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod waiting;

mod engine;
mod modules;
mod poison;
mod replay;
mod requests;
mod switch;

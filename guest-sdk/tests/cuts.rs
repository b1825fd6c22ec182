//! The test harness catches projections that depend on how batches are cut.

use std::sync::atomic::{AtomicI64, Ordering};

use retell_sdk::prelude::*;
use retell_sdk::testing::{event, given};
use serde_json::json;

/// Kept between events, and in no table: just what a projection must not do.
static COUNTED: AtomicI64 = AtomicI64::new(0);

#[derive(Event)]
struct Happened;

#[derive(Table)]
struct Last {
    #[key]
    position: i64,
    count: i64,
}

#[projection(name = "lasts", version = "1.0.0", tables(Last))]
fn project(_: Happened, meta: &Meta, db: &mut Db) -> Result<()> {
    let count = COUNTED.fetch_add(1, Ordering::Relaxed);
    db.put(Last {
        position: i64::try_from(meta.position())?,
        count,
    })
}

#[test]
#[should_panic(expected = "the rows depend on how the events are cut into batches")]
fn memory_between_batches_is_found() {
    given::<Projection>([event("Happened", json!({})), event("Happened", json!({}))]);
}

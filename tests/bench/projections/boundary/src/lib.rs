//! Takes events with four fields and does nothing with them: what is left is the way in and out.

use std::hint::black_box;

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market<'a> {
    Bid {
        auction: i64,
        bidder: i64,
        price: i64,
        channel: &'a str,
    },
}

/// A module needs a table; this one stays empty.
#[derive(Table)]
pub struct Nothing {
    #[key]
    pub id: i64,
}

#[projection(name = "bench_boundary", version = "1.0.0", tables(Nothing))]
fn project(event: Market<'_>, _meta: &Meta, _db: &mut Db) -> Result<()> {
    let Market::Bid {
        auction,
        bidder,
        price,
        channel,
    } = event;
    // Else the compiler sees that nobody wants the fields.
    black_box((auction, bidder, price, channel));
    Ok(())
}

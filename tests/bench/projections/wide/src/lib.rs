//! The latest bid of every auction and bidder, to be found by bidder too. Most events make a row.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market {
    Bid {
        auction: i64,
        bidder: i64,
        price: i64,
        date_time: i64,
    },
}

#[derive(Table)]
pub struct LatestBid {
    #[key]
    pub auction: i64,
    #[key]
    #[index]
    pub bidder: i64,
    pub price: i64,
    /// Milliseconds since the Unix epoch.
    pub date_time: i64,
}

#[projection(name = "bench_wide", version = "1.0.0", tables(LatestBid))]
fn project(event: Market, _meta: &Meta, db: &mut Db) -> Result<()> {
    let Market::Bid {
        auction,
        bidder,
        price,
        date_time,
    } = event;
    db.put(LatestBid {
        auction,
        bidder,
        price,
        date_time,
    })
}

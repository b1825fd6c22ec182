//! One row for each bid, under a key that is a hash of its position: every event makes a row, and
//! the rows come in no order.

use std::fmt::Write as _;

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market {
    Bid {
        auction: i64,
        bidder: i64,
        price: i64,
    },
}

#[derive(Table)]
pub struct BidByHash {
    #[key]
    pub hash: String,
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
}

#[projection(name = "bench_scatter", version = "1.0.0", tables(BidByHash))]
fn project(event: Market, meta: &Meta, db: &mut Db) -> Result<()> {
    let Market::Bid {
        auction,
        bidder,
        price,
    } = event;
    let mut hash = String::with_capacity(16);
    write!(hash, "{:016x}", mix(meta.position()))?;
    db.put(BidByHash {
        hash,
        auction,
        bidder,
        price,
    })
}

/// The finalizer of SplitMix64: no two positions have one hash.
fn mix(position: u64) -> u64 {
    let mut mixed = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

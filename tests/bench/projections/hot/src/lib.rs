//! Per auction: count of bids, highest price, last bidder. Many events change few rows.

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
pub struct AuctionBids {
    #[key]
    pub auction: i64,
    pub bids: i64,
    pub highest: i64,
    pub last_bidder: i64,
}

#[projection(name = "bench_hot", version = "1.0.0", tables(AuctionBids), keys(auction = AuctionBids))]
fn project(event: Market, _meta: &Meta, db: &mut Db) -> Result<()> {
    let Market::Bid {
        auction,
        bidder,
        price,
    } = event;
    db.update_or_insert::<AuctionBids>(
        auction,
        || AuctionBids {
            auction,
            bids: 0,
            highest: 0,
            last_bidder: 0,
        },
        |row| {
            row.bids += 1;
            row.highest = row.highest.max(price);
            row.last_bidder = bidder;
        },
    )
}

//! The latest bid of every auction and bidder, with an index by bidder.

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::Ends;

pub(crate) const TABLES: &str = r#"CREATE TABLE "latest_bid" ("auction" INTEGER NOT NULL, "bidder" INTEGER NOT NULL, "price" INTEGER NOT NULL, "date_time" INTEGER NOT NULL, PRIMARY KEY ("auction", "bidder")) STRICT, WITHOUT ROWID"#;
pub(crate) const INDEXES: &str = r#"CREATE INDEX "latest_bid.bidder" ON "latest_bid" ("bidder")"#;

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    date_time: i64,
}

pub(crate) fn best(ends: &Ends) -> anyhow::Result<()> {
    let mut rows: FxHashMap<(i64, i64), (i64, i64)> = FxHashMap::default();
    ends.each("Bid", |payload| {
        let bid: Bid = serde_json::from_slice(payload)?;
        rows.insert((bid.auction, bid.bidder), (bid.price, bid.date_time));
        Ok(())
    })?;
    let mut rows: Vec<((i64, i64), (i64, i64))> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    ends.at_once(|| {
        let mut insert = ends
            .model
            .prepare("INSERT INTO latest_bid VALUES (?1, ?2, ?3, ?4)")?;
        for ((auction, bidder), (price, date_time)) in &rows {
            insert.execute((auction, bidder, price, date_time))?;
        }
        Ok(())
    })
}

pub(crate) fn naive(ends: &Ends) -> anyhow::Result<()> {
    let mut upsert = ends.model.prepare(
        "INSERT INTO latest_bid VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (auction, bidder) DO UPDATE SET price = excluded.price,
             date_time = excluded.date_time",
    )?;
    ends.in_steps(|step| {
        ends.each("Bid", |payload| {
            let bid: Bid = serde_json::from_slice(payload)?;
            upsert.execute((bid.auction, bid.bidder, bid.price, bid.date_time))?;
            Ok(step()?)
        })
    })
}

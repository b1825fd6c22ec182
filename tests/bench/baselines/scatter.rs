//! One row for each bid, under a key that is a hash of its position.

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::Ends;
use crate::events::mix;

pub(crate) const TABLES: &str = r#"CREATE TABLE "bid_by_hash" ("hash" TEXT NOT NULL, "auction" INTEGER NOT NULL, "bidder" INTEGER NOT NULL, "price" INTEGER NOT NULL, PRIMARY KEY ("hash")) STRICT, WITHOUT ROWID"#;

const BIDS: &str =
    "SELECT position, payload FROM events NOT INDEXED WHERE type = 'Bid' ORDER BY position";

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
}

/// Keeps the hashes as numbers, which are smaller than their texts and sort the same.
pub(crate) fn best(ends: &Ends) -> anyhow::Result<()> {
    let mut rows: FxHashMap<u64, Bid> = FxHashMap::default();
    ends.step(BIDS, &[], |row| {
        let bid = serde_json::from_slice(row.get_ref(1)?.as_bytes()?)?;
        rows.insert(mix(row.get(0)?), bid);
        Ok(())
    })?;
    let mut rows: Vec<(u64, Bid)> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(hash, _)| *hash);
    ends.at_once(|| {
        let mut insert = ends
            .model
            .prepare("INSERT INTO bid_by_hash VALUES (?1, ?2, ?3, ?4)")?;
        let mut text = String::new();
        for (hash, bid) in &rows {
            write_hash(*hash, &mut text);
            insert.execute((&text, bid.auction, bid.bidder, bid.price))?;
        }
        Ok(())
    })
}

pub(crate) fn naive(ends: &Ends) -> anyhow::Result<()> {
    let mut upsert = ends.model.prepare(
        "INSERT INTO bid_by_hash VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (hash) DO UPDATE SET auction = excluded.auction, bidder = excluded.bidder,
             price = excluded.price",
    )?;
    let mut text = String::new();
    ends.in_steps(|step| {
        ends.step(BIDS, &[], |row| {
            let bid: Bid = serde_json::from_slice(row.get_ref(1)?.as_bytes()?)?;
            write_hash(mix(row.get(0)?), &mut text);
            upsert.execute((&text, bid.auction, bid.bidder, bid.price))?;
            Ok(step()?)
        })
    })
}

fn write_hash(hash: u64, text: &mut String) {
    use std::fmt::Write as _;
    text.clear();
    write!(text, "{hash:016x}").expect("a string takes every text");
}

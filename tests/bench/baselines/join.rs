//! Auctions with the name of their seller and their highest bid, without and with renames.

use std::borrow::Cow;

use rusqlite::{OptionalExtension, Statement};
use serde::Deserialize;

use super::Ends;

pub(crate) const TABLES: &str = r#"
CREATE TABLE "person" ("id" INTEGER PRIMARY KEY, "name" TEXT NOT NULL) STRICT;
CREATE TABLE "auction" ("id" INTEGER PRIMARY KEY, "item_name" TEXT NOT NULL, "seller" INTEGER NOT NULL, "seller_name" TEXT, "highest" INTEGER NOT NULL, "highest_bidder" INTEGER) STRICT;
"#;
/// Needed from the first rename on.
pub(crate) const FAN_OUT_TABLES: &str = r#"
CREATE TABLE "person" ("id" INTEGER PRIMARY KEY, "name" TEXT NOT NULL) STRICT;
CREATE TABLE "auction" ("id" INTEGER PRIMARY KEY, "item_name" TEXT NOT NULL, "seller" INTEGER NOT NULL, "seller_name" TEXT, "highest" INTEGER NOT NULL, "highest_bidder" INTEGER) STRICT;
CREATE INDEX "auction.seller" ON "auction" ("seller");
"#;

const ALL: &str = "SELECT type, payload FROM events ORDER BY position";

#[derive(Deserialize)]
struct Person<'a> {
    id: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Auction<'a> {
    id: i64,
    #[serde(borrow)]
    item_name: Cow<'a, str>,
    seller: i64,
}

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
}

/// The statements of both folds.
struct Statements<'c> {
    person: Statement<'c>,
    name: Statement<'c>,
    auction: Statement<'c>,
    bid: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(ends: &'c Ends) -> rusqlite::Result<Self> {
        let prepare = |sql| ends.model.prepare(sql);
        Ok(Self {
            person: prepare(
                "INSERT INTO person VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            )?,
            name: prepare("SELECT name FROM person WHERE id = ?1")?,
            auction: prepare(
                "INSERT INTO auction VALUES (?1, ?2, ?3, ?4, 0, NULL)
                 ON CONFLICT (id) DO UPDATE SET item_name = excluded.item_name,
                     seller = excluded.seller, seller_name = excluded.seller_name,
                     highest = 0, highest_bidder = NULL",
            )?,
            bid: prepare(
                "UPDATE auction SET highest = ?2, highest_bidder = ?3
                 WHERE id = ?1 AND highest < ?2",
            )?,
        })
    }

    fn apply(&mut self, event_type: &[u8], payload: &[u8]) -> anyhow::Result<bool> {
        match event_type {
            b"Person" => {
                let person: Person<'_> = serde_json::from_slice(payload)?;
                self.person.execute((person.id, &*person.name))?;
            }
            b"Auction" => {
                let auction: Auction<'_> = serde_json::from_slice(payload)?;
                let seller_name: Option<String> = self
                    .name
                    .query_row([auction.seller], |row| row.get(0))
                    .optional()?;
                self.auction.execute((
                    auction.id,
                    &*auction.item_name,
                    auction.seller,
                    seller_name,
                ))?;
            }
            b"Bid" => {
                let bid: Bid = serde_json::from_slice(payload)?;
                self.bid.execute((bid.auction, bid.price, bid.bidder))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(crate) fn naive(ends: &Ends) -> anyhow::Result<()> {
    let mut statements = Statements::prepare(ends)?;
    ends.in_steps(|step| {
        ends.step(ALL, &[], |row| {
            let (event_type, payload) = (row.get_ref(0)?.as_bytes()?, row.get_ref(1)?.as_bytes()?);
            if statements.apply(event_type, payload)? {
                step()?;
            }
            Ok(())
        })
    })
}

pub(crate) fn naive_fan_out(ends: &Ends) -> anyhow::Result<()> {
    let mut statements = Statements::prepare(ends)?;
    let mut rename = ends
        .model
        .prepare("UPDATE person SET name = ?2 WHERE id = ?1")?;
    let mut rename_auctions = ends
        .model
        .prepare("UPDATE auction SET seller_name = ?2 WHERE seller = ?1")?;
    ends.in_steps(|step| {
        ends.step(ALL, &[], |row| {
            let (event_type, payload) = (row.get_ref(0)?.as_bytes()?, row.get_ref(1)?.as_bytes()?);
            if event_type == b"PersonRenamed" {
                let person: Person<'_> = serde_json::from_slice(payload)?;
                rename.execute((person.id, &*person.name))?;
                rename_auctions.execute((person.id, &*person.name))?;
                step()?;
            } else if statements.apply(event_type, payload)? {
                step()?;
            }
            Ok(())
        })
    })
}

//! The folds as most people write them with sqlx, and as the server does them by itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use futures_util::TryStreamExt as _;
use serde::Deserialize;
use sqlx::{PgConnection, Row as _};

use super::execute;

/// Events read, and rows written, at a time.
const BATCH: i64 = 1_000;

pub(super) type Folding<'c> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'c>>;

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    date_time: i64,
}

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

/// The next events after a position: position, type and payload.
async fn page(
    connection: &mut PgConnection,
    after: i64,
    only_bids: bool,
) -> anyhow::Result<Vec<(i64, String, String)>> {
    let sql = if only_bids {
        "SELECT position, type, payload::text FROM retell.events
         WHERE position > $1 AND type = 'Bid' ORDER BY position LIMIT $2"
    } else {
        "SELECT position, type, payload::text FROM retell.events
         WHERE position > $1 ORDER BY position LIMIT $2"
    };
    let query = sqlx::query_as(sql).bind(after).bind(BATCH);
    Ok(query.fetch_all(connection).await?)
}

/// One statement for each thousand events.
pub(super) fn hot_naive(connection: &mut PgConnection) -> Folding<'_> {
    Box::pin(async {
        execute(
            connection,
            "CREATE TABLE theirs.auction_bids (auction bigint PRIMARY KEY, bids bigint NOT NULL,
                 highest bigint NOT NULL, last_bidder bigint NOT NULL)",
        )
        .await?;
        let mut after = 0;
        loop {
            let events = page(connection, after, true).await?;
            let Some(last) = events.last() else {
                return Ok(());
            };
            after = last.0;
            // One statement may not touch a row twice.
            let mut rows: HashMap<i64, [i64; 3]> = HashMap::new();
            for (_, _, payload) in &events {
                let bid: Bid = serde_json::from_str(payload)?;
                let row = rows.entry(bid.auction).or_default();
                *row = [row[0] + 1, row[1].max(bid.price), bid.bidder];
            }
            let column = |n: usize| -> Vec<i64> { rows.values().map(|row| row[n]).collect() };
            sqlx::query(
                "INSERT INTO theirs.auction_bids AS t
                 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                 ON CONFLICT (auction) DO UPDATE
                 SET bids = t.bids + excluded.bids, highest = greatest(t.highest, excluded.highest),
                     last_bidder = excluded.last_bidder",
            )
            .bind(rows.keys().copied().collect::<Vec<i64>>())
            .bind(column(0))
            .bind(column(1))
            .bind(column(2))
            .execute(&mut *connection)
            .await?;
        }
    })
}

pub(super) fn hot_sql(connection: &mut PgConnection) -> Folding<'_> {
    Box::pin(async {
        execute(
            connection,
            "CREATE TABLE theirs.auction_bids AS
             SELECT (payload->>'auction')::bigint AS auction, count(*) AS bids,
                    max((payload->>'price')::bigint) AS highest,
                    (max(ARRAY[position, (payload->>'bidder')::bigint]))[2] AS last_bidder
             FROM retell.events WHERE type = 'Bid' GROUP BY 1",
        )
        .await
    })
}

const LATEST_BID: &str = "CREATE TABLE theirs.latest_bid (auction bigint, bidder bigint,
    price bigint NOT NULL, date_time bigint NOT NULL, PRIMARY KEY (auction, bidder))";
const LATEST_BID_INDEX: &str =
    "CREATE INDEX ON theirs.latest_bid (bidder NULLS FIRST, auction NULLS FIRST)";

/// One statement for each event, a thousand in a transaction, and the index at the end.
pub(super) fn wide_naive(connection: &mut PgConnection) -> Folding<'_> {
    Box::pin(async {
        execute(connection, LATEST_BID).await?;
        let mut after = 0;
        loop {
            let events = page(connection, after, true).await?;
            let Some(last) = events.last() else {
                return execute(connection, LATEST_BID_INDEX).await;
            };
            after = last.0;
            execute(connection, "BEGIN").await?;
            for (_, _, payload) in &events {
                let bid: Bid = serde_json::from_str(payload)?;
                sqlx::query(
                    "INSERT INTO theirs.latest_bid VALUES ($1, $2, $3, $4)
                     ON CONFLICT (auction, bidder) DO UPDATE
                     SET price = excluded.price, date_time = excluded.date_time",
                )
                .bind(bid.auction)
                .bind(bid.bidder)
                .bind(bid.price)
                .bind(bid.date_time)
                .execute(&mut *connection)
                .await?;
            }
            execute(connection, "COMMIT").await?;
        }
    })
}

/// What must be moved whatever is done with it: the events out of the log, and the rows, as the server
/// finds them beforehand, into a table with its index.
pub(super) fn wide_copy(connection: &mut PgConnection) -> Folding<'_> {
    Box::pin(async {
        let mut bytes = 0;
        let mut events = connection
            .copy_out_raw(
                "COPY (SELECT position, type, payload FROM retell.events
                       WHERE type = 'Bid' ORDER BY position) TO STDOUT (FORMAT binary)",
            )
            .await?;
        while let Some(message) = events.try_next().await? {
            bytes += message.len();
        }
        anyhow::ensure!(bytes > 0, "the log is empty");
        drop(events);
        execute(connection, LATEST_BID).await?;
        let mut rows = Vec::new();
        let mut read = connection
            .copy_out_raw("COPY public.latest_bids_found TO STDOUT (FORMAT binary)")
            .await?;
        while let Some(message) = read.try_next().await? {
            rows.extend_from_slice(&message);
        }
        drop(read);
        let mut copy = connection
            .copy_in_raw("COPY theirs.latest_bid FROM STDIN (FORMAT binary)")
            .await?;
        for piece in rows.chunks(1 << 20) {
            copy.send(piece).await?;
        }
        copy.finish().await?;
        execute(connection, LATEST_BID_INDEX).await
    })
}

/// One statement or two for each event, a thousand in a transaction.
pub(super) fn join_naive(connection: &mut PgConnection) -> Folding<'_> {
    Box::pin(async {
        execute(
            connection,
            "CREATE TABLE theirs.person (id bigint PRIMARY KEY, name text COLLATE \"C\" NOT NULL);
             CREATE TABLE theirs.auction (id bigint PRIMARY KEY, item_name text COLLATE \"C\" NOT NULL,
                 seller bigint NOT NULL, seller_name text COLLATE \"C\", highest bigint NOT NULL,
                 highest_bidder bigint)",
        )
        .await?;
        let mut after = 0;
        loop {
            let events = page(connection, after, false).await?;
            let Some(last) = events.last() else {
                return Ok(());
            };
            after = last.0;
            execute(connection, "BEGIN").await?;
            for (_, event_type, payload) in &events {
                join_event(connection, event_type, payload).await?;
            }
            execute(connection, "COMMIT").await?;
        }
    })
}

async fn join_event(
    connection: &mut PgConnection,
    event_type: &str,
    payload: &str,
) -> anyhow::Result<()> {
    match event_type {
        "Person" => {
            let person: Person<'_> = serde_json::from_str(payload)?;
            sqlx::query(
                "INSERT INTO theirs.person VALUES ($1, $2)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            )
            .bind(person.id)
            .bind(person.name.as_ref())
            .execute(connection)
            .await?;
        }
        "Auction" => {
            let auction: Auction<'_> = serde_json::from_str(payload)?;
            let seller = sqlx::query("SELECT name FROM theirs.person WHERE id = $1")
                .bind(auction.seller)
                .fetch_optional(&mut *connection)
                .await?;
            sqlx::query(
                "INSERT INTO theirs.auction VALUES ($1, $2, $3, $4, 0, NULL)
                 ON CONFLICT (id) DO UPDATE
                 SET item_name = excluded.item_name, seller = excluded.seller,
                     seller_name = excluded.seller_name, highest = 0, highest_bidder = NULL",
            )
            .bind(auction.id)
            .bind(auction.item_name.as_ref())
            .bind(auction.seller)
            .bind(seller.map(|row| row.get::<String, _>(0)))
            .execute(connection)
            .await?;
        }
        "Bid" => {
            let bid: Bid = serde_json::from_str(payload)?;
            sqlx::query(
                "UPDATE theirs.auction SET highest = $2, highest_bidder = $3
                 WHERE id = $1 AND highest < $2",
            )
            .bind(bid.auction)
            .bind(bid.price)
            .bind(bid.bidder)
            .execute(connection)
            .await?;
        }
        _ => {}
    }
    Ok(())
}

//! Recomputing the hash chain, and looking for what keeps the log as it is.

use std::convert::identity;

use futures_util::TryStreamExt as _;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Shared;
use crate::event::{Hash, Position};
use crate::limits::{POSTGRES_ANSWER_TIMEOUT, POSTGRES_WORK_TIMEOUT};
use crate::log::check_chain::{EVENTS_AT_ONCE, Walk};
use crate::log::{ChainCheck, ChainFault, ChainProgress, Head, chain};
use crate::postgres::{Timestamp, answered_within};

/// Walks the whole log; one that is whole as a chain is then looked through for what keeps it append-only,
/// and finds events in it.
pub(super) async fn check_chain(
    shared: &Shared,
    progress: ChainProgress,
) -> Result<ChainCheck, sqlx::Error> {
    let (position, hash): (i64, Hash) =
        sqlx::query_as("SELECT position, hash FROM retell.log_head")
            .fetch_one(&shared.pool)
            .await?;
    let noted = Head {
        position: position.cast_unsigned(),
        hash,
    };
    let mut walk = Walk::new(shared.first_previous, noted, progress);
    while take_next(shared, &mut walk).await? {}
    let mut check = walk.end();
    if check.fault.is_none() {
        check.fault = match missing_guard(shared).await? {
            None => broken_index(shared).await?,
            fault => fault,
        };
    }
    Ok(check)
}

/// Walks on over the next events. False if the walk is over.
async fn take_next(shared: &Shared, walk: &mut Walk) -> Result<bool, sqlx::Error> {
    let mut rows = sqlx::query(
        "SELECT position, stream, revision, id, type, occurred_at, recorded_at, subject, key_id,
                salt, metadata::text, payload::text, hash
         FROM retell.events WHERE position >= $1 ORDER BY position LIMIT $2",
    )
    .bind(walk.from())
    .bind(EVENTS_AT_ONCE)
    .fetch(&shared.pool);
    let mut buffer = Vec::new();
    let mut read_any = false;
    let mut patience = POSTGRES_WORK_TIMEOUT;
    loop {
        // Each by itself; before the first, the server may have to sort.
        let read = match answered_within(patience, rows.try_next(), identity).await {
            Ok(None) => return Ok(read_any),
            Ok(Some(row)) => link(&row, walk.hash(), &mut buffer),
            Err(error) => Err(error),
        };
        patience = POSTGRES_ANSWER_TIMEOUT;
        read_any = true;
        if !walk.take(read, is_damage)? {
            return Ok(false);
        }
    }
}

/// An event's position, the hash that follows for it, and the one it has.
fn link(
    row: &PgRow,
    previous: &Hash,
    buffer: &mut Vec<u8>,
) -> Result<(Position, Hash, Hash), sqlx::Error> {
    let salt: [u8; chain::SALT_BYTES] = row.try_get(9)?;
    let link = chain::Link {
        position: row.try_get::<i64, _>(0)?.cast_unsigned(),
        stream: row.try_get(1)?,
        revision: row.try_get::<i64, _>(2)?.cast_unsigned(),
        id: row.try_get(3)?,
        event_type: row.try_get(4)?,
        occurred_at: row.try_get::<Option<Timestamp>, _>(5)?.map(|time| time.0),
        recorded_at: row.try_get::<Timestamp, _>(6)?.0,
        subject: row.try_get(7)?,
        key_id: row.try_get(8)?,
        metadata_digest: &chain::content_digest(&salt, row.try_get(10)?),
        payload_digest: &chain::content_digest(&salt, row.try_get(11)?),
    };
    let hash = chain::link(previous, &link, buffer);
    Ok((link.position, hash, row.try_get(12)?))
}

/// Whether the tables hold something that no log does. `XX001` and `XX002`: the server itself found
/// its files damaged.
fn is_damage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        sqlx::Error::Database(database) => {
            matches!(database.code().as_deref(), Some("XX001" | "XX002"))
        }
        _ => false,
    }
}

/// A trigger that keeps the log append-only, as the migrations made it.
struct Guard {
    table: &'static str,
    name: &'static str,
    function: &'static str,
    /// Also for who replays another server's changes.
    always: bool,
}

const fn guard(
    table: &'static str,
    name: &'static str,
    function: &'static str,
    always: bool,
) -> Guard {
    Guard {
        table,
        name,
        function,
        always,
    }
}

const GUARDS: [Guard; 7] = [
    guard("events", "events_added", "events_added", false),
    guard("events", "events_update", "refuse", true),
    guard("events", "events_delete", "refuse", true),
    guard("events", "events_truncate", "refuse", true),
    guard("log_head", "log_head_update", "log_head_moved", false),
    guard("log_head", "log_head_delete", "refuse", true),
    guard("log_head", "log_head_truncate", "refuse", true),
];

/// Tables and their indexes, by which events are found and are there once.
const INDEXES: [(&str, &str); 5] = [
    ("events", "events_pkey"),
    ("events", "events_id"),
    ("events", "events_stream"),
    ("events", "events_type"),
    ("log_head", "log_head_pkey"),
];

/// The first trigger that somebody dropped, replaced or disabled.
async fn missing_guard(shared: &Shared) -> Result<Option<ChainFault>, sqlx::Error> {
    let asking = sqlx::query_as(
        "SELECT c.relname::text, t.tgname::text, p.proname::text, t.tgenabled::text
         FROM pg_trigger t
         JOIN pg_class c ON c.oid = t.tgrelid
         JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = c.relnamespace
         WHERE c.relnamespace = 'retell'::regnamespace",
    )
    .fetch_all(&shared.pool);
    let found: Vec<(String, String, String, String)> =
        answered_within(POSTGRES_ANSWER_TIMEOUT, asking, identity).await?;
    let fault = |guard: &Guard| {
        let there = found.iter().find(|(table, name, function, _)| {
            (table.as_str(), name.as_str(), function.as_str())
                == (guard.table, guard.name, guard.function)
        });
        let (name, table) = (guard.name, guard.table);
        match there.map(|it| it.3.as_str()) {
            None => Some(ChainFault::Unguarded { name }),
            Some("A") => None,
            Some("O") if !guard.always => None,
            Some(_) => {
                let always = if guard.always { "ALWAYS " } else { "" };
                Some(ChainFault::Storage {
                    message: format!(
                        "the trigger `{name}`, by which they stay so, does not fire as it should; \
                         `ALTER TABLE retell.{table} ENABLE {always}TRIGGER {name}` mends that"
                    ),
                })
            }
        }
    };
    Ok(GUARDS.iter().find_map(fault))
}

/// The first index that somebody dropped, or that the server does not use.
async fn broken_index(shared: &Shared) -> Result<Option<ChainFault>, sqlx::Error> {
    let asking = sqlx::query_as(
        "SELECT c.relname::text, i.relname::text, x.indisvalid AND x.indisready
         FROM pg_index x
         JOIN pg_class i ON i.oid = x.indexrelid
         JOIN pg_class c ON c.oid = x.indrelid
         WHERE c.relnamespace = 'retell'::regnamespace",
    )
    .fetch_all(&shared.pool);
    let found: Vec<(String, String, bool)> =
        answered_within(POSTGRES_ANSWER_TIMEOUT, asking, identity).await?;
    let fault = |&(table, name): &(&'static str, &'static str)| {
        let there = found
            .iter()
            .find(|it| (it.0.as_str(), it.1.as_str()) == (table, name));
        match there.map(|it| it.2) {
            None => Some(ChainFault::Unguarded { name }),
            Some(true) => None,
            Some(false) => Some(ChainFault::Storage {
                message: format!(
                    "the index `{name}` is not valid; `REINDEX INDEX retell.{name}` makes it anew"
                ),
            }),
        }
    };
    Ok(INDEXES.iter().find_map(fault))
}

//! Recomputing the hash chain.

use std::convert::identity;

use futures_util::TryStreamExt as _;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Shared;
use crate::event::{Hash, Position};
use crate::limits::{POSTGRES_ANSWER_TIMEOUT, POSTGRES_WORK_TIMEOUT};
use crate::log::check_chain::Walk;
use crate::log::{ChainCheck, ChainProgress, Head, chain};
use crate::postgres::{Timestamp, answered_within};

/// Walks the whole log.
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
    let mut rows = sqlx::query(
        "SELECT position, stream, revision, id, type, occurred_at, recorded_at, subject, key_id,
                salt, metadata::text, payload::text, hash
         FROM retell.events ORDER BY position",
    )
    .fetch(&shared.pool);
    let mut buffer = Vec::new();
    let mut patience = POSTGRES_WORK_TIMEOUT;
    loop {
        // Each by itself, as all of them may take hours; before the first, the server may have to sort.
        let read = match answered_within(patience, rows.try_next(), identity).await {
            Ok(None) => break,
            Ok(Some(row)) => link(&row, walk.hash(), &mut buffer),
            Err(error) => Err(error),
        };
        patience = POSTGRES_ANSWER_TIMEOUT;
        if !walk.take(read, is_damage)? {
            break;
        }
    }
    Ok(walk.end())
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

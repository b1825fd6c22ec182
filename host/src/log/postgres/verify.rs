//! Recomputing the hash chain.

use futures_util::TryStreamExt as _;
use sqlx::Row;

use super::Shared;
use crate::event::Position;
use crate::log::{Head, LogError, chain};
use crate::postgres::Timestamp;

/// Walks the whole log. `Err(position)` is the first event whose position, revision order or hash
/// does not follow from what came before.
pub(super) async fn verify_chain(shared: &Shared) -> Result<Result<Head, Position>, LogError> {
    walk(shared)
        .await
        .map_err(|error| shared.place.explain("verifying the hash chain", error))
}

async fn walk(shared: &Shared) -> Result<Result<Head, Position>, sqlx::Error> {
    let mut rows = sqlx::query(
        "SELECT position, stream, revision, id, type, occurred_at, recorded_at, subject, key_id,
                salt, metadata::text, payload::text, hash
         FROM retell.events ORDER BY position",
    )
    .fetch(&shared.pool);
    let mut buffer = Vec::new();
    let mut head = Head {
        position: 0,
        hash: shared.first_previous,
    };
    while let Some(row) = rows.try_next().await? {
        let salt: [u8; chain::SALT_BYTES] = row.try_get(9)?;
        let expected = head.position + 1;
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
        let hash = chain::link(&head.hash, &link, &mut buffer);
        if link.position != expected || hash != row.try_get::<[u8; 32], _>(12)? {
            return Ok(Err(expected));
        }
        head = Head {
            position: expected,
            hash,
        };
    }
    Ok(Ok(head))
}

//! Single answers from the log: its head, a hash, a page of events for people.

use std::convert::identity;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};

use super::Shared;
use crate::event::{Hash, Position, StoredEvent};
use crate::log::{EventFilter, Head, LogError};
use crate::postgres::{Timestamp, answered};

/// A page ends early once its events take so many bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;

pub(super) async fn head(shared: &Shared) -> Result<Head, LogError> {
    let asking = sqlx::query_as("SELECT position, hash FROM retell.log_head");
    let (position, hash): (i64, Hash) = answered(asking.fetch_one(&shared.pool), identity)
        .await
        .map_err(|error| shared.place.explain("reading the head", error))?;
    Ok(Head {
        position: position.cast_unsigned(),
        hash,
    })
}

pub(super) async fn hash_at(shared: &Shared, position: Position) -> Result<Option<Hash>, LogError> {
    if position == 0 {
        return Ok(Some(shared.first_previous));
    }
    let asking = sqlx::query_scalar("SELECT hash FROM retell.events WHERE position = $1")
        .bind(position.cast_signed());
    answered(asking.fetch_optional(&shared.pool), identity)
        .await
        .map_err(|error| shared.place.explain("reading a hash", error))
}

/// Whether anything waits in the inbox.
pub(super) async fn has_inbox(shared: &Shared) -> Result<bool, LogError> {
    let asking = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM retell.inbox)");
    answered(asking.fetch_one(&shared.pool), identity)
        .await
        .map_err(|error| shared.place.explain("looking into the inbox", error))
}

pub(super) async fn events(
    shared: &Shared,
    filter: &EventFilter,
    after: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, LogError> {
    answered(page(&shared.pool, filter, after, limit), identity)
        .await
        .map_err(|error| shared.place.explain("reading events", error))
}

const COLUMNS: &str = "SELECT position, stream, revision, id, type, payload::text AS payload, \
                       metadata::text AS metadata, occurred_at, recorded_at, hash \
                       FROM retell.events";

async fn page(
    pool: &PgPool,
    filter: &EventFilter,
    after: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let mut after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = match (&filter.stream, &filter.event_type) {
        (Some(stream), _) => {
            // Inside a stream, positions grow with revisions, and the index is on revisions.
            after = revision_at(pool, stream, after).await?;
            format!(
                "{COLUMNS} WHERE stream = $3 AND revision > $1 AND ($4::text IS NULL OR type = $4)
                 ORDER BY revision LIMIT $2"
            )
        }
        (None, Some(_)) => {
            format!("{COLUMNS} WHERE type = $4 AND position > $1 ORDER BY position LIMIT $2")
        }
        (None, None) => format!("{COLUMNS} WHERE position > $1 ORDER BY position LIMIT $2"),
    };
    let mut query: Query<'_, Postgres, PgArguments> = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(after)
        .bind(limit);
    if filter.stream.is_some() || filter.event_type.is_some() {
        query = query.bind(&filter.stream).bind(&filter.event_type);
    }
    let mut rows = query.fetch(pool);
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < PAGE_BYTES_MAX
        && let Some(row) = rows.try_next().await?
    {
        let event = stored(&row)?;
        bytes += event.data.len() + event.metadata.as_ref().map_or(0, String::len);
        events.push(event);
    }
    Ok(events)
}

/// The last revision of a stream at or before a position, found by halving: a stream may be long.
async fn revision_at(pool: &PgPool, stream: &str, position: i64) -> Result<i64, sqlx::Error> {
    if position == 0 {
        return Ok(0);
    }
    sqlx::query_scalar(
        "WITH RECURSIVE halves (low, high) AS (
             SELECT 0::bigint, coalesce(
                 (SELECT max(revision) FROM retell.events WHERE stream = $1), 0)
             UNION ALL
             SELECT CASE WHEN before THEN middle ELSE low END,
                    CASE WHEN before THEN high ELSE middle - 1 END
             FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM halves) h,
                  LATERAL (SELECT e.position <= $2 AS before FROM retell.events e
                           WHERE e.stream = $1 AND e.revision = h.middle) at
             WHERE low < high
         )
         SELECT low FROM halves WHERE low = high",
    )
    .bind(stream)
    .bind(position)
    .fetch_one(pool)
    .await
}

fn stored(row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
    let micros = |time: Timestamp| time.0;
    Ok(StoredEvent {
        position: row.try_get::<i64, _>("position")?.cast_unsigned(),
        stream: row.try_get("stream")?,
        revision: row.try_get::<i64, _>("revision")?.cast_unsigned(),
        id: row.try_get("id")?,
        event_type: row.try_get("type")?,
        // An erased payload is gone for good.
        data: row
            .try_get::<Option<String>, _>("payload")?
            .unwrap_or_else(|| "null".to_owned()),
        metadata: row.try_get("metadata")?,
        occurred_at: row
            .try_get::<Option<Timestamp>, _>("occurred_at")?
            .map(micros),
        recorded_at: row.try_get("recorded_at").map(micros)?,
        hash: row.try_get("hash")?,
    })
}

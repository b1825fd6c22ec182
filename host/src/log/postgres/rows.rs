//! What adding asks of the tables and puts into them: one statement for all events of a group.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};

use super::adding::{Known, KnownEvent, NewRow, Request, Revisions};
use crate::event::NewEvent;
use crate::log::Head;
use crate::postgres::{Session, Timestamp};

/// Which of the requests' ids are in the log already.
pub(super) fn find_known<'r>(
    session: &mut Session,
    requests: &[Request<'r>],
) -> Result<HashMap<String, Known<'r>>, sqlx::Error> {
    let events = requests.iter().flat_map(|it| it.events);
    let ids: Vec<&str> = events.filter_map(|it| it.event.id.as_deref()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.run(async |connection| {
        sqlx::query(
            "SELECT id, position, stream, type, payload::text, metadata::text, occurred_at
             FROM retell.events WHERE id = ANY ($1)",
        )
        .bind(&ids)
        .fetch_all(connection)
        .await
    })?;
    let mut known = HashMap::with_capacity(ids.len());
    for row in rows {
        let event = KnownEvent::Stored {
            stream: row.try_get(2)?,
            event_type: row.try_get(3)?,
            data: row.try_get(4)?,
            metadata: row.try_get(5)?,
            occurred_at: row.try_get::<Option<Timestamp>, _>(6)?.map(|time| time.0),
        };
        let position = row.try_get::<i64, _>(1)?.cast_unsigned();
        known.insert(row.try_get(0)?, Known { position, event });
    }
    Ok(known)
}

/// Asks for the last revisions of the requests' streams that are not known.
pub(super) fn learn_revisions(
    session: &mut Session,
    revisions: &mut Revisions,
    requests: &[Request<'_>],
) -> Result<(), sqlx::Error> {
    let mut streams: Vec<&str> = Vec::new();
    for request in requests {
        streams.extend(request.events.iter().map(|it| it.event.stream.as_str()));
        streams.extend(request.expected.iter().map(|(stream, _)| stream.as_str()));
    }
    streams.retain(|stream| !revisions.knows(stream));
    if streams.is_empty() {
        return Ok(());
    }
    streams.sort_unstable();
    streams.dedup();
    let found: Vec<i64> = session.run(async |connection| {
        sqlx::query_scalar(
            "SELECT coalesce((SELECT max(e.revision) FROM retell.events e
                              WHERE e.stream = asked.stream), 0)
             FROM unnest($1::text[]) WITH ORDINALITY AS asked (stream, number) ORDER BY number",
        )
        .bind(&streams)
        .fetch_all(connection)
        .await
    })?;
    for (stream, revision) in streams.into_iter().zip(found) {
        revisions.set(stream, revision.cast_unsigned());
    }
    Ok(())
}

/// Inserts the rows; if a head is given, only where that is the log's when nobody else can append.
/// Says how many were inserted.
pub(super) async fn insert(
    connection: &mut PgConnection,
    rows: &[NewRow<'_>],
    recorded_at: i64,
    only_at: Option<Head>,
) -> Result<u64, sqlx::Error> {
    let events = || rows.iter().map(|row| &row.sealed.event);
    let column = |value: fn(&NewRow<'_>) -> u64| -> Vec<i64> {
        rows.iter().map(|row| value(row).cast_signed()).collect()
    };
    let texts = |value: fn(&NewEvent) -> &str| -> Vec<&str> { events().map(value).collect() };
    let metadata: Vec<Option<&str>> = events().map(|it| it.metadata.as_deref()).collect();
    let times: Vec<Option<Timestamp>> = events().map(|it| it.occurred_at.map(Timestamp)).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let salts: Vec<&[u8]> = rows.iter().map(|row| row.sealed.salt.as_slice()).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.hash.as_slice()).collect();
    let inserted = sqlx::query(
        "INSERT INTO retell.events (position, stream, revision, id, type, occurred_at, recorded_at,
                                    salt, hash, metadata, payload)
         SELECT position, stream, revision, id, type, occurred_at, $11, salt, hash,
                metadata::json, payload::json
         FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                     $6::timestamptz[], $7::bytea[], $8::bytea[], $9::text[], $10::text[])
              AS new (position, stream, revision, id, type, occurred_at, salt, hash, metadata,
                      payload)
         WHERE $12::bigint IS NULL OR (SELECT h.position = $12 AND h.hash = $13
                                       FROM retell.lock_head() h)",
    )
    .bind(column(|row| row.position))
    .bind(texts(|event| &event.stream))
    .bind(column(|row| row.revision))
    .bind(ids)
    .bind(texts(|event| &event.event_type))
    .bind(times)
    .bind(salts)
    .bind(hashes)
    .bind(metadata)
    .bind(texts(|event| &event.data))
    .bind(Timestamp(recorded_at))
    .bind(only_at.map(|head| head.position.cast_signed()))
    .bind(only_at.map(|head| head.hash))
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

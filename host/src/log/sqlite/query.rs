//! Single answers from the log: its head, a hash, a page of events for people.

use rusqlite::{Connection, OptionalExtension, Row};

use super::Shared;
use super::errors::explain;
use crate::event::{Hash, Position, StoredEvent};
use crate::log::{EventFilter, Head, LogError};

/// A page ends early once its events take so many bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;

pub(super) fn head(shared: &Shared, connection: &Connection) -> Result<Head, LogError> {
    connection
        .prepare_cached("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1")
        .and_then(|mut statement| {
            statement
                .query_row([], |row| {
                    Ok(Head {
                        position: row.get(0)?,
                        hash: row.get(1)?,
                    })
                })
                .optional()
        })
        .map(|last| {
            last.unwrap_or(Head {
                position: 0,
                hash: shared.first_previous,
            })
        })
        .map_err(|error| explain(&shared.path, "reading the head", error))
}

pub(super) fn hash_at(
    shared: &Shared,
    connection: &Connection,
    position: Position,
) -> Result<Option<Hash>, LogError> {
    hash_in(shared, connection, position)
        .map_err(|error| explain(&shared.path, "reading a hash", error))
}

pub(super) fn hash_in(
    shared: &Shared,
    connection: &Connection,
    position: Position,
) -> rusqlite::Result<Option<Hash>> {
    if position == 0 {
        return Ok(Some(shared.first_previous));
    }
    connection
        .prepare_cached("SELECT hash FROM events WHERE position = ?1")
        .and_then(|mut statement| statement.query_row([position], |row| row.get(0)).optional())
}

pub(super) fn events(
    shared: &Shared,
    connection: &Connection,
    filter: &EventFilter,
    after: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, LogError> {
    page(connection, filter, after, limit)
        .map_err(|error| explain(&shared.path, "reading events", error))
}

const COLUMNS: &str = "SELECT position, stream, revision, id, type, payload, metadata, \
                       occurred_at, recorded_at, hash FROM events";

fn page(
    connection: &Connection,
    filter: &EventFilter,
    after: Position,
    limit: usize,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = after.min(i64::MAX.cast_unsigned());
    let event_type = filter.event_type.as_deref();
    match &filter.stream {
        Some(stream) => {
            // Inside a stream, positions grow with revisions, and the index is on revisions.
            let seen = revision_at(connection, stream, after)?;
            collect(
                connection
                    .prepare_cached(&format!(
                        "{COLUMNS} INDEXED BY events_stream
                         WHERE stream = ?1 AND revision > ?2 AND (?3 IS NULL OR type = ?3)
                         ORDER BY revision LIMIT ?4"
                    ))?
                    .query((stream, seen, event_type, limit))?,
            )
        }
        None => match event_type {
            Some(event_type) => collect(
                connection
                    .prepare_cached(&format!(
                        "{COLUMNS} INDEXED BY events_type
                         WHERE type = ?1 AND position > ?2 ORDER BY position LIMIT ?3"
                    ))?
                    .query((event_type, after, limit))?,
            ),
            None => collect(
                connection
                    .prepare_cached(&format!(
                        "{COLUMNS} WHERE position > ?1 ORDER BY position LIMIT ?2"
                    ))?
                    .query((after, limit))?,
            ),
        },
    }
}

/// The last revision of a stream at or before a position, found by halving: a stream may be long.
fn revision_at(connection: &Connection, stream: &str, position: Position) -> rusqlite::Result<u64> {
    let last: Option<u64> = connection
        .prepare_cached("SELECT max(revision) FROM events WHERE stream = ?1")?
        .query_row([stream], |row| row.get(0))?;
    let mut lookup = connection
        .prepare_cached("SELECT position FROM events WHERE stream = ?1 AND revision = ?2")?;
    let (mut low, mut high) = (0, last.unwrap_or(0));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let at: Position = lookup.query_row((stream, middle), |row| row.get(0))?;
        if at <= position {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < PAGE_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let event = stored(row)?;
        bytes += event.data.len() + event.metadata.as_ref().map_or(0, String::len);
        events.push(event);
    }
    Ok(events)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: row.get(0)?,
        stream: row.get(1)?,
        revision: row.get(2)?,
        id: row.get(3)?,
        event_type: row.get(4)?,
        // An erased payload is gone for good.
        data: row
            .get::<_, Option<String>>(5)?
            .unwrap_or_else(|| "null".to_owned()),
        metadata: row.get(6)?,
        occurred_at: row.get(7)?,
        recorded_at: row.get(8)?,
        hash: row.get(9)?,
    })
}

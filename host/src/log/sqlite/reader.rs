//! Reading the log in bulk, filtered by type, at a cost that follows the events returned.
//!
//! Where most events are wanted, positions are scanned and types looked at on the way. Where few
//! are, the index on types gives the positions of one window of the log, and the events are fetched
//! one by one. Which of the two, and how wide the window, follows how densely the wanted events
//! came until now. A plain `type IN (…) ORDER BY position LIMIT n` would sort everything that is
//! left of the log for each chunk.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params_from_iter};

use super::Shared;
use super::connection::open_reader;
use super::errors::explain;
use super::query;
use super::type_names::TypeNames;
use crate::event::Position;
use crate::log::{EnvelopeParts, EventChunk, LogError, LogReader, TypeFilter};

/// With fewer wanted events than one in so many, the index is faster than the scan …
const SPARSE: u64 = 8;
/// … and with more than one in so many, the scan is faster again.
const DENSE: u64 = 4;
/// Events looked at in one read, so that a snapshot never lasts long.
pub(super) const SCANNED_MAX: u64 = 65_536;
/// More types than this are always scanned for: each costs a search in every window.
const INDEXED_TYPES_MAX: usize = 256;

pub(super) struct SqliteReader {
    pub(super) connection: Connection,
    shared: Arc<Shared>,
    pub(super) columns: Columns,
    names: TypeNames,
    wanted: Option<Vec<String>>,
    pace: Pace,
    /// Positions that the index gave, reused.
    found: Vec<Position>,
}

/// The statements, with just the columns that were asked for.
pub(super) struct Columns {
    parts: EnvelopeParts,
    pub(super) scan: String,
    pub(super) fetch: String,
    pub(super) window: String,
}

/// How dense the wanted events are, and thus how to look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Scan,
    /// Look through the index at windows of so many positions.
    Windows(u64),
}

impl SqliteReader {
    pub(super) fn open(
        shared: Arc<Shared>,
        types: TypeFilter,
        parts: EnvelopeParts,
    ) -> Result<Self, LogError> {
        let wanted = match types {
            TypeFilter::All => None,
            TypeFilter::Only(mut names) => {
                names.sort_unstable();
                names.dedup();
                Some(names)
            }
        };
        let connection = open_reader(&shared.path)
            .map_err(|error| explain(&shared.path, "opening the database", error))?;
        Ok(Self {
            connection,
            columns: Columns::new(parts, wanted.as_ref().map_or(0, Vec::len)),
            names: TypeNames::new(wanted.as_deref()),
            wanted,
            pace: Pace::Scan,
            found: Vec::new(),
            shared,
        })
    }

    fn read_chunk(
        &mut self,
        after: Position,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> Result<Option<Position>, rusqlite::Error> {
        let head: Position = self
            .connection
            .prepare_cached("SELECT coalesce(max(position), 0) FROM events")?
            .query_row([], |row| row.get(0))?;
        if head < after {
            return Ok(Some(head));
        }
        let up_to = up_to.min(head);
        chunk.reached = after;
        while chunk.reached < up_to && !is_full(chunk) {
            match self.pace {
                Pace::Scan => return self.scan(up_to, chunk),
                Pace::Windows(width) => {
                    if !self.window(width, up_to, chunk)? {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Looks at one position after the other. Positions have no gaps, so they are counted and only
    /// the last one is looked at; where it is not what was counted, that is where the log ends.
    fn scan(
        &mut self,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Option<Position>> {
        let (began, before) = (chunk.reached, chunk.len());
        let up_to = up_to.min(began.saturating_add(SCANNED_MAX));
        let mut statement = self.connection.prepare_cached(&self.columns.scan)?;
        let mut rows = statement.query([began])?;
        let mut position = began;
        loop {
            let Some(row) = rows.next()? else {
                return Ok(Some(position));
            };
            position += 1;
            let code = self.names.code(row.get_ref(1)?.as_bytes()?, chunk)?;
            let fits = match code {
                Some(code) => push(row, position, code, self.columns.parts, chunk)?,
                None => true,
            };
            if fits {
                chunk.reached = position;
            }
            if !fits || position >= up_to || is_full(chunk) {
                if row.get::<_, Position>(0)? != position {
                    return Ok(Some(began));
                }
                break;
            }
        }
        let looked_at = chunk.reached - began;
        let hits = (chunk.len() - before) as u64;
        if let Some(wanted) = &self.wanted
            && wanted.len() <= INDEXED_TYPES_MAX
            && looked_at >= 1_000
            && hits * SPARSE < looked_at
        {
            self.pace = Pace::Windows(looked_at * 2);
        }
        Ok(None)
    }

    /// Looks at the wanted types only, within the next `width` positions. `false`: the chunk is
    /// full.
    fn window(
        &mut self,
        width: u64,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<bool> {
        let began = chunk.reached;
        let end = up_to.min(began.saturating_add(width));
        self.found.clear();
        {
            let mut statement = self.connection.prepare_cached(&self.columns.window)?;
            let bounds = [&began as &dyn rusqlite::ToSql, &end];
            let types = self
                .wanted
                .iter()
                .flatten()
                .map(|name| name as &dyn rusqlite::ToSql);
            let mut rows = statement.query(params_from_iter(bounds.into_iter().chain(types)))?;
            while let Some(row) = rows.next()? {
                self.found.push(row.get(0)?);
            }
        }
        let limit = chunk.limit_events as u64;
        let hits = self.found.len() as u64;
        let mut fetch: CachedStatement<'_> = self.connection.prepare_cached(&self.columns.fetch)?;
        for position in &self.found {
            let mut rows = fetch.query([position])?;
            let Some(row) = rows.next()? else { continue };
            let code = self.names.code(row.get_ref(1)?.as_bytes()?, chunk)?;
            if let Some(code) = code
                && !push(row, *position, code, self.columns.parts, chunk)?
            {
                self.pace = next_pace(width, end - began, hits, limit);
                return Ok(false);
            }
            chunk.reached = *position;
            if is_full(chunk) && *position < end {
                self.pace = next_pace(width, end - began, hits, limit);
                return Ok(false);
            }
        }
        chunk.reached = end;
        self.pace = next_pace(width, end - began, hits, limit);
        Ok(!is_full(chunk))
    }
}

/// Aims at windows that fill half a chunk, so that little is looked up twice.
fn next_pace(width: u64, looked_at: u64, hits: u64, limit: u64) -> Pace {
    if looked_at >= 1_000 && hits * DENSE > looked_at {
        Pace::Scan
    } else if hits > limit {
        Pace::Windows((width / 2).max(1_000))
    } else if hits * 2 < limit {
        Pace::Windows(width.saturating_mul(2))
    } else {
        Pace::Windows(width)
    }
}

fn is_full(chunk: &EventChunk) -> bool {
    chunk.len() >= chunk.limit_events || chunk.payloads.bytes.len() >= chunk.limit_bytes
}

/// Copies an event into the chunk; `false` if it does not fit any more.
fn push(
    row: &Row<'_>,
    position: Position,
    code: u16,
    parts: EnvelopeParts,
    chunk: &mut EventChunk,
) -> rusqlite::Result<bool> {
    // An erased payload is gone for good.
    let payload = row.get_ref(2)?.as_bytes_or_null()?.unwrap_or(b"null");
    if !chunk.is_empty() && chunk.payloads.bytes.len() + payload.len() > chunk.limit_bytes {
        return Ok(false);
    }
    chunk.positions.push(position);
    chunk.types.push(code);
    chunk.payloads.push(payload);
    let mut column = 2;
    let mut next = || {
        column += 1;
        column
    };
    if parts.revision {
        chunk.revisions.push(row.get(next())?);
    }
    if parts.occurred_at {
        chunk.occurred_at.push(row.get(next())?);
    }
    if parts.recorded_at {
        chunk.recorded_at.push(row.get(next())?);
    }
    if parts.stream {
        chunk.streams.push(row.get_ref(next())?.as_str()?);
    }
    if parts.id {
        chunk.ids.push(row.get_ref(next())?.as_str()?);
    }
    if parts.metadata {
        let metadata = row.get_ref(next())?.as_str_or_null()?;
        chunk.metadata.push(metadata.unwrap_or_default());
    }
    Ok(true)
}

impl LogReader for SqliteReader {
    fn read(
        &mut self,
        after: Position,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> Result<(), LogError> {
        chunk.clear();
        self.names.agree_with(chunk);
        let shared = Arc::clone(&self.shared);
        let failed = |error| explain(&shared.path, "reading events", error);
        // One snapshot for the head and the events; it ends here, since an open one would stop
        // SQLite from ever shortening its journal.
        self.connection.execute_batch("BEGIN").map_err(failed)?;
        let read = self.read_chunk(after, up_to, chunk);
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        let shorter = |head| LogError::Shorter {
            path: shared.path.clone(),
            head,
            seen: after,
        };
        if let Some(head) = read.map_err(failed)? {
            return Err(shorter(head));
        }
        if self.names.overflowed() {
            return Err(LogError::TooManyTypes {
                path: shared.path.clone(),
            });
        }
        chunk.reached_hash =
            query::hash_at(&shared, &self.connection, chunk.reached)?.ok_or_else(|| shorter(0))?;
        Ok(())
    }
}

impl Columns {
    fn new(parts: EnvelopeParts, wanted: usize) -> Self {
        let mut columns = "SELECT position, type, payload".to_owned();
        for (asked, column) in [
            (parts.revision, ", revision"),
            (parts.occurred_at, ", occurred_at"),
            (parts.recorded_at, ", recorded_at"),
            (parts.stream, ", stream"),
            (parts.id, ", id"),
            (parts.metadata, ", metadata"),
        ] {
            if asked {
                columns.push_str(column);
            }
        }
        let types = vec!["?"; wanted].join(", ");
        Self {
            parts,
            scan: format!(
                "{columns} FROM events NOT INDEXED WHERE position > ?1 ORDER BY position"
            ),
            fetch: format!("{columns} FROM events WHERE position = ?1"),
            window: format!(
                "SELECT position FROM events INDEXED BY events_type
                 WHERE position > ? AND position <= ? AND type IN ({types}) ORDER BY position"
            ),
        }
    }
}

//! Reading the log in bulk, filtered by type, at a cost that follows the events returned.
//!
//! Where most events are wanted, the table's pages are read one after the other and types looked at
//! on the way (by a statement where SQLite was compiled without access to pages). Where few are, the
//! index on types gives the positions of one window of the log, and the events are fetched
//! one by one. Which of the two, and how wide the window, follows how densely the wanted events
//! came until now. A plain `type IN (…) ORDER BY position LIMIT n` would sort everything that is
//! left of the log for each chunk.

use std::sync::Arc;

use rusqlite::{Connection, params_from_iter};

use super::Shared;
use super::connection::open_reader;
use super::errors::explain;
use super::pages::{EventPages, Flow, missing};
use super::query;
use super::source::{Column, SelectedRow, Source, Wanted};
use crate::event::{Hash, Position};
use crate::log::type_names::TypeNames;
use crate::log::{EnvelopeParts, EventChunk, LogError, LogReader, TypeFilter};

/// With fewer wanted events than one in so many, the index is faster than the scan …
const SPARSE: u64 = 8;
/// … and with more than one in so many, the scan is faster again.
const DENSE: u64 = 4;
/// Positions of one window at most: those of all events in it that are wanted are collected.
const WINDOW_MAX: u64 = 1 << 22;
/// Events looked at in one read, so that a snapshot never lasts long.
pub(super) const SCANNED_MAX: u64 = 65_536;
/// More types than this are always scanned for: each costs a search in every window.
const INDEXED_TYPES_MAX: usize = 256;

pub(super) struct SqliteReader {
    pub(super) connection: Connection,
    shared: Arc<Shared>,
    pub(super) statements: Statements,
    /// None: this SQLite has no way to read pages.
    pub(super) pages: Option<EventPages>,
    names: TypeNames,
    types: Option<Vec<String>>,
    pace: Pace,
    /// Positions that the index gave, reused.
    found: Vec<Position>,
}

/// The statements, with just the columns that were asked for.
pub(super) struct Statements {
    wanted: Wanted,
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
        let types = match types {
            TypeFilter::All => None,
            TypeFilter::Only(mut names) => {
                names.sort_unstable();
                names.dedup();
                Some(names)
            }
        };
        let connection = open_reader(&shared.path)
            .map_err(|error| explain(&shared.path, "opening the database", error))?;
        let statements = Statements::new(parts, types.as_ref().map_or(0, Vec::len));
        let pages = EventPages::open(&connection, statements.wanted.is_more_than_texts())
            .map_err(|error| explain(&shared.path, "looking at the table of events", error))?;
        Ok(Self {
            connection,
            statements,
            pages,
            names: TypeNames::new(types.as_deref()),
            types,
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
    ) -> Result<Result<Hash, Short>, rusqlite::Error> {
        let head: Position = self
            .connection
            .prepare_cached("SELECT coalesce(max(position), 0) FROM events")?
            .query_row([], |row| row.get(0))?;
        if head < after {
            return Ok(Err(Short { head }));
        }
        let up_to = up_to.min(head);
        chunk.reached = after;
        let mut hash = None;
        while chunk.reached < up_to && !is_full(chunk) {
            match self.pace {
                Pace::Scan => {
                    match self.scan(up_to, chunk)? {
                        Ok(found) => hash = found,
                        Err(short) => return Ok(Err(short)),
                    }
                    break;
                }
                Pace::Windows(width) => {
                    if !self.window(width, up_to, chunk)? {
                        break;
                    }
                }
            }
        }
        if hash.is_none() {
            hash = query::hash_in(&self.shared, &self.connection, chunk.reached)?;
        }
        Ok(hash.ok_or(Short { head: 0 }))
    }

    /// Looks at one event after the other. Where it can, it also gives the hash at the last one.
    fn scan(
        &mut self,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Result<Option<Hash>, Short>> {
        let (began, before) = (chunk.reached, chunk.len());
        let up_to = up_to.min(began.saturating_add(SCANNED_MAX));
        let scanned = match self.pages.take() {
            Some(mut pages) => {
                let scanned = self.scan_pages(&mut pages, up_to, chunk);
                self.pages = Some(pages);
                scanned
            }
            None => self.scan_rows(up_to, chunk),
        };
        let looked_at = chunk.reached - began;
        let hits = (chunk.len() - before) as u64;
        if let Some(types) = &self.types
            && types.len() <= INDEXED_TYPES_MAX
            && looked_at >= 1_000
            && hits * SPARSE < looked_at
        {
            self.pace = Pace::Windows(looked_at * 2);
        }
        scanned
    }

    fn scan_pages(
        &mut self,
        pages: &mut EventPages,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Result<Option<Hash>, Short>> {
        let (names, wanted) = (&mut self.names, &self.statements.wanted);
        let began = chunk.reached;
        let mut hash = None;
        let (mut gap, mut is_full_before) = (false, false);
        pages.visit(&self.connection, began, |position, event| {
            if position != chunk.reached + 1 {
                gap = true;
                return Ok(Flow::Stop);
            }
            let name = event.bytes(Column::Type)?.unwrap_or_default();
            if let Some(code) = names.code(name, chunk)?
                && !wanted.push(event, position, code, chunk)?
            {
                is_full_before = true;
                return Ok(Flow::Stop);
            }
            chunk.reached = position;
            if position < up_to && !is_full(chunk) {
                return Ok(Flow::GoOn);
            }
            hash = Some(event.hash()?);
            Ok(Flow::Stop)
        })?;
        let is_whole = hash.is_some() || is_full_before || (!gap && chunk.reached > began);
        Ok(if is_whole {
            Ok(hash)
        } else {
            Err(Short {
                head: chunk.reached,
            })
        })
    }

    /// Positions have no gaps, so they are counted and only the last one is looked at; where it is
    /// not what was counted, that is where the log ends.
    fn scan_rows(
        &mut self,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Result<Option<Hash>, Short>> {
        let began = chunk.reached;
        let wanted = &self.statements.wanted;
        let mut statement = self.connection.prepare_cached(&self.statements.scan)?;
        let mut rows = statement.query([began])?;
        let mut position = began;
        loop {
            let Some(row) = rows.next()? else {
                return Ok(Err(Short { head: position }));
            };
            position += 1;
            let event = SelectedRow { row, wanted };
            let name = event.bytes(Column::Type)?.unwrap_or_default();
            let fits = match self.names.code(name, chunk)? {
                Some(code) => wanted.push(&event, position, code, chunk)?,
                None => true,
            };
            if fits {
                chunk.reached = position;
            }
            if !fits || position >= up_to || is_full(chunk) {
                if row.get::<_, Position>(0)? != position {
                    return Ok(Err(Short { head: began }));
                }
                return Ok(Ok(None));
            }
        }
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
        let mut found = std::mem::take(&mut self.found);
        self.find(began, end, &mut found)?;
        let fetched = match self.pages.take() {
            Some(mut pages) => {
                let fetched = self.fetch_pages(&mut pages, &found, end, chunk);
                self.pages = Some(pages);
                fetched
            }
            None => self.fetch_rows(&found, end, chunk),
        };
        let hits = found.len() as u64;
        self.found = found;
        let is_whole = fetched? == Flow::GoOn;
        if is_whole {
            chunk.reached = end;
        }
        self.pace = next_pace(width, end - began, hits, chunk.limit_events as u64);
        Ok(is_whole && !is_full(chunk))
    }

    /// The positions of wanted events behind `began`, up to `end`.
    fn find(
        &self,
        began: Position,
        end: Position,
        found: &mut Vec<Position>,
    ) -> rusqlite::Result<()> {
        found.clear();
        let mut statement = self.connection.prepare_cached(&self.statements.window)?;
        let bounds = [&began as &dyn rusqlite::ToSql, &end];
        let types = self.types.iter().flatten();
        let types = types.map(|name| name as &dyn rusqlite::ToSql);
        let mut rows = statement.query(params_from_iter(bounds.into_iter().chain(types)))?;
        while let Some(row) = rows.next()? {
            found.push(row.get(0)?);
        }
        Ok(())
    }

    fn fetch_pages(
        &mut self,
        pages: &mut EventPages,
        found: &[Position],
        end: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Flow> {
        let (names, wanted) = (&mut self.names, &self.statements.wanted);
        pages.visit_each(&self.connection, found, |position, event| {
            take_found(names, wanted, position, event, end, chunk)
        })
    }

    fn fetch_rows(
        &mut self,
        found: &[Position],
        end: Position,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<Flow> {
        let wanted = &self.statements.wanted;
        let mut fetch = self.connection.prepare_cached(&self.statements.fetch)?;
        for &position in found {
            let mut rows = fetch.query([position])?;
            let row = rows.next()?.ok_or_else(|| missing(position))?;
            let event = SelectedRow { row, wanted };
            let flow = take_found(&mut self.names, wanted, position, &event, end, chunk)?;
            if flow == Flow::Stop {
                return Ok(flow);
            }
        }
        Ok(Flow::GoOn)
    }
}

/// Takes an event that the index gave, if there is room for it. Stops before `end` when there is none
/// left.
fn take_found(
    names: &mut TypeNames,
    wanted: &Wanted,
    position: Position,
    event: &impl Source,
    end: Position,
    chunk: &mut EventChunk,
) -> rusqlite::Result<Flow> {
    let name = event.bytes(Column::Type)?.unwrap_or_default();
    if let Some(code) = names.code(name, chunk)?
        && !wanted.push(event, position, code, chunk)?
    {
        return Ok(Flow::Stop);
    }
    chunk.reached = position;
    Ok(if is_full(chunk) && position < end {
        Flow::Stop
    } else {
        Flow::GoOn
    })
}

/// Aims at windows that fill half a chunk, so that little is looked up twice.
fn next_pace(width: u64, looked_at: u64, hits: u64, limit: u64) -> Pace {
    if looked_at >= 1_000 && hits * DENSE > looked_at {
        Pace::Scan
    } else if hits > limit {
        Pace::Windows((width / 2).max(1_000))
    } else if hits * 2 < limit && looked_at == width {
        // One that ended at the end of the log says nothing of what comes then.
        Pace::Windows((width * 2).min(WINDOW_MAX))
    } else {
        Pace::Windows(width)
    }
}

fn is_full(chunk: &EventChunk) -> bool {
    chunk.len() >= chunk.limit_events || chunk.payloads.bytes.len() >= chunk.limit_bytes
}

/// The log ends before where it was read up to.
struct Short {
    head: Position,
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
        let ended = self.connection.execute_batch("COMMIT");
        // After some errors SQLite itself has ended the transaction; then the first one says why.
        let hash = read.map_err(failed)?;
        ended.map_err(failed)?;
        chunk.reached_hash = hash.map_err(|Short { head }| LogError::Shorter {
            log: shared.path.as_path().into(),
            head,
            seen: after,
        })?;
        if self.names.overflowed() {
            return Err(LogError::TooManyTypes {
                log: shared.path.as_path().into(),
            });
        }
        Ok(())
    }
}

impl Statements {
    fn new(parts: EnvelopeParts, types: usize) -> Self {
        let wanted = Wanted::new(parts);
        let select = wanted.select();
        let types = vec!["?"; types].join(", ");
        Self {
            scan: format!("{select} FROM events NOT INDEXED WHERE position > ?1 ORDER BY position"),
            fetch: format!("{select} FROM events WHERE position = ?1"),
            window: format!(
                "SELECT position FROM events INDEXED BY events_type
                 WHERE position > ? AND position <= ? AND type IN ({types}) ORDER BY position"
            ),
            wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(pace: Pace) -> u64 {
        match pace {
            Pace::Windows(width) => width,
            Pace::Scan => panic!("few events are wanted"),
        }
    }

    #[test]
    fn windows_grow_while_there_is_little_in_them() {
        let mut at = 1_000;
        for _ in 0..40 {
            at = width(next_pace(at, at, 1, 3_000));
        }
        assert_eq!(at, WINDOW_MAX);
        assert_eq!(width(next_pace(at, at, 3_001, 3_000)), WINDOW_MAX / 2);
        // What was looked at ended at the end of the log.
        assert_eq!(width(next_pace(4_000, 1, 0, 3_000)), 4_000);
    }
}

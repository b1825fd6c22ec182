//! The pages of the log's table of events, as the open transaction has them, wherever they lie.
//! Stepping a statement from row to row costs more than all that is done with an event afterwards; a
//! page has some twenty of them.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::source::{Column, Source};
use crate::event::{Hash, Position};
use crate::sqlite_format::{
    DatabasePages, PageOrder, ReadAhead, RecordLayout, TableCursor, corrupt, early_and_last_text,
};

/// Columns of the table `events`, in its order.
pub(super) const COLUMNS: [&str; 13] = [
    "position",
    "stream",
    "revision",
    "id",
    "type",
    "occurred_at",
    "recorded_at",
    "subject",
    "key_id",
    "salt",
    "hash",
    "metadata",
    "payload",
];
const TYPE: usize = 4;
const HASH: usize = 10;

/// In each transaction anew: VACUUM moves tables.
const SELECT_ROOT: &str =
    "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = 'events'";

/// Goes over the events of a log.
#[derive(Debug, Default)]
pub(super) struct EventPages {
    cursor: TableCursor,
    ahead: ReadAhead,
    layout: RecordLayout,
    wants_more: bool,
}

impl EventPages {
    /// `wants_more`: than types and payloads. None: this SQLite was compiled without a way to read
    /// pages.
    pub(super) fn open(
        connection: &Connection,
        wants_more: bool,
    ) -> rusqlite::Result<Option<Self>> {
        let readable = DatabasePages::are_readable(connection)?;
        Ok(readable.then(|| Self {
            wants_more,
            ..Self::default()
        }))
    }

    /// Visits the events behind a position, in order, until told to stop.
    pub(super) fn visit(
        &mut self,
        connection: &Connection,
        after: Position,
        mut visit: impl FnMut(Position, &Event<'_>) -> rusqlite::Result<Flow>,
    ) -> rusqlite::Result<()> {
        let root = root_of(connection)?;
        let order = PageOrder::Sequential;
        let mut pages = DatabasePages::reading_ahead(connection, &mut self.ahead, order)?;
        let after = Some(after.cast_signed());
        self.cursor.seek(&mut pages, root, after)?;
        while let Some((rowid, record)) = self.cursor.next(&mut pages)? {
            let event = Event::new(record, &mut self.layout, self.wants_more)?;
            if visit(rowid.cast_unsigned(), &event)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Visits the events at these positions, in order, until told to stop. Says whether it was.
    pub(super) fn visit_each(
        &mut self,
        connection: &Connection,
        positions: &[Position],
        mut visit: impl FnMut(Position, &Event<'_>) -> rusqlite::Result<Flow>,
    ) -> rusqlite::Result<Flow> {
        let root = root_of(connection)?;
        let order = PageOrder::Scattered;
        let mut pages = DatabasePages::reading_ahead(connection, &mut self.ahead, order)?;
        self.cursor.seek(&mut pages, root, None)?;
        for &position in positions {
            let before = position.cast_signed() - 1;
            self.cursor.seek_again(&mut pages, root, Some(before))?;
            let found = self.cursor.next(&mut pages)?;
            let (_, record) = found
                .filter(|(rowid, _)| rowid.cast_unsigned() == position)
                .ok_or_else(|| missing(position))?;
            let event = Event::new(record, &mut self.layout, self.wants_more)?;
            if visit(position, &event)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::GoOn)
    }
}

/// What an index has and the table has not: to pass over it would be to lose an event.
pub(super) fn missing(position: Position) -> rusqlite::Error {
    corrupt(format!(
        "an index names event {position}, which the table of events does not have"
    ))
}

fn root_of(connection: &Connection) -> rusqlite::Result<u32> {
    let mut root = connection.prepare_cached(SELECT_ROOT)?;
    root.query_row([], |row| row.get(0))
}

/// Whether there is more to visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Stop,
}

/// An event as its page holds it.
#[derive(Debug)]
pub(super) struct Event<'a> {
    record: &'a [u8],
    /// Type and payload, which is all that most readers want.
    texts: Option<(&'a [u8], &'a [u8])>,
    /// Where everything is, if more is wanted.
    layout: Option<&'a RecordLayout>,
}

impl<'a> Event<'a> {
    fn new(
        record: &'a [u8],
        layout: &'a mut RecordLayout,
        wants_more: bool,
    ) -> rusqlite::Result<Self> {
        let mut event = Self {
            record,
            texts: early_and_last_text(record, COLUMNS.len(), TYPE),
            layout: None,
        };
        if wants_more || event.texts.is_none() {
            let laid_out = layout.of(record, COLUMNS.len());
            laid_out.ok_or_else(|| malformed("an event is cut off"))?;
            event.layout = Some(layout);
        }
        Ok(event)
    }

    pub(super) fn hash(&self) -> rusqlite::Result<Hash> {
        match self.field(HASH)? {
            ValueRef::Blob(bytes) => bytes.try_into().ok(),
            _ => None,
        }
        .ok_or_else(|| malformed("an event has no hash"))
    }

    fn field(&self, column: usize) -> rusqlite::Result<ValueRef<'_>> {
        let field = match self.layout {
            Some(layout) => layout.field(self.record, column),
            None => {
                let mut layout = RecordLayout::default();
                let laid_out = layout.of(self.record, column + 1);
                laid_out.and_then(|()| layout.field(self.record, column))
            }
        };
        field.ok_or_else(|| malformed("an event is cut off"))
    }
}

fn place(column: Column) -> usize {
    match column {
        Column::Stream => 1,
        Column::Revision => 2,
        Column::Id => 3,
        Column::Type => TYPE,
        Column::OccurredAt => 5,
        Column::RecordedAt => 6,
        Column::Metadata => 11,
        Column::Payload => 12,
    }
}

impl Source for Event<'_> {
    fn bytes(&self, column: Column) -> rusqlite::Result<Option<&[u8]>> {
        match (column, self.texts) {
            (Column::Type, Some((text, _))) | (Column::Payload, Some((_, text))) => {
                return Ok(Some(text));
            }
            _ => {}
        }
        match self.field(place(column))? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) => Ok(Some(bytes)),
            _ => Err(malformed("an event has a number where a text belongs")),
        }
    }

    fn integer(&self, column: Column) -> rusqlite::Result<Option<i64>> {
        match self.field(place(column))? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            _ => Err(malformed("an event has a text where a number belongs")),
        }
    }
}

fn malformed(what: &str) -> rusqlite::Error {
    corrupt(what.to_owned())
}

//! One event on its way into a chunk, wherever it was found: in a row of a statement, or in a page.

use rusqlite::Row;

use crate::event::Position;
use crate::log::{EnvelopeParts, EventChunk};

/// What a chunk may hold of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Type,
    Payload,
    Revision,
    OccurredAt,
    RecordedAt,
    Stream,
    Id,
    Metadata,
}

/// An event.
pub(super) trait Source {
    /// A text, as the bytes that the database holds.
    fn bytes(&self, column: Column) -> rusqlite::Result<Option<&[u8]>>;
    fn integer(&self, column: Column) -> rusqlite::Result<Option<i64>>;
}

/// What of each event is read, by statements in this order, behind the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted(Vec<Column>);

impl Wanted {
    pub(super) fn new(parts: EnvelopeParts) -> Self {
        let mut columns = vec![Column::Type, Column::Payload];
        for (asked, column) in [
            (parts.revision, Column::Revision),
            (parts.occurred_at, Column::OccurredAt),
            (parts.recorded_at, Column::RecordedAt),
            (parts.stream, Column::Stream),
            (parts.id, Column::Id),
            (parts.metadata, Column::Metadata),
        ] {
            if asked {
                columns.push(column);
            }
        }
        Self(columns)
    }

    /// Whether anything beside type and payload is wanted.
    pub(super) fn is_more_than_texts(&self) -> bool {
        self.0.len() > 2
    }

    /// As the columns of a SELECT.
    pub(super) fn select(&self) -> String {
        let mut sql = "SELECT position".to_owned();
        for column in &self.0 {
            sql.push_str(match column {
                Column::Type => ", type",
                Column::Payload => ", payload",
                Column::Revision => ", revision",
                Column::OccurredAt => ", occurred_at",
                Column::RecordedAt => ", recorded_at",
                Column::Stream => ", stream",
                Column::Id => ", id",
                Column::Metadata => ", metadata",
            });
        }
        sql
    }

    /// Copies an event into the chunk; `false` if it does not fit any more.
    pub(super) fn push(
        &self,
        event: &impl Source,
        position: Position,
        code: u16,
        chunk: &mut EventChunk,
    ) -> rusqlite::Result<bool> {
        // An erased payload is gone for good.
        let payload = event.bytes(Column::Payload)?.unwrap_or(b"null");
        if !chunk.is_empty() && chunk.payloads.bytes.len() + payload.len() > chunk.limit_bytes {
            return Ok(false);
        }
        chunk.positions.push(position);
        chunk.types.push(code);
        chunk.payloads.push(payload);
        for &column in &self.0[2..] {
            match column {
                Column::Type | Column::Payload => {}
                Column::Revision => {
                    let revision = event.integer(column)?.unwrap_or_default();
                    chunk.revisions.push(revision.cast_unsigned());
                }
                Column::OccurredAt => chunk.occurred_at.push(event.integer(column)?),
                Column::RecordedAt => {
                    let time = event.integer(column)?.unwrap_or_default();
                    chunk.recorded_at.push(time);
                }
                Column::Stream => chunk.streams.push(text(event, column)?),
                Column::Id => chunk.ids.push(text(event, column)?),
                Column::Metadata => chunk.metadata.push(text(event, column)?),
            }
        }
        Ok(true)
    }
}

/// A text that is one: whoever takes it does not look again.
fn text(event: &impl Source, column: Column) -> rusqlite::Result<&str> {
    let bytes = event.bytes(column)?.unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|error| rusqlite::Error::Utf8Error(0, error))
}

/// A row of a statement that selects what is wanted.
pub(super) struct SelectedRow<'r, 's> {
    pub(super) row: &'r Row<'s>,
    pub(super) wanted: &'r Wanted,
}

impl SelectedRow<'_, '_> {
    fn place(&self, column: Column) -> usize {
        let places = self.wanted.0.iter();
        let before = places.take_while(|it| **it != column).count();
        before + 1
    }
}

impl Source for SelectedRow<'_, '_> {
    fn bytes(&self, column: Column) -> rusqlite::Result<Option<&[u8]>> {
        Ok(self.row.get_ref(self.place(column))?.as_bytes_or_null()?)
    }

    fn integer(&self, column: Column) -> rusqlite::Result<Option<i64>> {
        self.row.get(self.place(column))
    }
}

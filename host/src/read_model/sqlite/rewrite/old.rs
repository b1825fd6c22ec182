//! The rows that a file had before it is laid out anew.

use std::cmp::Ordering;
use std::path::Path;

use retell_contract::key::push_key_ref;
use rusqlite::Connection;
use rusqlite::types::ValueRef as SqlRef;

use super::super::fault::{Doing, fault};
use super::super::rows::take_stored;
use super::super::schema::{Layout, TableSql};
use super::{Roots, root_of_table};
use crate::key_prefix;
use crate::read_model::ReadModelError;
use crate::sqlite_format::{DatabasePages, IndexCursor, PageError, RecordLayout, TableCursor};

/// Rows that the file had before, in the order of their keys.
pub(super) struct OldRows<'c> {
    path: &'c Path,
    table: &'c TableSql,
    pages: DatabasePages<'c>,
    cursor: Cursor,
    pub(super) layout: RecordLayout,
    /// Of the row it stands at; an empty key is none's.
    pub(super) key: Vec<u8>,
    key_prefix: u128,
    key_before: Vec<u8>,
    pub(super) record: Vec<u8>,
    pub(super) rowid: i64,
}

enum Cursor {
    ByRowid(TableCursor),
    ByKey(IndexCursor),
}

impl<'c> OldRows<'c> {
    pub(super) fn open(
        connection: &'c Connection,
        path: &'c Path,
        table: &'c TableSql,
        roots: &Roots,
    ) -> Result<Self, ReadModelError> {
        let root = root_of_table(roots, table);
        let opened = (|| {
            let mut pages = DatabasePages::new(connection)?;
            let cursor = match table.layout {
                Layout::RowNumber { .. } | Layout::Heap => {
                    let mut cursor = TableCursor::default();
                    cursor.seek(&mut pages, root, None)?;
                    Cursor::ByRowid(cursor)
                }
                Layout::Key => {
                    let mut cursor = IndexCursor::default();
                    cursor.seek(&mut pages, root)?;
                    Cursor::ByKey(cursor)
                }
            };
            Ok((pages, cursor))
        })();
        let (pages, cursor) = opened.map_err(|error| read_fault(path, error))?;
        let mut rows = Self {
            path,
            table,
            pages,
            cursor,
            layout: RecordLayout::default(),
            key: Vec::new(),
            key_prefix: 0,
            key_before: Vec::new(),
            record: Vec::new(),
            rowid: 0,
        };
        rows.advance()?;
        Ok(rows)
    }

    /// Goes to the next row.
    pub(super) fn advance(&mut self) -> Result<(), ReadModelError> {
        std::mem::swap(&mut self.key, &mut self.key_before);
        self.key.clear();
        let next = match &mut self.cursor {
            Cursor::ByRowid(cursor) => cursor.next(&mut self.pages),
            Cursor::ByKey(cursor) => cursor
                .next(&mut self.pages)
                .map(|record| record.map(|record| (0, record))),
        };
        let Some((rowid, record)) = next.map_err(|error| read_fault(self.path, error))? else {
            return Ok(());
        };
        self.rowid = rowid;
        self.record.clear();
        self.record.extend_from_slice(record);
        let malformed = |what: &str| ReadModelError::Malformed {
            model: self.path.into(),
            message: format!("{what} of table `{}`", self.table.name),
        };
        self.read_key()
            .ok_or_else(|| malformed("there is no key in a row"))?;
        // What lays it out anew relies on it.
        if self.key <= self.key_before {
            return Err(malformed("the keys are in no order in the rows"));
        }
        self.key_prefix = key_prefix::of(&self.key);
        Ok(())
    }

    /// How the row it stands at lies to a key, of which the prefix is given, too. None at the end.
    pub(super) fn order(&self, key: &[u8], prefix: u128) -> Option<Ordering> {
        let by_key = || self.key.as_slice().cmp(key);
        (!self.key.is_empty()).then(|| self.key_prefix.cmp(&prefix).then_with(by_key))
    }

    fn read_key(&mut self) -> Option<()> {
        let mut push = |stored, kind| {
            let key = &mut self.key;
            take_stored(stored, kind, |value| push_key_ref(key, value)).ok()
        };
        let kinds = &self.table.key_types;
        match self.table.layout {
            Layout::RowNumber { .. } => push(SqlRef::Integer(self.rowid), kinds[0]),
            Layout::Key => {
                self.layout.of(&self.record, kinds.len())?;
                for (column, kind) in kinds.iter().enumerate() {
                    push(self.layout.field(&self.record, column)?, *kind)?;
                }
                Some(())
            }
            Layout::Heap => {
                self.layout.of(&self.record, self.table.columns.len())?;
                for (column, kind) in self.table.key.iter().zip(kinds) {
                    let column = usize::from(*column);
                    push(self.layout.field(&self.record, column)?, *kind)?;
                }
                Some(())
            }
        }
    }
}

fn read_fault(path: &Path, error: PageError) -> ReadModelError {
    fault(path, Doing::Read, error.into())
}

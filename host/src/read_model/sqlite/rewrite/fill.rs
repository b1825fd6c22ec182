//! One table of the next file: old rows and changes merged, and laid out.

use std::cmp::Ordering;
use std::path::Path;

use rusqlite::types::ValueRef as SqlRef;

use super::super::page_file::PageFile;
use super::super::schema::{Layout, TableSql};
use super::encode::{EncodedChange, EncodedRow};
use super::old::OldRows;
use super::{Roots, root_of_table};
use crate::read_model::ReadModelError;
use crate::sqlite_format::{IndexWriter, RecordWriter, TableWriter};

/// One table of the next file.
pub(super) struct TableFill<'t> {
    table: &'t TableSql,
    trees: Trees,
    /// An entry of a heap's key.
    entry: RecordWriter,
}

enum Trees {
    RowNumber {
        rows: TableWriter,
    },
    Key {
        rows: IndexWriter,
    },
    Heap {
        rows: TableWriter,
        keys: IndexWriter,
        last_rowid: i64,
    },
}

impl<'t> TableFill<'t> {
    pub(super) fn new(table: &'t TableSql, page_bytes: usize) -> Self {
        let trees = match table.layout {
            Layout::RowNumber { .. } => Trees::RowNumber {
                rows: TableWriter::new(page_bytes),
            },
            Layout::Key => Trees::Key {
                rows: IndexWriter::new(page_bytes),
            },
            Layout::Heap => Trees::Heap {
                rows: TableWriter::new(page_bytes),
                keys: IndexWriter::new(page_bytes),
                last_rowid: 0,
            },
        };
        Self {
            table,
            trees,
            entry: RecordWriter::default(),
        }
    }

    /// Adds the old rows before a change, and the row that the change makes of its own.
    pub(super) fn merge(
        &mut self,
        file: &mut PageFile,
        old: &mut OldRows<'_>,
        change: &EncodedChange<'_>,
        path: &Path,
    ) -> Result<(), ReadModelError> {
        let order = |old: &OldRows<'_>| old.order(change.key, change.key_prefix);
        while order(old) == Some(Ordering::Less) {
            self.keep(file, old)?;
            old.advance()?;
        }
        if order(old) == Some(Ordering::Equal) {
            if change.fresh {
                return Err(ReadModelError::Conflict {
                    model: path.into(),
                    table: self.table.name.clone(),
                    message: "a row that should be new is there already".to_owned(),
                });
            }
            old.advance()?;
        }
        match &change.row {
            Some(row) => self.put(file, row),
            None => Ok(()),
        }
    }

    /// Adds what is left of the old rows, and completes the table.
    pub(super) fn finish(
        mut self,
        file: &mut PageFile,
        old: &mut OldRows<'_>,
        roots: &Roots,
    ) -> Result<(), ReadModelError> {
        while !old.key.is_empty() {
            self.keep(file, old)?;
            old.advance()?;
        }
        let root = root_of_table(roots, self.table);
        match self.trees {
            Trees::RowNumber { rows } => rows.finish(file, root),
            Trees::Key { rows } => rows.finish(file, root),
            Trees::Heap { rows, keys, .. } => {
                rows.finish(file, root)?;
                // What SQLite calls the index of a key that is none of its own.
                let index = format!("sqlite_autoindex_{}_1", self.table.name);
                keys.finish(file, roots[&index])
            }
        }
    }

    /// Adds a row as the module made it.
    fn put(&mut self, file: &mut PageFile, row: &EncodedRow<'_>) -> Result<(), ReadModelError> {
        match &mut self.trees {
            Trees::RowNumber { rows } => rows.push(file, row.rowid, row.record),
            Trees::Key { rows } => rows.push(file, row.record),
            Trees::Heap {
                rows,
                keys,
                last_rowid,
            } => {
                *last_rowid += 1;
                rows.push(file, *last_rowid, row.record)?;
                self.entry.begin_like(row.key_types, row.key_values);
                self.entry.push(SqlRef::Integer(*last_rowid));
                keys.push(file, self.entry.finish())
            }
        }
    }

    /// Adds a row as the old file has it.
    fn keep(&mut self, file: &mut PageFile, old: &OldRows<'_>) -> Result<(), ReadModelError> {
        match &mut self.trees {
            Trees::RowNumber { rows } => rows.push(file, old.rowid, &old.record),
            Trees::Key { rows } => rows.push(file, &old.record),
            Trees::Heap {
                rows,
                keys,
                last_rowid,
            } => {
                *last_rowid += 1;
                rows.push(file, *last_rowid, &old.record)?;
                self.entry.clear();
                for &column in &self.table.key {
                    let field = old.layout.field(&old.record, usize::from(column));
                    self.entry.push(field.expect("its key was read from it"));
                }
                self.entry.push(SqlRef::Integer(*last_rowid));
                keys.push(file, self.entry.finish())
            }
        }
    }
}

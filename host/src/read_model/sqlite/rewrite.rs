//! Flushes that lay the file out anew, for builds that begin from nothing. Rows come sorted, so pages
//! are filled one after the other and written once, front to back; what the file held is merged in.
//! Inserting the same rows one by one, or changing pages here and there, costs several times as much.
//!
//! The new file takes the old one's place by a rename: whoever opens the path finds the one or the
//! other, each with the checkpoint of its rows. There is no WAL while this goes on, which could be
//! taken for the next file's.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use retell_contract::key::push_key_ref;
use rusqlite::types::ValueRef as SqlRef;
use rusqlite::{Connection, OpenFlags};

use super::fault::{Doing, fault, io_fault};
use super::guard::Guard;
use super::page_file::PageFile;
use super::rows::take_stored;
use super::schema::{Layout, TableSql};
use super::{SqliteReadModel, open, provenance};
use crate::limits;
use crate::read_model::{Changes, Checkpoint, Flush, ReadModelError};
use crate::sqlite_format::{
    DatabasePages, IndexCursor, IndexWriter, PageError, RecordLayout, RecordWriter, TableCursor,
    TableWriter,
};
use encode::{EncodedChange, EncodedRow};

mod encode;

/// Where the B-trees of a database begin, by name.
type Roots = HashMap<String, u32>;

impl SqliteReadModel {
    /// Whether laying everything out anew is worth it for so many bytes of changed rows.
    pub(super) fn is_worth_rewriting(&self, flush_bytes: usize) -> Result<bool, ReadModelError> {
        // Entries of other indexes than the key's do not come sorted.
        let has_indexes = self.index_exists.iter().flatten().any(|exists| *exists);
        if self.in_place || self.ready || has_indexes || self.in_transaction {
            return Ok(false);
        }
        // Somebody else may have given it a journal, which would be taken for the next file's.
        let is_in_place = open::is_changed_in_place(&self.connection)
            .map_err(|error| self.fault(Doing::Read, error))?;
        if is_in_place || open::has_journal(&self.path) {
            return Ok(false);
        }
        if self.checkpoint == Checkpoint::START {
            return Ok(true);
        }
        let io = |error| io_fault(&self.path, Doing::Write, error);
        let there = fs::metadata(&self.path).map_err(io)?.len();
        let flush_bytes = flush_bytes as u64;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let free = fs4::available_space(folder).map_err(io)?;
        let needed = flush_bytes
            .saturating_mul(2)
            .saturating_add(there + limits::FREE_DISK_BYTES_MIN);
        let readable = DatabasePages::are_readable(&self.connection)
            .map_err(|error| self.fault(Doing::Read, error))?;
        let factor = limits::REWRITE_FACTOR_MAX;
        Ok(readable && there <= flush_bytes.saturating_mul(factor) && free >= needed)
    }

    pub(super) fn rewrite_with(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError> {
        self.between_commits("rewriting it")?;
        // Nobody else may write meanwhile, or take over: that is seen in the new file then.
        self.begin()?;
        let (checkpoint, is_last) = (flush.checkpoint, flush.is_last);
        let next = open::unfinished_file(&self.path);
        let written = self.write_next(&next, flush);
        let renamed = written.and_then(|()| self.put_in_place(&next));
        if let Err(error) = renamed {
            // Best effort: the next attempt sweeps it up, too.
            let _ = open::remove_unfinished(&self.path);
            return Err(error);
        }
        // The transaction ends with the connection to the old file.
        self.connection = open::connect_rewritable(&self.path)?;
        self.in_transaction = false;
        if is_last {
            // Nobody reads it yet.
            self.change_in_place()?;
        }
        self.guard = Guard::install(&self.connection, &self.tables)
            .map_err(|error| self.fault(Doing::Open, error))?;
        self.checkpoint = checkpoint;
        self.rewrites.fetch_add(1, Ordering::Release);
        self.note_indexes()
    }

    /// Gives the next file its name.
    fn put_in_place(&self, next: &Path) -> Result<(), ReadModelError> {
        let fault = |error| io_fault(&self.path, Doing::Commit, error);
        let is_unsafe = open::boot_id().is_none();
        if is_unsafe {
            // Nobody would notice that the machine went down.
            let file = fs::File::open(next).map_err(fault)?;
            file.sync_all().map_err(fault)?;
        }
        if open::has_journal(&self.path) {
            return Err(ReadModelError::Locked {
                path: self.path.clone(),
            });
        }
        fs::rename(next, &self.path).map_err(fault)?;
        match self.path.parent().filter(|_| is_unsafe) {
            Some(folder) => fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(fault),
            None => Ok(()),
        }
    }

    /// Makes the next file, whole but for its name.
    fn write_next(&self, path: &Path, flush: Flush<'_>) -> Result<(), ReadModelError> {
        open::remove_unfinished(&self.path)
            .and_then(|()| fs::File::create_new(path))
            .map_err(|error| io_fault(path, Doing::Create, error))?;
        let now_us = self.clock.now_us();
        open::fill(path, &self.tables, &self.provenance, self.epoch, now_us)?;
        let (page_bytes, roots) = shape_of(path)?;
        let old_roots =
            roots_of(&self.connection).map_err(|error| self.fault(Doing::Read, error))?;
        let mut file = PageFile::open(path, page_bytes)?;
        let mut changes: HashMap<u16, Changes<'_>> = flush.tables.into_iter().collect();
        for (number, table) in (0..).zip(self.tables.iter()) {
            let changes = changes.remove(&number);
            let mut old = if self.checkpoint == Checkpoint::START {
                None
            } else {
                Some(OldRows::open(
                    &self.connection,
                    &self.path,
                    table,
                    &old_roots,
                )?)
            };
            let mut fill = TableFill::new(table, page_bytes);
            if let Some(changes) = changes {
                encode::each(table, changes, |change| {
                    fill.merge(&mut file, &mut old, change, &self.path)
                })?;
            }
            fill.finish(&mut file, &mut old, &roots)?;
        }
        file.finish()?;
        let role = provenance::read(&self.connection, &self.path)?.status.role;
        let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let noted = open::unfinished_mode(&connection)
            .and_then(|()| connection.execute(provenance::UPDATE_ROLE, [role.as_str()]))
            .and_then(|_| {
                let (checkpoint, rate) = (flush.checkpoint, flush.events_per_s);
                provenance::update_checkpoint(&connection, checkpoint, now_us, rate)
            });
        noted.map_err(|error| fault(path, Doing::Commit, error))
    }
}

/// Bytes of a page, and where tables begin.
fn shape_of(path: &Path) -> Result<(usize, Roots), ReadModelError> {
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .and_then(|page_bytes| Ok((page_bytes, roots_of(&connection)?)));
    read.map_err(|error| fault(path, Doing::Read, error))
}

fn roots_of(connection: &Connection) -> rusqlite::Result<Roots> {
    let sql = "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0";
    let mut statement = connection.prepare(sql)?;
    let roots = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    roots.collect()
}

/// The B-tree of a table itself.
fn root_of_table(roots: &Roots, table: &TableSql) -> u32 {
    roots[&table.name]
}

/// Rows that the file had before, in the order of their keys.
struct OldRows<'c> {
    path: &'c Path,
    table: &'c TableSql,
    pages: DatabasePages<'c>,
    cursor: Cursor,
    layout: RecordLayout,
    /// Of the row it stands at; an empty key is none's.
    key: Vec<u8>,
    record: Vec<u8>,
    rowid: i64,
}

enum Cursor {
    ByRowid(TableCursor),
    ByKey(IndexCursor),
}

impl<'c> OldRows<'c> {
    fn open(
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
            record: Vec::new(),
            rowid: 0,
        };
        rows.advance()?;
        Ok(rows)
    }

    /// Goes to the next row.
    fn advance(&mut self) -> Result<(), ReadModelError> {
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
        self.read_key().ok_or_else(|| ReadModelError::Malformed {
            path: self.path.to_owned(),
            message: format!("a row of table `{}` has no key", self.table.name),
        })
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

/// One table of the next file.
struct TableFill<'t> {
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
    fn new(table: &'t TableSql, page_bytes: usize) -> Self {
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
    fn merge(
        &mut self,
        file: &mut PageFile,
        old: &mut Option<OldRows<'_>>,
        change: &EncodedChange<'_>,
        path: &Path,
    ) -> Result<(), ReadModelError> {
        if let Some(old) = old {
            while !old.key.is_empty() && old.key.as_slice() < change.key {
                self.keep(file, old)?;
                old.advance()?;
            }
            if old.key == change.key {
                if change.fresh {
                    return Err(ReadModelError::Conflict {
                        path: path.to_owned(),
                        table: self.table.name.clone(),
                        message: "a row that should be new is there already".to_owned(),
                    });
                }
                old.advance()?;
            }
        }
        match &change.row {
            Some(row) => self.put(file, row),
            None => Ok(()),
        }
    }

    /// Adds what is left of the old rows, and completes the table.
    fn finish(
        mut self,
        file: &mut PageFile,
        old: &mut Option<OldRows<'_>>,
        roots: &Roots,
    ) -> Result<(), ReadModelError> {
        if let Some(old) = old {
            while !old.key.is_empty() {
                self.keep(file, old)?;
                old.advance()?;
            }
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

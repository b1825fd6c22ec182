//! What retell reads and writes of SQLite's file format by itself, where a statement for each row
//! would cost more than all the rest: walking a table's B-tree in the log, and laying out a read
//! model that is built from nothing. The format is SQLite's own published one, which does not change.
//!
//! It knows pages, cells and records, and nothing of retell's. Pages that are read come through
//! SQLite, as those of the connection's transaction. What makes no sense in them is an error, never
//! a panic.

mod cursor;
mod database;
pub(crate) mod fuzz;
mod page;
mod record;
mod tree;
mod varint;

pub(crate) use cursor::{IndexCursor, TableCursor};
pub(crate) use database::{DatabasePages, PageError, corrupt};
pub(crate) use record::{RecordLayout, RecordWriter, early_and_last_text};
pub(crate) use tree::{IndexWriter, PageSink, TableWriter};

/// A page that is none of a B-tree of tables, or holds what can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page} of the database is malformed: {reason}")]
pub(crate) struct Malformed {
    pub(crate) page: u32,
    pub(crate) reason: &'static str,
}

#[cfg(test)]
mod tests;

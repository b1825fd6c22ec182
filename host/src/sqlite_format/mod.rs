//! What retell reads and writes of SQLite's file format by itself, where a statement for each row
//! would cost more than all the rest: walking a table's B-tree in the log, and laying out a read
//! model that is built from nothing. The format is SQLite's own published one, which does not change.
//!
//! It knows pages, cells and records, and nothing of retell's. Pages that are read are those of the
//! connection's transaction, and come through SQLite, or through its handle of the file. What makes
//! no sense in them is an error, never a panic.

#![allow(
    clippy::inline_always,
    reason = "each event comes by here, and a result that is returned in parts and read as a whole \
              stalls the processor: reading takes 0.87 of the time without it"
)]

mod ahead;
mod cursor;
mod database;
mod file;
pub(crate) mod fuzz;
mod page;
mod record;
mod tree;
mod varint;
mod wal;

pub(crate) use ahead::{PageOrder, ReadAhead};
pub(crate) use cursor::{IndexCursor, TableCursor};
pub(crate) use database::{DatabasePages, PageError, corrupt};
pub(crate) use file::OpenFile;
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

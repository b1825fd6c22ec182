//! Databases made of any bytes, for the fuzzers.

use std::io::Write as _;

use rusqlite::Connection;

use super::{
    DatabasePages, IndexCursor, PageOrder, ReadAhead, RecordLayout, TableCursor,
    early_and_last_text,
};

/// A tree that goes in circles has no end.
const ROWS_MAX: usize = 10_000;

/// A damaged database is an error of ours or of SQLite's, and comes to an end.
pub(crate) fn pages(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it can be written");
    let Ok(database) = Connection::open(file.path()) else {
        return;
    };
    if database
        .execute_batch("BEGIN; SELECT 1 FROM sqlite_schema")
        .is_err()
    {
        return;
    }
    let mut ahead = ReadAhead::default();
    let Ok(mut pages) = DatabasePages::reading_ahead(&database, &mut ahead, PageOrder::Sequential)
    else {
        return;
    };
    let (mut table, mut index) = (TableCursor::default(), IndexCursor::default());
    let mut layout = RecordLayout::default();
    let mut look = |record: &[u8]| {
        if layout.of(record, 4).is_some() {
            for column in 0..5 {
                let _ = layout.field(record, column);
            }
        }
        let _ = early_and_last_text(record, 4, 1);
    };
    for root in 1..=4 {
        if table.seek(&mut pages, root, None).is_ok() {
            for _ in 0..ROWS_MAX {
                let Ok(Some((_, record))) = table.next(&mut pages) else {
                    break;
                };
                look(record);
            }
        }
        if index.seek(&mut pages, root).is_ok() {
            for _ in 0..ROWS_MAX {
                let Ok(Some(record)) = index.next(&mut pages) else {
                    break;
                };
                look(record);
            }
        }
    }
}

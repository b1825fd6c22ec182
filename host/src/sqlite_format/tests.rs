//! What is laid out is a database to SQLite, and what SQLite or we have laid out is read back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use super::*;

mod ahead;

/// Rows and entries of a table each: rows have a payload of so many bytes.
type Sizes = Vec<usize>;

struct Pages {
    file: File,
    page_bytes: usize,
    count: u32,
}

impl PageSink for Pages {
    type Error = std::io::Error;

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn append(&mut self, page: &[u8]) -> std::io::Result<u32> {
        self.count += 1;
        self.replace(self.count, page)?;
        Ok(self.count)
    }

    fn replace(&mut self, number: u32, page: &[u8]) -> std::io::Result<()> {
        assert_eq!(page.len(), self.page_bytes);
        let start = u64::from(number - 1) * self.page_bytes as u64;
        self.file.write_all_at(page, start)
    }
}

/// `rows (n INTEGER PRIMARY KEY, b BLOB)` and `entries (b BLOB PRIMARY KEY) WITHOUT ROWID`, empty.
fn empty(path: &Path, page_bytes: usize) -> Connection {
    let connection = Connection::open(path).expect("opens");
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {page_bytes};
             CREATE TABLE rows (n INTEGER PRIMARY KEY, b BLOB) STRICT;
             CREATE TABLE entries (b BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;"
        ))
        .expect("makes tables");
    connection
}

fn root(connection: &Connection, table: &str) -> u32 {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    connection
        .query_row(sql, [table], |row| row.get(0))
        .expect("a table")
}

/// A payload whose order is that of the numbers.
fn payload(number: usize, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{number:08}").into_bytes();
    payload.resize(8 + bytes, b'.');
    payload
}

fn lay_out(path: &Path, page_bytes: usize, sizes: &Sizes) {
    let connection = empty(path, page_bytes);
    let roots = [root(&connection, "rows"), root(&connection, "entries")];
    drop(connection);
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    let bytes = usize::try_from(file.metadata().expect("a file").len()).expect("small");
    let mut pages = Pages {
        file,
        page_bytes,
        count: u32::try_from(bytes / page_bytes).expect("few"),
    };
    let mut rows = TableWriter::new(page_bytes);
    let mut entries = IndexWriter::new(page_bytes);
    let mut record = RecordWriter::default();
    for (number, &bytes) in sizes.iter().enumerate() {
        let payload = payload(number, bytes);
        record.clear();
        record.push(ValueRef::Null);
        record.push(ValueRef::Blob(&payload));
        let rowid = i64::try_from(number * 3).expect("few");
        rows.push(&mut pages, rowid, record.finish()).expect("adds");
        record.clear();
        record.push(ValueRef::Blob(&payload));
        entries.push(&mut pages, record.finish()).expect("adds");
    }
    rows.finish(&mut pages, roots[0]).expect("writes");
    entries.finish(&mut pages, roots[1]).expect("writes");
    let count = pages.count.to_be_bytes();
    pages.file.write_all_at(&count, 28).expect("writes");
}

/// A rowid and a payload.
type Row = (i64, Vec<u8>);

/// What both cursors read of a database.
fn read(connection: &Connection, after: i64) -> (Vec<Row>, Vec<Vec<u8>>) {
    let blob = |record: &[u8], column: usize| {
        let mut layout = RecordLayout::default();
        layout.of(record, 2).expect("a record");
        let field = layout.field(record, column).expect("a column");
        field.as_blob().expect("a blob").to_vec()
    };
    connection.execute_batch("BEGIN").expect("begins");
    let mut pages = DatabasePages::new(connection).expect("readable pages");
    let mut cursor = TableCursor::default();
    let mut rows = Vec::new();
    cursor
        .seek(&mut pages, root(connection, "rows"), Some(after))
        .expect("finds");
    while let Some((rowid, record)) = cursor.next(&mut pages).expect("reads") {
        rows.push((rowid, blob(record, 1)));
    }
    let mut cursor = IndexCursor::default();
    let mut entries = Vec::new();
    cursor
        .seek(&mut pages, root(connection, "entries"))
        .expect("finds");
    while let Some(record) = cursor.next(&mut pages).expect("reads") {
        entries.push(blob(record, 0));
    }
    connection.execute_batch("COMMIT").expect("commits");
    (rows, entries)
}

fn check(page_bytes: usize, sizes: &Sizes) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("laid-out.db");
    lay_out(&path, page_bytes, sizes);
    let connection = Connection::open(&path).expect("opens");
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checks");
    assert_eq!(verdict, "ok", "{page_bytes} {sizes:?}");

    let expected: Vec<_> = sizes.iter().enumerate().collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(number, bytes)| {
            (
                i64::try_from(number * 3).expect("few"),
                payload(*number, **bytes),
            )
        })
        .collect();
    let mut statement = connection.prepare("SELECT n, b FROM rows").expect("reads");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(i64, Vec<u8>)> = rows.expect("reads").map(|it| it.expect("reads")).collect();
    assert_eq!(rows, expected);
    let mut statement = connection.prepare("SELECT b FROM entries").expect("reads");
    let entries = statement.query_map([], |row| row.get(0)).expect("reads");
    let entries: Vec<Vec<u8>> = entries.map(|it| it.expect("reads")).collect();
    assert!(
        entries
            .iter()
            .eq(expected.iter().map(|(_, payload)| payload))
    );
    drop(statement);

    for after in [
        -1,
        0,
        1,
        2,
        3,
        i64::try_from(sizes.len()).expect("few"),
        i64::MAX,
    ] {
        let (rows, entries_too) = read(&connection, after);
        let behind = expected.iter().filter(|(rowid, _)| *rowid > after);
        assert!(rows.iter().eq(behind), "after {after}");
        assert_eq!(entries_too, entries);
    }
    // SQLite goes on writing where we stopped, and we read what it made of it.
    let mut insert = connection
        .prepare("INSERT INTO rows SELECT n + 1, b FROM rows WHERE n % 2 = 0 LIMIT 50")
        .expect("writes");
    insert.execute([]).expect("writes");
    let delete = "DELETE FROM entries WHERE substr(b, 8, 1) IN (x'31', x'35')";
    connection.execute_batch(delete).expect("deletes");
    let (rows, entries) = read(&connection, -1);
    let count = |table: &str| -> usize {
        let sql = format!("SELECT count(*) FROM {table}");
        connection
            .query_row(&sql, [], |row| row.get(0))
            .expect("counts")
    };
    assert_eq!(
        (rows.len(), entries.len()),
        (count("rows"), count("entries"))
    );
    assert!(rows.is_sorted() && entries.is_sorted());
}

#[test]
fn trees_of_all_shapes_are_laid_out_and_read() {
    for page_bytes in [512, 8192] {
        for count in [0, 1, 2, 3] {
            check(page_bytes, &vec![0; count]);
            check(page_bytes, &vec![5_000; count]);
        }
    }
    // Every number of entries for which some page, of whatever level, is just full or just not.
    for count in 4..400 {
        check(512, &vec![60; count]);
    }
    check(512, &vec![3; 20_000]);
    check(8192, &vec![20; 100_000]);
    let sizes = prop::collection::vec(
        prop_oneof![8 => 0..40_usize, 3 => 40..600_usize, 1 => 600..30_000_usize],
        0..300,
    );
    let mut runner = TestRunner::new(Config::with_cases(60));
    let page_bytes = prop::sample::select(vec![512_usize, 1_024, 4_096, 8_192, 65_536]);
    runner
        .run(&(page_bytes, sizes), |(page_bytes, sizes)| {
            check(page_bytes, &sizes);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn records_are_those_of_sqlite() {
    let connection = Connection::open_in_memory().expect("opens");
    connection
        .execute_batch("CREATE TABLE rows (a, b, c)")
        .expect("makes a table");
    let edges = |bits: u32| {
        [
            (1_i64 << bits) - 1,
            1 << bits,
            -(1 << bits),
            -(1 << bits) - 1,
        ]
    };
    let mut values: Vec<Value> = [7, 15, 23, 31, 47]
        .map(edges)
        .concat()
        .into_iter()
        .map(Value::Integer)
        .collect();
    values.extend([0, 1, 2, -1, i64::MIN, i64::MAX].map(Value::Integer));
    values.extend([Value::Null, Value::Real(-1.5), Value::Real(1e300)]);
    for length in [0, 1, 57, 58, 70, 8_000, 9_000, 100_000] {
        values.push(Value::Text("x".repeat(length)));
        values.push(Value::Blob(vec![7; length]));
    }
    for triple in values.windows(3) {
        let written = "INSERT INTO rows VALUES (?1, ?2, ?3)";
        connection
            .execute(written, rusqlite::params_from_iter(triple))
            .expect("writes");
    }
    connection.execute_batch("BEGIN").expect("begins");
    let mut pages = DatabasePages::new(&connection).expect("readable pages");
    let mut cursor = TableCursor::default();
    cursor
        .seek(&mut pages, root(&connection, "rows"), None)
        .expect("finds");
    let mut layout = RecordLayout::default();
    let mut writer = RecordWriter::default();
    for triple in values.windows(3) {
        let (_, record) = cursor.next(&mut pages).expect("reads").expect("a row");
        layout.of(record, 9).expect("a record");
        writer.clear();
        for (column, value) in triple.iter().enumerate() {
            assert_eq!(layout.field(record, column), Some(value.into()));
            writer.push(value.into());
        }
        assert_eq!(layout.field(record, 3), Some(ValueRef::Null));
        assert_eq!(writer.finish(), record, "{triple:?}");
    }
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("laid-out.db");
    lay_out(&path, 512, &vec![100; 300]);
    let bytes = std::fs::read(&path).expect("reads");
    let mut runner = TestRunner::new(Config::with_cases(400));
    let wrong = prop::collection::vec((512..bytes.len(), any::<u8>()), 1..20);
    runner
        .run(&wrong, |wrong| {
            let path = folder.path().join("wrong.db");
            let mut bytes = bytes.clone();
            for (at, byte) in wrong {
                bytes[at] = byte;
            }
            std::fs::write(&path, &bytes).expect("writes");
            let connection = Connection::open(&path).expect("opens");
            connection.execute_batch("BEGIN").expect("begins");
            let mut pages = DatabasePages::new(&connection).expect("readable pages");
            let mut rows = TableCursor::default();
            let mut layout = RecordLayout::default();
            // A tree that has become a ring would go on for ever.
            let mut left = 10_000;
            if rows
                .seek(&mut pages, root(&connection, "rows"), Some(10))
                .is_ok()
            {
                while let Ok(Some((_, record))) = rows.next(&mut pages)
                    && left > 0
                {
                    left -= 1;
                    if layout.of(record, 3).is_some() {
                        let _ = layout.field(record, 1);
                    }
                }
            }
            let mut entries = IndexCursor::default();
            if entries
                .seek(&mut pages, root(&connection, "entries"))
                .is_ok()
            {
                while let Ok(Some(_)) = entries.next(&mut pages)
                    && left > 0
                {
                    left -= 1;
                }
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

//! Pages that are read ahead are those of the transaction, whatever others do to the database.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;

use crate::sqlite_format::DatabasePages;
use crate::sqlite_format::ahead::{PageOrder, PageRun, ReadAhead};

/// What happens to a database that somebody reads.
#[derive(Debug, Clone)]
enum Step {
    /// So many rows, in a transaction that is committed or not.
    Insert {
        rows: usize,
        commits: bool,
    },
    /// Every row whose number this divides.
    Change {
        every: usize,
        commits: bool,
    },
    Delete {
        every: usize,
    },
    Checkpoint(&'static str),
    Vacuum,
    /// The reader's transaction ends, and another one begins.
    Begin,
    /// The reader looks at all pages.
    Compare,
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
    prop_oneof![
        3 => (1..60_usize, any::<bool>()).prop_map(|(rows, commits)| Step::Insert { rows, commits }),
        3 => (1..9_usize, any::<bool>()).prop_map(|(every, commits)| Step::Change { every, commits }),
        1 => (2..9_usize).prop_map(|every| Step::Delete { every }),
        3 => kinds.prop_map(Step::Checkpoint),
        1 => Just(Step::Vacuum),
        4 => Just(Step::Begin),
        4 => Just(Step::Compare),
    ]
}

/// A database with some rows, in WAL mode, and a connection that writes to it.
fn database(path: &Path) -> Connection {
    let writer = Connection::open(path).expect("opens");
    // A cache of two pages writes to the WAL before a commit.
    let set_up = "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 2; PRAGMA busy_timeout = 0;
         CREATE TABLE rows (n INTEGER PRIMARY KEY, b BLOB) STRICT;
         CREATE INDEX b ON rows (b);";
    writer.execute_batch(set_up).expect("is set up");
    insert(&writer, 200);
    writer
}

fn insert(writer: &Connection, rows: usize) {
    let sql = "INSERT INTO rows (b) SELECT randomblob(100)
         FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
               SELECT i FROM n)";
    writer.execute(sql, [rows]).expect("inserts");
}

fn take(step: &Step, writer: &Connection) {
    let change = |commits: bool, change: &dyn Fn()| {
        writer.execute_batch("BEGIN").expect("begins");
        change();
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        writer.execute_batch(end).expect("ends");
    };
    match step {
        Step::Insert { rows, commits } => change(*commits, &|| insert(writer, *rows)),
        Step::Change { every, commits } => change(*commits, &|| {
            let sql = "UPDATE rows SET b = randomblob(90) WHERE n % ?1 = 0";
            writer.execute(sql, [every]).expect("changes");
        }),
        Step::Delete { every } => {
            let sql = "DELETE FROM rows WHERE n % ?1 = 0";
            writer.execute(sql, [every]).expect("deletes");
        }
        // A reader may be in the way of this, and of the next.
        Step::Checkpoint(kind) => {
            let sql = format!("PRAGMA wal_checkpoint({kind})");
            let _ = writer.query_row(&sql, [], |_| Ok(()));
        }
        Step::Vacuum => drop(writer.execute_batch("VACUUM")),
        Step::Begin | Step::Compare => {}
    }
}

fn begin(reader: &Connection) {
    let sql = "BEGIN; SELECT 1 FROM sqlite_schema";
    reader.execute_batch(sql).expect("begins to read");
}

/// How many pages came from the file.
fn compare(reader: &Connection, ahead: &mut ReadAhead) -> usize {
    let orders = [PageOrder::Sequential, PageOrder::Scattered];
    orders
        .map(|order| compare_in(order, reader, ahead))
        .iter()
        .sum()
}

fn compare_in(order: PageOrder, reader: &Connection, ahead: &mut ReadAhead) -> usize {
    let count = reader.query_row("PRAGMA page_count", [], |row| row.get(0));
    let count: u32 = count.expect("a count");
    let mut sqlite = DatabasePages::new(reader).expect("readable pages");
    let (mut found, mut expected) = (PageRun::default(), PageRun::default());
    let mut pages = DatabasePages::reading_ahead(reader, ahead, order).expect("readable pages");
    for number in 1..=count {
        sqlite.read(number, &mut expected).expect("a page");
        pages.read(number, &mut found).expect("a page");
        assert!(found.page() == expected.page(), "page {number} of {count}");
    }
    drop(pages);
    let mut run = PageRun::default();
    let from_file = (1..=count).map(|number| {
        let turned = ahead.turn(reader, number, &mut run);
        usize::from(turned.expect("a page, or none"))
    });
    from_file.sum()
}

#[test]
fn pages_read_ahead_are_those_of_the_transaction() {
    let from_file = Cell::new(0);
    let mut runner = TestRunner::new(Config::with_cases(200));
    let read_beside = |steps: Vec<Step>| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.db");
        let writer = database(&path);
        let reader = Connection::open(&path).expect("opens");
        reader
            .execute_batch("PRAGMA cache_size = 2")
            .expect("is set up");
        let mut ahead = ReadAhead::default();
        begin(&reader);
        for step in &steps {
            take(step, &writer);
            match step {
                Step::Begin => {
                    reader.execute_batch("COMMIT").expect("ends");
                    begin(&reader);
                }
                Step::Compare => from_file.set(from_file.get() + compare(&reader, &mut ahead)),
                _ => {}
            }
        }
        compare(&reader, &mut ahead);
        Ok(())
    };
    runner
        .run(&prop::collection::vec(step(), 1..40), read_beside)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let from_file = from_file.get();
    assert!(
        from_file > 1_000,
        "only {from_file} pages came from the file"
    );
}

/// Nothing is read past SQLite where it may have something newer, or where no moment is fixed.
#[test]
fn only_a_transaction_that_reads_reads_ahead() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.db");
    let writer = database(&path);
    let from_file = |connection: &Connection, begin: &str| {
        connection.execute_batch(begin).expect("begins");
        let mut ahead = ReadAhead::default();
        let from_file = compare(connection, &mut ahead);
        connection.execute_batch("ROLLBACK").expect("ends");
        from_file
    };
    let reader = Connection::open(&path).expect("opens");
    let reads = "BEGIN; SELECT 1 FROM sqlite_schema";
    assert_eq!(from_file(&reader, reads), 0, "all of it is in the WAL");
    let moved = "PRAGMA wal_checkpoint(TRUNCATE)";
    writer
        .query_row(moved, [], |_| Ok(()))
        .expect("nobody is in the way");
    assert!(from_file(&reader, reads) > 50, "all of it is in the file");
    let changes = "BEGIN; UPDATE rows SET b = randomblob(90)";
    assert_eq!(
        from_file(&writer, changes),
        0,
        "it has changed pages itself"
    );
    let journal = "PRAGMA journal_mode = DELETE";
    drop(reader);
    writer
        .query_row(journal, [], |_| Ok(()))
        .expect("nobody else has it open");
    assert_eq!(from_file(&writer, reads), 0, "there is no WAL");
}

/// Who dies while it commits may have written all its frames and not the note that makes them count.
#[test]
fn frames_that_do_not_count_hide_none_that_are_written_over_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.db");
    let writer = database(&path);
    let moved = "PRAGMA wal_checkpoint(TRUNCATE)";
    writer
        .query_row(moved, [], |_| Ok(()))
        .expect("nobody is in the way");
    let reader = Connection::open(&path).expect("opens");
    let mut ahead = ReadAhead::default();
    let mut compare_now = || {
        begin(&reader);
        let from_file = compare(&reader, &mut ahead);
        reader.execute_batch("COMMIT").expect("ends");
        assert!(from_file > 20, "{from_file} pages came from the file");
    };
    let change = |every| {
        let commits = true;
        take(&Step::Change { every, commits }, &writer);
    };
    change(150);

    let wal = folder.path().join("rows.db-wal");
    let salts = std::fs::read(&wal).expect("there is a WAL")[16..24].to_vec();
    let mut dead = Vec::new();
    for number in 1..=100_u32 {
        let after_commit = if number == 100 { 50_u32 } else { 0 };
        dead.extend_from_slice(&1_u32.to_be_bytes());
        dead.extend_from_slice(&after_commit.to_be_bytes());
        dead.extend_from_slice(&salts);
        dead.resize(dead.len() + 8 + 512, 0);
    }
    let mut wal = OpenOptions::new().append(true).open(&wal).expect("opens");
    wal.write_all(&dead).expect("writes");
    compare_now();
    for every in [120, 80, 66] {
        change(every);
        compare_now();
    }
}

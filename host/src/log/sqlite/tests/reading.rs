//! What reading costs, whatever is in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::super::pages::COLUMNS;
use super::super::reader::{SCANNED_MAX, SqliteReader};
use super::SqliteLog;
use crate::event::NewEvent;
use crate::log::{
    AppendRequest, EnvelopeParts, EventChunk, EventLog, LogReader, OpenMode, TypeFilter,
};

const EVENTS: u64 = 1_000_000;
/// One event in so many is of the type `Rare`.
const RARE: u64 = 5_000;

async fn new_log(folder: &tempfile::TempDir) -> SqliteLog {
    let path = folder.path().join("log.db");
    let log = SqliteLog::open(&path, OpenMode::CreateIfMissing);
    log.await.unwrap()
}

/// So many events, written by SQL alone: the triggers and the hash chain are not what is looked at
/// here. Type and payload are SQL over the position `i`.
async fn filled_log(
    folder: &tempfile::TempDir,
    events: u64,
    event_type: &str,
    payload: &str,
) -> SqliteLog {
    let log = new_log(folder).await;
    Connection::open(folder.path().join("log.db"))
        .unwrap()
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;
             DROP TRIGGER events_insert; DROP INDEX events_id; DROP INDEX events_stream;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {events})
             INSERT INTO events
                 (position, stream, revision, id, type, recorded_at, hash, payload)
             SELECT i, '', i, '', {event_type}, 0, zeroblob(32), {payload} FROM n"
        ))
        .unwrap();
    log
}

fn reader(log: &SqliteLog, types: &[&str]) -> SqliteReader {
    let types = TypeFilter::Only(types.iter().map(|&name| name.to_owned()).collect());
    SqliteReader::open(Arc::clone(&log.shared), types, EnvelopeParts::default()).unwrap()
}

/// Reads the whole log; gives the events found and the most steps of SQLite's virtual machine
/// that one chunk took, in thousands.
fn read_all(reader: &mut SqliteReader, chunk: &mut EventChunk) -> (u64, u64) {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    reader
        .connection
        .progress_handler(1_000, Some(count))
        .unwrap();
    let (mut after, mut events, mut most) = (0, 0, 0);
    while after < EVENTS {
        steps.store(0, Ordering::Relaxed);
        reader.read(after, u64::MAX, chunk).unwrap();
        most = most.max(steps.load(Ordering::Relaxed));
        assert!(chunk.reached > after);
        after = chunk.reached;
        events += chunk.len() as u64;
    }
    (events, most)
}

#[tokio::test]
async fn a_chunk_costs_what_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled_log(
        &folder,
        EVENTS,
        &format!("CASE WHEN i % {RARE} = 0 THEN 'Rare' WHEN i % 2 THEN 'A' ELSE 'B' END"),
        "'1'",
    )
    .await;
    // Few wanted events: after the first look, the rest comes from the index.
    let mut chunk = EventChunk::new(20, 1 << 20);
    let (events, most) = read_all(&mut reader(&log, &["Rare", "Rarer"]), &mut chunk);
    assert_eq!(events, EVENTS / RARE);
    assert!(
        most < 2 * SCANNED_MAX / 100,
        "{most} thousand steps for 20 events"
    );
    // Many wanted events: a chunk neither sorts nor collects the rest of the log.
    let mut chunk = EventChunk::new(1_000, 1 << 20);
    let (events, most) = read_all(&mut reader(&log, &["A"]), &mut chunk);
    assert_eq!(events, EVENTS / 2);
    assert!(most < 100, "{most} thousand steps for 1,000 events");
    // Nothing wanted at all: a few windows, each twice the last.
    let mut absent = reader(&log, &["Unknown"]);
    let (events, _) = read_all(&mut absent, &mut chunk);
    assert_eq!(events, 0);
    // The window is as wide as the log by now.
    absent.read(0, u64::MAX, &mut chunk).unwrap();
    assert_eq!(chunk.reached, EVENTS);
}

#[tokio::test]
async fn the_index_is_used_and_nothing_wide_is_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let log = new_log(&folder).await;
    let reader = reader(&log, &["A", "B"]);
    let plan = |sql: &str| -> String {
        let mut statement = reader
            .connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let mut rows = statement.raw_query();
        let mut steps = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get::<_, String>(3).unwrap());
        }
        steps.join("\n")
    };
    insta::assert_snapshot!(plan(&reader.statements.scan), @"SEARCH events USING INTEGER PRIMARY KEY (rowid>?)");
    insta::assert_snapshot!(plan(&reader.statements.fetch), @"SEARCH events USING INTEGER PRIMARY KEY (rowid=?)");
    // The sort is of the positions of one window.
    insta::assert_snapshot!(plan(&reader.statements.window), @r"
    SEARCH events USING COVERING INDEX events_type (type=? AND rowid>? AND rowid<?)
    USE TEMP B-TREE FOR ORDER BY
    ");
}

#[tokio::test]
async fn a_payload_that_is_no_text_is_left_to_who_parses_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = new_log(&folder).await;
    Connection::open(folder.path().join("log.db"))
        .unwrap()
        .execute(
            "INSERT INTO events (position, stream, revision, id, type, recorded_at, hash, payload)
             VALUES (1, 's', 1, 'x', 'A', 0, zeroblob(32), CAST(x'22FF22' AS TEXT))",
            [],
        )
        .unwrap();
    let mut chunk = EventChunk::new(10, 1 << 20);
    reader(&log, &["A"]).read(0, u64::MAX, &mut chunk).unwrap();
    assert_eq!(chunk.payloads.bytes, b"\"\xff\"");
    assert_eq!(chunk.reached, 1);
}

/// A chunk that windows of the index have begun, and whose next event is too large for the rest of it.
#[tokio::test]
async fn a_scan_that_goes_on_with_a_chunk_may_find_it_full() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled_log(
        &folder,
        4_000,
        "CASE WHEN i > 1000 AND i % 3 = 1 THEN 'Wanted' ELSE 'Other' END",
        "CASE i WHEN 3001 THEN printf('%500d', 1) ELSE '1' END",
    )
    .await;
    for with_pages in [true, false] {
        let mut reader = reader(&log, &["Wanted"]);
        if !with_pages {
            reader.pages = None;
        }
        let mut chunk = EventChunk::new(1_000, 900);
        let reached: Vec<u64> = [(0, 1_000), (1_000, 4_000), (3_000, 4_000)]
            .map(|(after, up_to)| {
                reader.read(after, up_to, &mut chunk).unwrap();
                chunk.reached
            })
            .to_vec();
        assert_eq!(reached, [1_000, 3_000, 4_000], "with pages: {with_pages}");
    }
}

#[tokio::test]
async fn pages_and_rows_give_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let log = new_log(&folder).await;
    // What a payload is long for: one page, several, or a header that has no room for its length.
    let lengths = [0, 1, 50, 51, 58, 59, 8_000, 8_100, 8_192, 20_000, 100_000];
    let events: Vec<_> = (0..700_usize)
        .map(|n| {
            let data = format!("\"{}\"", "x".repeat(lengths[n % lengths.len()]));
            NewEvent {
                stream: format!("{}{n}", "s".repeat(n % 90)),
                event_type: "T".repeat(1 + n % 70),
                data,
                metadata: (n % 4 == 0).then(|| format!("{{\"n\":{n}}}")),
                id: None,
                occurred_at: (n % 3 == 0).then_some(i64::try_from(n).unwrap() - 100),
            }
        })
        .collect();
    let request = AppendRequest {
        events,
        ..AppendRequest::default()
    };
    log.append(request).await.unwrap();
    assert_eq!(COLUMNS.to_vec(), columns_of(&folder.path().join("log.db")));
    let all = EnvelopeParts {
        revision: true,
        occurred_at: true,
        recorded_at: true,
        stream: true,
        id: true,
        metadata: true,
    };
    for parts in [EnvelopeParts::default(), all] {
        for types in [
            TypeFilter::All,
            TypeFilter::Only(vec!["T".into(), "T".repeat(33)]),
        ] {
            let open =
                || SqliteReader::open(Arc::clone(&log.shared), types.clone(), parts).unwrap();
            let (mut by_pages, mut by_rows) = (open(), open());
            assert!(by_pages.pages.is_some(), "compiled with pages");
            by_rows.pages = None;
            for (limit_events, limit_bytes) in [(1, 1), (7, 30_000), (1_000, 1 << 20)] {
                let mut chunks = [0, 0].map(|_| EventChunk::new(limit_events, limit_bytes));
                let mut after = 0;
                while after < 700 {
                    by_pages
                        .read(after, 695.max(after + 3), &mut chunks[0])
                        .unwrap();
                    by_rows
                        .read(after, 695.max(after + 3), &mut chunks[1])
                        .unwrap();
                    assert_eq!(format!("{:?}", chunks[0]), format!("{:?}", chunks[1]));
                    assert!(chunks[0].reached > after);
                    after = chunks[0].reached;
                }
            }
        }
    }
}

fn columns_of(path: &std::path::Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT name FROM pragma_table_info('events')")
        .unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

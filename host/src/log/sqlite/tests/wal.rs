//! The WAL moves into the file beside the appends.

use std::path::Path;

use rusqlite::Connection;

use super::{Folder, SqliteLog};
use crate::limits::{LOG_WAL_PAGES, LOG_WAL_PAGES_MAX};
use crate::log::conformance::{append, event};
use crate::log::{EventLog as _, OpenMode, unwatched};

const PAGE_BYTES: u64 = 8 << 10;
const APPEND_BYTES: u64 = 1_000_000;

async fn new_log(folder: &Folder) -> SqliteLog {
    let opened = SqliteLog::open(folder.path(), OpenMode::CreateIfMissing);
    opened.await.unwrap()
}

/// Appends large events until so many bytes are in the log.
async fn append_bytes(log: &SqliteLog, bytes: u64) {
    let data = format!("\"{}\"", "x".repeat(usize::try_from(APPEND_BYTES).unwrap()));
    for _ in 0..bytes / APPEND_BYTES {
        append(log, &[event("s", "T", &data)]).await.unwrap();
    }
}

fn bytes_of(log: &Path, suffix: &str) -> u64 {
    let mut path = log.as_os_str().to_owned();
    path.push(suffix);
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_log_that_is_only_appended_to_has_no_long_wal() {
    let folder = Folder::new();
    let log = new_log(&folder).await;
    let gathers = LOG_WAL_PAGES.cast_unsigned() * PAGE_BYTES;
    append_bytes(&log, gathers / 2).await;
    assert!(bytes_of(log.path(), "") < gathers / 4, "it gathers first");
    let total = 10 * gathers;
    append_bytes(&log, total).await;
    // What was appended last may not have been moved yet.
    let most = LOG_WAL_PAGES_MAX.cast_unsigned() * PAGE_BYTES + 2 * APPEND_BYTES;
    let (file, wal) = (bytes_of(log.path(), ""), bytes_of(log.path(), "-wal"));
    assert!(wal <= most, "{wal} bytes in the WAL");
    assert!(file + most >= total, "{file} bytes in the file");
    let check = log.check_chain(unwatched()).await.unwrap();
    assert!(check.into_result().is_ok());
}

#[tokio::test]
async fn a_reader_of_an_old_state_is_in_the_way_only_as_long_as_it_reads() {
    let folder = Folder::new();
    let log = new_log(&folder).await;
    append_bytes(&log, APPEND_BYTES).await;
    let reader = Connection::open(log.path()).unwrap();
    let count = || -> i64 {
        let count = "SELECT count(*) FROM events";
        reader.query_row(count, [], |row| row.get(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 1);
    let most = LOG_WAL_PAGES_MAX.cast_unsigned() * PAGE_BYTES;
    append_bytes(&log, 2 * most).await;
    assert_eq!(count(), 1, "it sees what it saw");
    assert!(bytes_of(log.path(), "") < most, "and keeps it");
    reader.execute_batch("COMMIT").unwrap();
    append_bytes(&log, most).await;
    assert!(bytes_of(log.path(), "") > 2 * most);
    assert_eq!(log.head().await.unwrap().position, count().cast_unsigned());
}

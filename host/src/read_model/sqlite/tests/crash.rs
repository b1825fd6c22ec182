//! Writers that are killed, and disks that are full.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use retell_contract::manifest::Manifest;

use super::{FULL_TEXT, Folder, SqliteReadModel, with_sql};
use crate::read_model::conformance::{Place, at, person, provenance, put};
use crate::read_model::{Flush, KEY_INDEX, ReadModel, ReadModelError};

/// Names the file to the child process …
const CHILD_FILE: &str = "RETELL_TEST_CRASH_FILE";
/// … which rewrites it with each commit if this is set, and else changes it in place.
const CHILD_REWRITES: &str = "RETELL_TEST_CRASH_REWRITES";
const ROWS_PER_COMMIT: u64 = 40;
/// Rows are overwritten after so many.
const ROWS: u64 = 1_000;

/// Row `n mod ROWS` as of the change `n`.
fn entry(n: u64) -> (Vec<u8>, Vec<u8>) {
    let id = format!("{:05}", n * 7919 % ROWS);
    let town = format!("town {}", n % 10);
    person(&id, Some(&id), Some(&town), n.cast_signed())
}

/// The changes of the commit that leads to `position`, sorted by key.
fn changes(position: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let from = (position - 1) * ROWS_PER_COMMIT;
    let mut changes: Vec<_> = (from..from + ROWS_PER_COMMIT).map(entry).collect();
    changes.sort();
    changes
}

fn write(model: &mut dyn ReadModel, position: u64) -> Result<(), ReadModelError> {
    let changes = changes(position);
    let packed: Vec<_> = changes.iter().map(|entry| put(entry, false)).collect();
    if model.is_to_be_rewritten(1 << 20, true)? {
        let flush = Flush {
            tables: vec![(0, Box::new(packed.iter().copied()))],
            journal: &[],
            checkpoint: at(position),
            bytes: 0,
            is_last: false,
            may_wait: false,
            events_per_s: 0.0,
        };
        return model.rewrite(flush);
    }
    // In two steps: a crash may come between a write and its commit.
    let (one, other) = packed.split_at(packed.len() / 2);
    model.write(one)?;
    model.write(other)?;
    model.commit(at(position), 0.0)
}

/// Everything in the read model is the fold up to its checkpoint, which it gives back.
fn check(model: &mut dyn ReadModel) -> u64 {
    let position = model.checkpoint().position;
    let mut expected = std::collections::BTreeMap::new();
    for position in 1..=position {
        expected.extend(changes(position));
    }
    let mut reader = model.reader().expect("a reader opens");
    let found = reader
        .scan(0, KEY_INDEX, &[], None, u32::MAX)
        .expect("scans");
    let found: Vec<_> = found.into_iter().map(|row| (row.key, row.row)).collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    position
}

/// Runs in a process of its own, until it is killed.
#[test]
fn child_that_writes_for_ever() {
    let Some(path) = std::env::var_os(CHILD_FILE).map(PathBuf::from) else {
        return;
    };
    let rewrites = std::env::var_os(CHILD_REWRITES).is_some();
    let manifest = manifest(rewrites);
    let mut model = if path.exists() {
        SqliteReadModel::open(&path, &manifest, &provenance(), 1)
    } else {
        SqliteReadModel::create(&path, &manifest, &provenance(), 1)
    }
    .expect("opens");
    for position in model.checkpoint().position + 1.. {
        write(&mut model, position).expect("writes");
        writeln!(std::io::stdout(), "at {position}").expect("is read by the parent");
        if !rewrites && position > 100 && position % 7 == 0 {
            model.prepare_ready().expect("gets ready");
        }
    }
}

#[test]
fn after_any_kill_the_rows_are_the_fold_up_to_the_checkpoint() {
    let folder = Folder::new();
    let mut position = 0;
    for turn in 0..12u64 {
        // Not a whole number of commits' worth of lines, so that it dies anywhere.
        position = kill_after(&folder.path(), 1 + turn * 3, turn, false).max(position);
        match folder.open(&manifest(false), &provenance(), 1) {
            Ok(mut model) => {
                let found = check(&mut *model);
                assert!(
                    found >= position,
                    "{found} was committed, and {position} told of"
                );
                position = found;
            }
            // Killed before it existed.
            Err(ReadModelError::Missing { .. }) => assert_eq!(position, 0),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(position > 100, "the child hardly ran: {position}");
    let model = folder
        .open(&with_sql(FULL_TEXT), &provenance(), 1)
        .expect("opens");
    assert!(model.is_ready());
    drop(model);
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    let verdict: String = outside
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checks");
    assert_eq!(verdict, "ok");
    // The full-text index is as old as the rows, too.
    let stale: i64 = outside
        .query_row(
            "SELECT count(*) FROM person_search s JOIN person p ON p.id = s.id WHERE s.town <> p.town",
            [],
            |row| row.get(0),
        )
        .expect("reads");
    let (all, indexed): (i64, i64) = outside
        .query_row(
            "SELECT (SELECT count(*) FROM person), (SELECT count(*) FROM person_search)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("reads");
    assert_eq!((stale, all), (0, indexed));
}

#[test]
fn after_any_kill_a_rewritten_file_is_whole() {
    let folder = Folder::new();
    let mut position = 0;
    for turn in 0..12u64 {
        position = kill_after(&folder.path(), 1 + turn, turn, true).max(position);
        match folder.open(&manifest(true), &provenance(), 1) {
            Ok(mut model) => {
                let found = check(&mut *model);
                assert!(
                    found >= position,
                    "{found} was committed, and {position} told of"
                );
                assert!(model.is_to_be_rewritten(1 << 20, true).expect("says so"));
                position = found;
            }
            Err(ReadModelError::Missing { .. }) => assert_eq!(position, 0),
            Err(error) => panic!("{error}"),
        }
        let beside = std::fs::read_dir(folder.path().parent().expect("has one"));
        let count = beside.expect("reads").count();
        assert!(count <= 1, "nothing is left beside the file");
    }
    assert!(position > 100, "the child hardly ran: {position}");
    let mut model = folder
        .open(&manifest(true), &provenance(), 1)
        .expect("opens");
    model.prepare_ready().expect("gets ready");
    check(&mut *model);
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    let verdict: String = outside
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checks");
    assert_eq!(verdict, "ok");
}

/// What the child writes: `rewrites` is possible only without a unique index.
fn manifest(rewrites: bool) -> Manifest {
    let mut manifest = with_sql(FULL_TEXT);
    if rewrites {
        manifest.after_replay.clear();
        manifest.tables[0].indexes.retain(|index| !index.unique);
    }
    manifest
}

/// Runs the child, kills it after it told of so many commits and some time more, and says which was
/// the last it told of.
fn kill_after(path: &Path, commits: u64, turn: u64, rewrites: bool) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("has a path"));
    if rewrites {
        child.env(CHILD_REWRITES, "");
    }
    let mut child = child
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("read_model::sqlite::tests::crash::child_that_writes_for_ever")
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut last = 0;
    let told = lines.map_while(Result::ok);
    let told = told.filter_map(|line| line.rsplit_once("at ")?.1.parse::<u64>().ok());
    let mut told = told.inspect(|position| last = *position);
    for _ in 0..commits + if turn > 3 { 20 } else { 0 } {
        told.next();
    }
    // Somewhere within the next commit.
    std::thread::yield_now();
    child.kill().expect("is killed");
    told.for_each(drop);
    child.wait().expect("ends");
    last
}

#[test]
fn a_full_disk_is_said_and_costs_nothing_committed() {
    let folder = Folder::new();
    let manifest = with_sql(FULL_TEXT);
    let mut model =
        SqliteReadModel::create(&folder.path(), &manifest, &provenance(), 1).expect("creates");
    write(&mut model, 1).expect("writes");
    let pages: i64 = model
        .connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .expect("reads");
    let limit = |model: &SqliteReadModel, pages: i64| {
        model
            .connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .expect("sets");
    };
    limit(&model, pages + 2);
    let error = (2..100).find_map(|position| write(&mut model, position).err());
    let error = error.expect("gets full");
    assert!(matches!(error, ReadModelError::Full { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("free")));
    model.rollback();
    let position = check(&mut model);

    limit(&model, pages + 3);
    let error = model.prepare_ready().expect_err("has no room for it");
    assert!(matches!(error, ReadModelError::Full { .. }), "{error}");
    model.rollback();
    assert!(!model.is_ready());
    assert_eq!(check(&mut model), position);

    limit(&model, 100_000);
    write(&mut model, position + 1).expect("goes on");
    model.prepare_ready().expect("gets ready");
    check(&mut model);
}

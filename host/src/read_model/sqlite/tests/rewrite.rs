//! Flushes that lay the file out anew: what they keep, what they refuse, and who may come between.

use std::path::PathBuf;
use std::time::Duration;

use retell_contract::manifest::Manifest;
use retell_contract::value::Value;
use retell_contract::{encode_key, encode_row};
use rusqlite::Connection;

use super::{Folder, SqliteReadModel};
use crate::clock::Stopwatch;
use crate::limits;
use crate::read_model::conformance::{Place, at, entry, people, person, provenance, put};
use crate::read_model::journal::Decision;
use crate::read_model::sqlite::open;
use crate::read_model::{Checkpoint, Flush, KEY_INDEX, ReadModel, ReadModelError, Role, RowChange};

/// Key and row.
type Entry = (Vec<u8>, Vec<u8>);

/// A read model of visits, which flushes may rewrite, and one visit.
fn rewritable(folder: &Folder) -> (Box<dyn ReadModel>, Manifest, Entry) {
    let mut manifest = people();
    manifest.tables.remove(0);
    let model = folder.create(&manifest, &provenance(), 1).expect("creates");
    let visit = [Value::Timestamp(5), Value::Null];
    let visit = (encode_key(&visit[..1]), encode_row(&visit));
    (model, manifest, visit)
}

fn rewrite(model: &mut dyn ReadModel, entry: &Entry, fresh: bool) -> Result<(), ReadModelError> {
    assert!(model.is_to_be_rewritten(1 << 20, true)?);
    let checkpoint = at(model.checkpoint().position + 1);
    rewrite_to(model, checkpoint, entry, fresh)
}

fn rewrite_to(
    model: &mut dyn ReadModel,
    checkpoint: Checkpoint,
    (key, row): &Entry,
    fresh: bool,
) -> Result<(), ReadModelError> {
    let change = RowChange {
        table: 0,
        key,
        row: Some(row),
        fresh,
    };
    model.rewrite(Flush {
        tables: vec![(0, Box::new([change].into_iter()))],
        journal: &[],
        checkpoint,
        bytes: 0,
        is_last: false,
        may_wait: false,
        events_per_s: 0.0,
    })
}

#[test]
fn a_rewrite_keeps_the_role_and_its_readers_see_it() {
    let folder = Folder::new();
    let (mut model, _, visit) = rewritable(&folder);
    model.set_role(Role::Previous).expect("notes it");
    let mut reader = model.reader().expect("a reader opens");
    assert_eq!(reader.get_many(0, &[&visit.0]).expect("reads"), [None]);
    rewrite(&mut *model, &visit, true).expect("rewrites");
    let found = reader.get_many(0, &[&visit.0]).expect("reads");
    assert_eq!(found, [Some(visit.1.clone())]);
    let status = folder.status().expect("is there");
    assert_eq!((status.role, status.checkpoint), (Role::Previous, at(1)));
    assert!(!status.ready);
    // From here on it goes on as any other.
    model.write(&[put(&visit, false)]).expect("writes");
    model.commit(at(2), 0.0).expect("commits");
    assert!(!model.is_to_be_rewritten(1 << 20, true).expect("says so"));
    assert_eq!(reader.get_many(0, &[&visit.0]).expect("reads").len(), 1);
}

/// Flushes a visit that may be kept aside.
fn flush(model: &mut dyn ReadModel, position: u64, (key, row): &Entry, deletes: bool) {
    let change = RowChange {
        table: 0,
        key,
        row: (!deletes).then_some(row),
        fresh: false,
    };
    let flush = Flush {
        tables: vec![(0, Box::new([change].into_iter()))],
        journal: &[],
        checkpoint: at(position),
        bytes: 1,
        is_last: false,
        may_wait: true,
        events_per_s: 0.0,
    };
    model.rewrite(flush).expect("flushes");
}

fn visit_at(time: i64) -> Entry {
    let visit = [Value::Timestamp(time), Value::Null];
    (encode_key(&visit[..1]), encode_row(&visit))
}

/// A read model with a visit, and a second one that is kept aside.
fn with_one_aside(folder: &Folder) -> (Box<dyn ReadModel>, Manifest, [Entry; 2]) {
    let (mut model, manifest, first) = rewritable(folder);
    rewrite(&mut *model, &first, true).expect("rewrites");
    let second = visit_at(9);
    flush(&mut *model, 2, &second, false);
    let status = folder.status().expect("is there");
    assert_eq!((status.checkpoint, status.flushed), (at(1), 2));
    (model, manifest, [first, second])
}

fn found(model: &dyn ReadModel, entries: &[Entry; 2]) -> [bool; 2] {
    let mut reader = model.reader().expect("a reader opens");
    let keys = [&*entries[0].0, &*entries[1].0];
    let rows = reader.get_many(0, &keys).expect("reads");
    [0, 1].map(|n| rows[n].as_ref().is_some_and(|row| *row == entries[n].1))
}

#[test]
fn the_first_flush_waits_for_the_second() {
    let folder = Folder::new();
    let (mut model, _, first) = rewritable(&folder);
    flush(&mut *model, 1, &first, false);
    assert!(model.has_flushes_aside());
    let status = folder.status().expect("is there");
    assert_eq!((status.checkpoint.position, status.flushed), (0, 1));

    let second = visit_at(9);
    flush(&mut *model, 2, &second, false);
    assert!(!model.has_flushes_aside());
    assert_eq!(folder.status().expect("is there").checkpoint, at(2));
    assert_eq!(found(&*model, &[first, second]), [true, true]);
}

/// Files that lost their names and are open all the same.
fn nameless(folder: &Folder) -> usize {
    let folder = folder.path();
    let folder = folder.parent().expect("has one");
    let open = std::fs::read_dir("/proc/self/fd").expect("is there");
    let targets = open.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
    let is_one =
        |it: &PathBuf| it.starts_with(folder) && it.to_string_lossy().ends_with("(deleted)");
    targets.filter(is_one).count()
}

#[test]
fn a_reader_that_reads_no_more_lets_go_of_what_was_replaced() {
    let folder = Folder::new();
    let (mut model, _, [first, second]) = with_one_aside(&folder);
    let mut reader = model.reader().expect("a reader opens");
    let keys = [&*first.0, &*second.0];
    reader.get_many(0, &keys).expect("reads");
    rewrite(&mut *model, &visit_at(11), true).expect("rewrites");
    assert!(nameless(&folder) > 0, "the reader has the file and the run");
    reader.let_go().expect("opens the new one");
    let watch = Stopwatch::start();
    while nameless(&folder) > 0 {
        assert!(watch.elapsed() < Duration::from_secs(10), "still open");
        std::thread::sleep(Duration::from_millis(1));
    }
    let rows = reader.get_many(0, &keys).expect("reads");
    assert_eq!(rows, [Some(first.1), Some(second.1)]);
}

#[test]
fn what_is_kept_aside_is_read_and_goes_with_a_writer_that_dies() {
    let folder = Folder::new();
    let (model, manifest, entries) = with_one_aside(&folder);
    assert_eq!(found(&*model, &entries), [true, true]);
    let beside = std::fs::read_dir(folder.path().parent().expect("has one"));
    assert_eq!(beside.expect("reads").count(), 1, "it has no name");
    drop(model);
    let model = folder.open(&manifest, &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(1));
    assert_eq!(found(&*model, &entries), [true, false]);
}

#[test]
fn what_is_kept_aside_is_forgotten_when_the_writer_takes_it_back() {
    let folder = Folder::new();
    let (mut model, _, entries) = with_one_aside(&folder);
    model.rollback();
    assert_eq!(found(&*model, &entries), [true, false]);
    model.commit(at(5), 0.0).expect("commits");
    assert_eq!(found(&*model, &entries), [true, false]);
}

#[test]
fn what_is_kept_aside_is_committed_before_anything_else() {
    type Change<'a> = &'a dyn Fn(&mut dyn ReadModel);
    let third = visit_at(7);
    let others: [(&str, Change<'_>); 7] = [
        ("commit", &|model| {
            model.commit(at(3), 0.0).expect("commits");
        }),
        ("write", &|model| {
            model.write(&[put(&third, true)]).expect("writes");
        }),
        ("role", &|model| {
            model.set_role(Role::Live).expect("notes it");
        }),
        ("scan", &|model| {
            model.ensure_index(0, KEY_INDEX).expect("gets ready for it");
        }),
        ("journal", &|model| {
            model
                .record(&[entry(1, Decision::Skipped, true)])
                .expect("records");
        }),
        ("ready", &|model| model.prepare_ready().expect("gets ready")),
        ("rewrite", &|model| {
            rewrite(model, &third, true).expect("rewrites");
        }),
    ];
    for (what, change) in others {
        let folder = Folder::new();
        let (mut model, _, entries) = with_one_aside(&folder);
        change(&mut *model);
        let committed = folder.status().expect("is there").checkpoint.position;
        assert!(committed >= 2, "{what}: {committed}");
        model.rollback();
        assert_eq!(found(&*model, &entries), [true, true], "{what}");
    }
}

#[test]
fn closing_commits_what_is_kept_aside() {
    let folder = Folder::new();
    let (model, manifest, entries) = with_one_aside(&folder);
    model.close().expect("closes");
    let model = folder.open(&manifest, &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(2));
    assert_eq!(found(&*model, &entries), [true, true]);
}

#[test]
fn who_reads_the_file_is_in_nobodys_way() {
    let folder = Folder::new();
    let (mut model, _, entries) = with_one_aside(&folder);
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    outside
        .execute_batch("BEGIN; SELECT count(*) FROM visit;")
        .expect("reads");
    flush(&mut *model, 3, &entries[0], true);
    assert_eq!(found(&*model, &entries), [false, true]);
    let status = folder.status().expect("is there");
    assert_eq!((status.checkpoint, status.flushed), (at(1), 2), "not noted");
    drop(outside);
    flush(&mut *model, 4, &entries[0], false);
    assert_eq!(folder.status().expect("is there").flushed, 4);
    assert_eq!(found(&*model, &entries), [true, true]);
}

/// Files of earlier versions have nowhere to say how far the flushes are.
#[test]
fn a_file_without_progress_has_flushes_aside_all_the_same() {
    let folder = Folder::new();
    let (mut model, manifest, first) = rewritable(&folder);
    rewrite(&mut *model, &first, true).expect("rewrites");
    drop(model);
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    outside
        .execute_batch("DROP TABLE retell_progress")
        .expect("drops");
    drop(outside);
    let mut model = folder.open(&manifest, &provenance(), 1).expect("opens");
    let entries = [first, visit_at(9)];
    flush(&mut *model, 2, &entries[1], false);
    assert_eq!(found(&*model, &entries), [true, true]);
    let status = folder.status().expect("is there");
    assert_eq!((status.checkpoint, status.flushed), (at(1), 1));
    model.close().expect("closes");
    assert_eq!(folder.status().expect("is there").checkpoint, at(2));
}

#[test]
fn of_many_flushes_the_last_one_counts_and_they_do_not_wait_for_ever() {
    let folder = Folder::new();
    let (mut model, manifest, entries) = with_one_aside(&folder);
    let mut position = 2;
    while model.checkpoint() == at(1) {
        position += 1;
        flush(&mut *model, position, &entries[0], position % 2 == 1);
        assert_eq!(found(&*model, &entries), [position % 2 == 0, true]);
    }
    // The second one was the first that waited.
    assert_eq!(position - 1, limits::REWRITE_RUNS_MAX as u64);
    drop(model);
    let model = folder.open(&manifest, &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(position));
    assert_eq!(found(&*model, &entries), [position % 2 == 0, true]);
}

#[test]
fn who_was_shut_out_keeps_nothing_aside() {
    let folder = Folder::new();
    let (mut old, manifest, entries) = with_one_aside(&folder);
    let new = folder
        .open(&manifest, &provenance(), 2)
        .expect("takes over");
    let change = put(&entries[1], false);
    let refused = old.rewrite(Flush {
        tables: vec![(0, Box::new([change].into_iter()))],
        journal: &[],
        checkpoint: at(3),
        bytes: 1,
        is_last: false,
        may_wait: true,
        events_per_s: 0.0,
    });
    assert!(
        matches!(refused, Err(ReadModelError::FencedOff { .. })),
        "{refused:?}"
    );
    let closed = old.close();
    assert!(
        matches!(closed, Err(ReadModelError::FencedOff { .. })),
        "{closed:?}"
    );
    assert_eq!(new.checkpoint(), at(1));
    assert_eq!(folder.status().expect("is there").flushed, 2);
}

#[test]
fn a_rewrite_keeps_the_journal() {
    let folder = Folder::new();
    let (mut model, _, visit) = rewritable(&folder);
    let (first, second) = (
        entry(1, Decision::Skipped, true),
        entry(2, Decision::Skipped, true),
    );
    for entry in [&first, &second] {
        model
            .rewrite(Flush {
                tables: Vec::new(),
                journal: std::slice::from_ref(entry),
                checkpoint: at(entry.position),
                bytes: 0,
                is_last: false,
                may_wait: false,
                events_per_s: 0.0,
            })
            .expect("rewrites");
    }
    rewrite(&mut *model, &visit, true).expect("rewrites");
    assert_eq!(model.journal().expect("reads"), [first, second]);
    assert_eq!(folder.status().expect("is there").dead_letters, 2);
}

#[test]
fn a_rewrite_that_is_refused_changes_nothing() {
    let folder = Folder::new();
    let (mut model, _, visit) = rewritable(&folder);
    rewrite(&mut *model, &visit, true).expect("rewrites");
    let twice = rewrite(&mut *model, &visit, true);
    assert!(
        matches!(twice, Err(ReadModelError::Conflict { .. })),
        "{twice:?}"
    );
    model.rollback();
    let elsewhere = (encode_key(&[Value::Timestamp(6)]), visit.1.clone());
    let elsewhere = rewrite(&mut *model, &elsewhere, true);
    assert!(
        matches!(elsewhere, Err(ReadModelError::Row { .. })),
        "{elsewhere:?}"
    );
    model.rollback();
    assert_eq!(folder.status().expect("is there").checkpoint, at(1));
    let beside = std::fs::read_dir(folder.path().parent().expect("has one"));
    assert_eq!(beside.expect("reads").count(), 1);
    rewrite(&mut *model, &visit, false).expect("goes on");
}

#[test]
fn who_was_shut_out_does_not_rewrite() {
    let folder = Folder::new();
    let (mut old, manifest, visit) = rewritable(&folder);
    rewrite(&mut *old, &visit, true).expect("rewrites");
    let mut new = folder
        .open(&manifest, &provenance(), 2)
        .expect("takes over");
    let refused = rewrite(&mut *old, &visit, false);
    assert!(
        matches!(refused, Err(ReadModelError::FencedOff { .. })),
        "{refused:?}"
    );
    rewrite(&mut *new, &visit, false).expect("rewrites");
    let refused = rewrite(&mut *old, &visit, false);
    assert!(refused.is_err(), "its file is not even there any more");
    assert_eq!(folder.status().expect("is there").epoch, 2);
}

/// The taker finds the file locked by a rewrite, and another one in its place when that is over.
#[test]
fn a_taker_that_waits_for_a_rewrite_takes_over_what_comes_of_it() {
    let folder = Folder::new();
    let (mut old, manifest, visit) = rewritable(&folder);
    rewrite(&mut *old, &visit, true).expect("rewrites");
    let (went, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut waits = true;
            let changes = std::iter::from_fn(|| {
                if std::mem::take(&mut waits) {
                    went.wait();
                    // The taker is at work meanwhile, and most likely waits for the lock.
                    go.wait();
                    std::thread::yield_now();
                }
                None
            });
            old.rewrite(Flush {
                tables: vec![(0, Box::new(changes))],
                journal: &[],
                checkpoint: at(2),
                bytes: 0,
                is_last: false,
                may_wait: false,
                events_per_s: 0.0,
            })
            .expect("rewrites");
        });
        went.wait();
        let taker = scope.spawn(|| {
            go.wait();
            let model = SqliteReadModel::open(&folder.path(), &manifest, &provenance(), 2);
            model.expect("takes over").checkpoint()
        });
        assert_eq!(taker.join().expect("no panic"), at(2));
    });
    let status = folder.status().expect("is there");
    assert_eq!((status.epoch, status.checkpoint), (2, at(2)));
}

/// Somebody's habit of asking for a WAL, which would be played into the next file.
#[test]
fn a_file_that_was_given_a_journal_is_not_rewritten() {
    let folder = Folder::new();
    let (mut model, manifest, visit) = rewritable(&folder);
    rewrite(&mut *model, &visit, true).expect("rewrites");
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    outside
        .pragma_update(None, "journal_mode", "WAL")
        .expect("is possible");
    model.commit(at(2), 0.0).expect("commits");
    assert!(!model.is_to_be_rewritten(1 << 20, true).expect("says so"));
    model.write(&[put(&visit, false)]).expect("writes");
    model.commit(at(3), 0.0).expect("commits");
    drop((model, outside));
    let model = folder.open(&manifest, &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(3));
}

#[test]
fn the_last_rewrite_leaves_a_file_that_is_changed_in_place() {
    let folder = Folder::new();
    let (mut model, _, visit) = rewritable(&folder);
    let change = RowChange {
        table: 0,
        key: &visit.0,
        row: Some(&visit.1),
        fresh: true,
    };
    model
        .rewrite(Flush {
            tables: vec![(0, Box::new([change].into_iter()))],
            journal: &[],
            bytes: 0,
            is_last: true,
            may_wait: false,
            checkpoint: at(1),
            events_per_s: 0.0,
        })
        .expect("rewrites");
    assert!(!model.is_to_be_rewritten(1 << 20, true).expect("says so"));
    // A reader that stays does not keep it from getting ready.
    let reader = rusqlite::Connection::open(folder.path()).expect("opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM visit;")
        .expect("reads");
    model.prepare_ready().expect("gets ready");
    assert!(folder.status().expect("is there").ready);
}

/// What a loss of power can leave of a file that was just renamed.
#[test]
fn a_blank_file_is_begun_anew() {
    let folder = Folder::new();
    let (model, manifest, _) = rewritable(&folder);
    drop(model);
    std::fs::write(folder.path(), "").expect("writes");
    let opened = folder.open(&manifest, &provenance(), 1).map(|_| ());
    assert!(
        matches!(opened, Err(ReadModelError::Unsynced { .. })),
        "{opened:?}"
    );
    SqliteReadModel::drop_read_model(&folder.path(), &provenance().log_id).expect("drops");
    folder.create(&manifest, &provenance(), 1).expect("creates");
}

/// A half-written file must never be read as if it were whole, least of all by who can't mend it.
#[test]
fn a_reader_does_not_read_past_a_journal() {
    let folder = Folder::new();
    let (model, _, _) = rewritable(&folder);
    drop(model);
    let copies = ["", "-journal"].map(|suffix| {
        let writer = rusqlite::Connection::open(folder.path()).expect("opens");
        writer
            .execute_batch(
                "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE;
                 UPDATE retell_read_model SET position = 9;
                 CREATE TABLE x (a); INSERT INTO x VALUES (zeroblob(500000));",
            )
            .expect("writes");
        // As if it were killed now.
        std::fs::read(open::side_file(&folder.path(), suffix)).expect("reads")
    });
    std::fs::write(folder.path(), &copies[0]).expect("writes");
    let journal = open::side_file(&folder.path(), "-journal");
    std::fs::write(&journal, &copies[1]).expect("writes");
    match folder.status() {
        Ok(status) => assert_eq!(status.checkpoint.position, 0),
        Err(error) => assert!(!error.needs_a_new_build(), "{error}"),
    }
}

/// A table that is kept as a heap, of which rows may be added in any order of their keys.
fn heap() -> Manifest {
    let mut manifest = people();
    manifest.tables.truncate(1);
    manifest.tables[0].indexes.clear();
    manifest
}

/// What is in the table, and whether the file is sound.
fn ids(folder: &Folder) -> [String; 2] {
    let connection = Connection::open(folder.path()).expect("opens");
    let ids = "SELECT group_concat(id) FROM (SELECT id FROM person NOT INDEXED ORDER BY id)";
    [ids, "PRAGMA integrity_check"].map(|sql| {
        let text = connection.query_row(sql, [], |row| row.get(0));
        text.expect("reads")
    })
}

/// Rows that were changed in place lie in no order: a copy must not be taken for one that can be laid out
/// anew.
#[test]
fn a_copy_of_a_build_that_changes_in_place_goes_on_in_place() {
    let (folder, copied) = (Folder::new(), Folder::new());
    let manifest = heap();
    let mut model = folder.create(&manifest, &provenance(), 1).expect("creates");
    let people: Vec<Entry> = ["m", "c", "x", "a"]
        .map(|id| person(id, None, None, 1))
        .into();
    for (at_, one) in people.iter().enumerate() {
        model.write(&[put(one, true)]).expect("writes");
        model.commit(at(at_ as u64 + 1), 0.0).expect("commits");
    }
    // As a flush without rows leaves it.
    model
        .record(&[entry(1, Decision::Skipped, true)])
        .expect("records");
    model.commit(at(5), 0.0).expect("commits");
    model.close().expect("closes");
    SqliteReadModel::copy(&folder.path(), &copied.path()).expect("copies");
    let mut model = copied.open(&manifest, &provenance(), 2).expect("opens");
    let again = person("c", None, Some("Ulm"), 2);
    if model.is_to_be_rewritten(1 << 20, true).expect("says so") {
        rewrite(&mut *model, &again, false).expect("rewrites");
    } else {
        model.write(&[put(&again, false)]).expect("writes");
        model.commit(at(6), 0.0).expect("commits");
    }
    model.close().expect("closes");
    assert_eq!(ids(&copied), ["a,c,m,x", "ok"]);
}

#[test]
fn rows_in_no_order_are_not_laid_out() {
    let folder = Folder::new();
    let manifest = heap();
    let mut model = folder.create(&manifest, &provenance(), 1).expect("creates");
    rewrite(&mut *model, &person("c", None, None, 1), true).expect("rewrites");
    model.close().expect("closes");
    let added = person("a", None, None, 1);
    Connection::open(folder.path())
        .and_then(|it| it.execute("INSERT INTO person (id, age) VALUES ('a', 1)", []))
        .expect("somebody adds a row");
    let mut model = folder.open(&manifest, &provenance(), 2).expect("opens");
    let refused = rewrite(&mut *model, &added, false);
    assert!(
        matches!(refused, Err(ReadModelError::Malformed { .. })),
        "{refused:?}"
    );
}

/// An event that is retried before any other is applied leaves rows and no checkpoint.
#[test]
fn rows_before_the_first_checkpoint_are_kept() {
    let folder = Folder::new();
    let (mut model, _, visit) = rewritable(&folder);
    rewrite_to(&mut *model, Checkpoint::START, &visit, true).expect("rewrites");
    let later = [Value::Timestamp(6), Value::Null];
    let later = (encode_key(&later[..1]), encode_row(&later));
    rewrite(&mut *model, &later, true).expect("rewrites");
    let mut reader = model.reader().expect("a reader opens");
    let found = reader.get_many(0, &[&visit.0, &later.0]).expect("reads");
    assert_eq!(found, [Some(visit.1), Some(later.1)]);
}

/// A copy is synced, and may be taken to another machine, whatever ran where it was made.
#[test]
fn a_copy_is_not_taken_for_unsynced() {
    let (folder, copied) = (Folder::new(), Folder::new());
    let (mut model, manifest, visit) = rewritable(&folder);
    rewrite(&mut *model, &visit, true).expect("rewrites");
    let again = [Value::Timestamp(6), Value::Null];
    let again = (encode_key(&again[..1]), encode_row(&again));
    rewrite(&mut *model, &again, true).expect("rewrites");
    let boot = |folder: &Folder| -> Option<String> {
        let connection = Connection::open(folder.path()).expect("opens");
        let sql = "SELECT unsynced_boot FROM retell_read_model";
        connection
            .query_row(sql, [], |row| row.get(0))
            .expect("reads")
    };
    assert!(boot(&folder).is_some(), "it is not synced as it is");
    // In the place of what an earlier copy left there.
    for _ in 0..2 {
        SqliteReadModel::copy(&folder.path(), &copied.path()).expect("copies");
        assert_eq!(boot(&copied), None);
    }
    copied.open(&manifest, &provenance(), 2).expect("opens");
}

/// A note of what is not synced that is itself not synced could be lost alone.
#[test]
fn a_build_that_goes_on_notes_so_durably_first() {
    let folder = Folder::new();
    let (model, manifest, _) = rewritable(&folder);
    model.close().expect("closes");
    let marked = || -> Option<String> {
        let bytes = std::fs::read(folder.path()).expect("reads");
        let boot = open::boot_id().expect("Linux says it");
        let found = bytes.windows(boot.len()).any(|it| it == boot.as_bytes());
        found.then_some(boot)
    };
    assert_eq!(marked(), None);
    let mut model = folder.open(&manifest, &provenance(), 2).expect("opens");
    model
        .record(&[entry(1, Decision::Skipped, true)])
        .expect("records");
    model.commit(at(1), 0.0).expect("commits");
    model.close().expect("closes");
    assert_eq!(marked(), None);
    let model = folder.open(&manifest, &provenance(), 3).expect("opens");
    assert!(marked().is_some(), "it is in the WAL alone");
    drop(model);
}

//! Flushes that lay the file out anew: what they keep, what they refuse, and who may come between.

use retell_contract::manifest::Manifest;
use retell_contract::value::Value;
use retell_contract::{encode_key, encode_row};

use super::{Folder, SqliteReadModel};
use crate::read_model::conformance::{Place, at, entry, people, provenance, put};
use crate::read_model::journal::Decision;
use crate::read_model::sqlite::open;
use crate::read_model::{Flush, ReadModel, ReadModelError, Role, RowChange};

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

fn rewrite(
    model: &mut dyn ReadModel,
    (key, row): &Entry,
    fresh: bool,
) -> Result<(), ReadModelError> {
    assert!(model.is_to_be_rewritten(1 << 20)?);
    let change = RowChange {
        table: 0,
        key,
        row: Some(row),
        fresh,
    };
    model.rewrite(Flush {
        tables: vec![(0, Box::new([change].into_iter()))],
        journal: &[],
        checkpoint: at(model.checkpoint().position + 1),
        is_last: false,
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
    assert!(!model.is_to_be_rewritten(1 << 20).expect("says so"));
    assert_eq!(reader.get_many(0, &[&visit.0]).expect("reads").len(), 1);
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
                is_last: false,
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
                is_last: false,
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
    assert!(!model.is_to_be_rewritten(1 << 20).expect("says so"));
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
            is_last: true,
            checkpoint: at(1),
            events_per_s: 0.0,
        })
        .expect("rewrites");
    assert!(!model.is_to_be_rewritten(1 << 20).expect("says so"));
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
    SqliteReadModel::drop_read_model(&folder.path()).expect("drops");
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

//! What every backend of the read model must do, as tests that each backend binds with
//! `conformance_tests!`.

use retell_contract::encode_key;
use retell_contract::encode_row;
use retell_contract::manifest::{Envelope, Manifest, Shape, Table, TableColumn, TableIndex};
use retell_contract::value::{ColumnType, Value};

use super::journal::{DeadLetter, Decision, JournalEntry};
use super::{
    Checkpoint, KEY_INDEX, Provenance, ReadModel, ReadModelError, ReadModelStatus, Role, RowChange,
    RowReader,
};

mod random;

pub(crate) use random::equals_a_sorted_map;

/// One place that can hold one read model.
pub(crate) trait Place {
    fn create(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError>;
    fn open(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError>;
    fn status(&self) -> Result<ReadModelStatus, ReadModelError>;
}

/// Makes one test of each rule for a backend, given how it makes places.
macro_rules! conformance_tests {
    ($new_place:expr) => {
        crate::read_model::conformance::conformance_tests!($new_place =>
            a_fresh_one_is_empty_and_at_the_start
            nothing_is_created_over_another_or_opened_where_none_is
            rows_and_checkpoint_commit_as_one
            the_journal_commits_with_the_checkpoint
            readers_see_what_is_committed_then_and_later
            unique_values_can_be_swapped_in_one_flush
            an_owner_is_found_by_its_unique_value
            a_second_owner_of_a_unique_value_is_a_conflict
            a_fresh_row_that_exists_is_a_conflict
            a_writer_of_an_earlier_epoch_is_shut_out
            what_is_committed_while_one_takes_over_counts
            another_build_module_or_log_is_refused
            a_deferred_index_can_come_early
            what_the_manifest_lacks_is_refused
            a_row_that_is_none_is_refused_and_harms_nothing
            sql_in_a_name_is_a_name
            the_role_is_for_readers
            ready_is_lasting_and_said_once
            equals_a_sorted_map
        );
    };
    ($new_place:expr => $($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            crate::read_model::conformance::$rule(&|| Box::new($new_place));
        })*
    };
}
pub(crate) use conformance_tests;

pub(crate) type NewPlace<'a> = &'a dyn Fn() -> Box<dyn Place>;

pub(crate) fn provenance() -> Provenance {
    Provenance {
        projection: "people".into(),
        version: "1.2.3".into(),
        build: 7,
        module_digest: "ab".repeat(32),
        sdk: "0.1.0".into(),
        contract: "0.1.0".into(),
        log_id: "018f0000-0000-7000-8000-000000000000".into(),
    }
}

/// `person (id, email unique, town indexed, age)` and `visit (at)`.
pub(crate) fn people() -> Manifest {
    let column = |name: &str, kind, nullable| TableColumn {
        name: name.into(),
        kind,
        nullable,
    };
    let index = |name: &str, columns: &[u16], unique| TableIndex {
        name: name.into(),
        columns: columns.to_vec(),
        unique,
    };
    manifest(vec![
        Table {
            name: "person".into(),
            columns: vec![
                column("id", ColumnType::Text, false),
                column("email", ColumnType::Text, true),
                column("town", ColumnType::Text, true),
                column("age", ColumnType::Integer, false),
            ],
            key: vec![0],
            indexes: vec![index("email", &[1], true), index("town", &[2, 3], false)],
        },
        Table {
            name: "visit".into(),
            columns: vec![
                column("at", ColumnType::Timestamp, false),
                column("place", ColumnType::Json, true),
            ],
            key: vec![0],
            indexes: vec![],
        },
    ])
}

pub(crate) fn manifest(tables: Vec<Table>) -> Manifest {
    Manifest {
        name: "people".into(),
        version: "1.2.3".into(),
        shapes: vec![Shape {
            event_type: "*".into(),
            fields: vec![],
        }],
        tables,
        envelope: Envelope::default(),
        hints: vec![],
        after_replay: vec![],
    }
}

/// Encoded key and row of a person.
pub(crate) fn person(
    id: &str,
    email: Option<&str>,
    town: Option<&str>,
    age: i64,
) -> (Vec<u8>, Vec<u8>) {
    let text = |text: Option<&str>| text.map_or(Value::Null, |text| Value::Text(text.into()));
    let row = [
        Value::Text(id.into()),
        text(email),
        text(town),
        Value::Integer(age),
    ];
    (encode_key(&row[..1]), encode_row(&row))
}

pub(crate) fn put(entry: &(Vec<u8>, Vec<u8>), fresh: bool) -> RowChange<'_> {
    RowChange {
        table: 0,
        key: &entry.0,
        row: Some(&entry.1),
        fresh,
    }
}

pub(crate) fn at(position: u64) -> Checkpoint {
    Checkpoint {
        position,
        log_hash: [u8::try_from(position % 251).expect("below 251"); 32],
    }
}

fn reader(model: &dyn ReadModel) -> Box<dyn RowReader> {
    model.reader().expect("a reader opens")
}

/// How many rows of a table are committed.
pub(crate) fn count(model: &dyn ReadModel, table: u16) -> usize {
    let all = reader(model).scan(table, KEY_INDEX, &[], None, u32::MAX);
    all.expect("scans").len()
}

fn get(model: &dyn ReadModel, key: &[u8]) -> Option<Vec<u8>> {
    let mut rows = reader(model).get_many(0, &[key]).expect("reads");
    rows.pop().expect("one answer for one key")
}

/// An entry of the journal; `failed`: it is there for its own sake.
pub(crate) fn entry(position: u64, decision: Decision, failed: bool) -> JournalEntry {
    JournalEntry {
        position,
        stream: "wörds".into(),
        event_type: "Said".into(),
        decision,
        dead_letter: failed.then(|| DeadLetter {
            reason: "no \"such\" person".into(),
            backtrace: vec!["people::apply".into(), "people::find".into()],
            excerpt: r#"{"id":"é"}"#.into(),
        }),
    }
}

pub(crate) fn the_journal_commits_with_the_checkpoint(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    assert_eq!(model.journal().expect("reads"), []);
    let skipped = entry(3, Decision::Skipped, true);
    model
        .record(std::slice::from_ref(&skipped))
        .expect("records");
    model.rollback();
    assert_eq!(model.journal().expect("reads"), []);
    assert_eq!(place.status().expect("reads").dead_letters, 0);
    model
        .record(std::slice::from_ref(&skipped))
        .expect("records");
    model.commit(at(4), 0.0).expect("commits");
    assert_eq!(model.journal().expect("reads"), [skipped]);
    assert_eq!(place.status().expect("reads").dead_letters, 1);
    // Over what was there, and beside it.
    let retried = Decision::Retried {
        after: 7,
        number: 1,
    };
    let journal = [
        entry(3, retried, true),
        entry(5, Decision::Parked, true),
        entry(6, Decision::Parked, false),
        entry(8, Decision::Waiting, true),
    ];
    model.record(&journal).expect("records");
    model.commit(at(7), 0.0).expect("commits");
    drop(model);
    let status = place.status().expect("reads");
    assert_eq!((status.dead_letters, status.checkpoint), (3, at(7)));
    let mut model = place.open(&people(), &provenance(), 2).expect("opens");
    assert_eq!(model.journal().expect("reads"), journal);
}

pub(crate) fn a_fresh_one_is_empty_and_at_the_start(new_place: NewPlace<'_>) {
    let place = new_place();
    let model = place.create(&people(), &provenance(), 3).expect("creates");
    assert_eq!(model.checkpoint(), Checkpoint::START);
    assert!(!model.is_ready());
    for table in 0..2 {
        assert_eq!(count(&*model, table), 0);
    }
    let status = place.status().expect("reads");
    assert_eq!(status.provenance, provenance());
    assert_eq!(
        (status.role, status.checkpoint, status.ready, status.epoch),
        (Role::None, Checkpoint::START, false, 3)
    );
}

pub(crate) fn nothing_is_created_over_another_or_opened_where_none_is(new_place: NewPlace<'_>) {
    let place = new_place();
    let missing = place.open(&people(), &provenance(), 1).err();
    assert!(
        matches!(missing, Some(ReadModelError::Missing { .. })),
        "{missing:?}"
    );
    let missing = place.status().err();
    assert!(
        matches!(missing, Some(ReadModelError::Missing { .. })),
        "{missing:?}"
    );
    drop(place.create(&people(), &provenance(), 1).expect("creates"));
    let exists = place.create(&people(), &provenance(), 1).err();
    assert!(
        matches!(exists, Some(ReadModelError::Exists { .. })),
        "{exists:?}"
    );
}

pub(crate) fn rows_and_checkpoint_commit_as_one(new_place: NewPlace<'_>) {
    let place = new_place();
    let (ann, bob) = (person("ann", None, None, 1), person("bob", None, None, 2));
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(5), 10.0).expect("commits");
    model.write(&[put(&bob, true)]).expect("writes");
    assert_eq!(model.checkpoint(), at(5));
    assert_eq!(place.status().expect("reads").checkpoint, at(5));
    drop(model);

    let mut model = place.open(&people(), &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(5));
    assert_eq!(get(&*model, &ann.0).as_ref(), Some(&ann.1));
    assert_eq!(get(&*model, &bob.0), None);
    model.write(&[put(&bob, true)]).expect("writes");
    model.rollback();
    assert_eq!(get(&*model, &bob.0), None);
    model
        .commit(at(9), f64::NAN)
        .expect("commits without writes");
    assert_eq!(place.status().expect("reads").checkpoint, at(9));
    model.close().expect("closes");
    let model = place.open(&people(), &provenance(), 1).expect("opens");
    assert_eq!(model.checkpoint(), at(9));
}

pub(crate) fn readers_see_what_is_committed_then_and_later(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let mut reader = reader(&*model);
    let (young, old) = (
        person("ann", None, Some("Ulm"), 1),
        person("ann", None, Some("Ulm"), 99),
    );
    let town = encode_key(&[Value::Text("Ulm".into())]);
    let mut found = || reader.scan(0, 1, &town, None, 10).expect("scans");
    model.write(&[put(&young, true)]).expect("writes");
    model.write(&[put(&old, false)]).expect("writes again");
    assert_eq!(found(), []);
    model.commit(at(1), 0.0).expect("commits");
    let rows = found();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].key, &rows[0].row), (&old.0, &old.1));
    let delete = RowChange {
        table: 0,
        key: &old.0,
        row: None,
        fresh: false,
    };
    model.write(&[delete]).expect("deletes");
    assert_eq!(found().len(), 1);
    model.commit(at(2), 0.0).expect("commits");
    assert_eq!(found(), []);
}

/// The manifest check refuses such names; they would be harmless without it.
pub(crate) fn sql_in_a_name_is_a_name(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut people = people();
    let provenance = Provenance {
        projection: "\"; drop table".into(),
        ..provenance()
    };
    people.name.clone_from(&provenance.projection);
    let [person_table, visit] = people.tables.as_mut_slice() else {
        panic!("there are two tables")
    };
    person_table.name = "x\"; DROP TABLE \"retell_state\"; --".into();
    person_table.columns[1].name = "e'; DROP TABLE visit; --".into();
    person_table.columns[2].name = "\", (SELECT 1)) --".into();
    person_table.indexes[0].name = "i\" ON visit; --".into();
    person_table.indexes[1].name = "j\\\"'".into();
    visit.name = "v'\"; DELETE FROM events; --".into();

    let (ann, old) = (
        person("ann", Some("a@x"), Some("Ulm"), 1),
        person("ann", Some("b@x"), Some("Ulm"), 2),
    );
    let mut model = place.create(&people, &provenance, 1).expect("creates");
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    model.ensure_index(0, 1).expect("builds an index");
    model.write(&[put(&old, false)]).expect("writes again");
    model.commit(at(2), 0.0).expect("commits");
    let town = encode_key(&[Value::Text("Ulm".into())]);
    let found = reader(&*model).scan(0, 1, &town, None, 9).expect("scans");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].row, old.1);
    let owner = encode_key(&[Value::Text("b@x".into())]);
    let owner = reader(&*model).owner(0, 0, &owner).expect("looks");
    assert_eq!(owner.as_ref(), Some(&old.0));
    model.prepare_ready().expect("makes ready");
    assert_eq!(count(&*model, 1), 0);
    model.close().expect("closes");
    assert!(place.status().expect("reads").ready);
}

pub(crate) fn unique_values_can_be_swapped_in_one_flush(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let before = [
        person("ann", Some("a@x"), None, 1),
        person("bob", Some("b@x"), None, 2),
    ];
    model
        .write(&[put(&before[0], true), put(&before[1], true)])
        .expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    let after = [
        person("ann", Some("b@x"), None, 1),
        person("bob", Some("a@x"), None, 2),
        person("cat", None, None, 3),
        person("dan", None, None, 3),
    ];
    let changes: Vec<_> = after.iter().map(|entry| put(entry, false)).collect();
    model.write(&changes).expect("swaps");
    model.commit(at(2), 0.0).expect("commits");
    for (key, row) in &after {
        assert_eq!(get(&*model, key).as_ref(), Some(row));
    }
}

pub(crate) fn an_owner_is_found_by_its_unique_value(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let ann = person("ann", Some("a@x"), None, 1);
    model
        .write(&[put(&ann, true), put(&person("bob", None, None, 1), true)])
        .expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    let mut rows = reader(&*model);
    let mut owner = |email: Value| rows.owner(0, 0, &encode_key(&[email])).expect("reads");
    assert_eq!(owner(Value::Text("a@x".into())), Some(ann.0.clone()));
    assert_eq!(owner(Value::Text("A@x".into())), None);
    assert_eq!(owner(Value::Null), None);
}

pub(crate) fn a_second_owner_of_a_unique_value_is_a_conflict(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let (ann, bob) = (
        person("ann", Some("a@x"), None, 1),
        person("bob", Some("a@x"), None, 2),
    );
    let error = model.write(&[put(&ann, true), put(&bob, true)]).err();
    assert!(
        matches!(&error, Some(ReadModelError::Conflict { table, .. }) if table == "person"),
        "{error:?}"
    );
    model.rollback();
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
}

pub(crate) fn a_fresh_row_that_exists_is_a_conflict(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let ann = person("ann", None, None, 1);
    model.write(&[put(&ann, true)]).expect("writes");
    let error = model.write(&[put(&ann, true)]).err();
    assert!(
        matches!(error, Some(ReadModelError::Conflict { .. })),
        "{error:?}"
    );
}

pub(crate) fn a_writer_of_an_earlier_epoch_is_shut_out(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut old = place.create(&people(), &provenance(), 1).expect("creates");
    let mut new = place.open(&people(), &provenance(), 2).expect("takes over");
    let ann = person("ann", None, None, 1);
    let error = old.write(&[put(&ann, true)]).err();
    assert!(
        matches!(
            error,
            Some(ReadModelError::FencedOff {
                ours: 1,
                theirs: 2,
                ..
            })
        ),
        "{error:?}"
    );
    assert!(matches!(
        old.commit(at(1), 0.0),
        Err(ReadModelError::FencedOff { .. })
    ));
    assert!(matches!(
        old.prepare_ready(),
        Err(ReadModelError::FencedOff { .. })
    ));
    new.write(&[put(&ann, true)]).expect("writes");
    new.commit(at(1), 0.0).expect("commits");
    let back = place.open(&people(), &provenance(), 1).err();
    assert!(
        matches!(back, Some(ReadModelError::FencedOff { .. })),
        "{back:?}"
    );
}

/// A checkpoint that was read before the writer was shut out would have events applied twice.
pub(crate) fn what_is_committed_while_one_takes_over_counts(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut old = place.create(&people(), &provenance(), 1).expect("creates");
    let ann = person("ann", None, None, 1);
    old.write(&[put(&ann, true)]).expect("writes");
    let committing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        old.commit(at(7), 0.0).expect("commits");
    });
    let new = place.open(&people(), &provenance(), 2).expect("takes over");
    committing.join().expect("the old one ends");
    assert_eq!(new.checkpoint(), at(7));
}

pub(crate) fn another_build_module_or_log_is_refused(new_place: NewPlace<'_>) {
    let place = new_place();
    drop(place.create(&people(), &provenance(), 1).expect("creates"));
    let others = [
        (
            "projection",
            Provenance {
                projection: "x".into(),
                ..provenance()
            },
        ),
        (
            "version",
            Provenance {
                version: "9.9.9".into(),
                ..provenance()
            },
        ),
        (
            "build",
            Provenance {
                build: 8,
                ..provenance()
            },
        ),
        (
            "module",
            Provenance {
                module_digest: "cd".into(),
                ..provenance()
            },
        ),
        (
            "log",
            Provenance {
                log_id: "x".into(),
                ..provenance()
            },
        ),
    ];
    for (expected, other) in others {
        match place.open(&people(), &other, 9).err() {
            Some(ReadModelError::Other { what, .. }) => assert_eq!(what, expected),
            error => panic!("another {expected} should be refused, got {error:?}"),
        }
    }
    place
        .open(&people(), &provenance(), 1)
        .expect("the refused left no trace");
}

pub(crate) fn a_deferred_index_can_come_early(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let (ann, bob) = (
        person("ann", None, Some("Ulm"), 1),
        person("bob", None, Some("Ulm"), 2),
    );
    let scan = |model: &dyn ReadModel| {
        let town = encode_key(&[Value::Text("Ulm".into())]);
        let found = reader(model).scan(0, 1, &town, None, 10);
        found.expect("scans").len()
    };
    model.write(&[put(&ann, true)]).expect("writes");
    let open = model.ensure_index(0, 1).err();
    assert!(
        matches!(open, Some(ReadModelError::TransactionOpen { .. })),
        "{open:?}"
    );
    model.commit(at(1), 0.0).expect("commits");
    model.ensure_index(0, 1).expect("builds");
    model.ensure_index(0, 1).expect("has it already");
    model.write(&[put(&bob, true)]).expect("writes");
    model.rollback();
    assert_eq!(scan(&*model), 1);
    drop(model);
    let mut model = place.open(&people(), &provenance(), 1).expect("opens");
    assert_eq!(scan(&*model), 1);
    model.prepare_ready().expect("gets ready");
    model.write(&[put(&bob, true)]).expect("writes");
    model.commit(at(2), 0.0).expect("commits");
    assert_eq!(scan(&*model), 2);
}

pub(crate) fn what_the_manifest_lacks_is_refused(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let unknown = |error: Option<ReadModelError>| {
        let error = error.expect("is refused");
        assert!(error.is_the_modules_fault(), "{error}");
        error.to_string()
    };
    let mut rows = reader(&*model);
    let error = unknown(rows.get_many(2, &[]).err());
    assert!(error.contains("table 2"), "{error}");
    let error = unknown(rows.scan(0, 2, &[], None, 1).err());
    assert!(error.contains("index 2 of table `person`"), "{error}");
    let error = unknown(model.ensure_index(0, 2).err());
    assert!(error.contains("index 2 of table `person`"), "{error}");
    unknown(rows.owner(0, 1, &[]).err());
    // Half a text is not a prefix of whole columns.
    let error = unknown(rows.scan(0, KEY_INDEX, b"\x02an", None, 1).err());
    assert!(error.contains("prefix"), "{error}");
    let number = encode_key(&[Value::Integer(3)]);
    unknown(rows.get_many(0, &[&number]).err());
    unknown(rows.scan(0, KEY_INDEX, &[], Some(&number), 1).err());
}

pub(crate) fn a_row_that_is_none_is_refused_and_harms_nothing(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let ann = person("ann", None, None, 1);
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    let mut bad = person("bob", None, None, 1);
    bad.1.pop();
    let error = model.write(&[put(&bad, false)]).err();
    assert!(
        matches!(&error, Some(ReadModelError::Row { table, .. }) if table == "person"),
        "{error:?}"
    );
    model.rollback();
    assert_eq!(count(&*model, 0), 1);
}

pub(crate) fn the_role_is_for_readers(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    for role in [Role::Live, Role::Previous, Role::None] {
        model.set_role(role).expect("writes");
        assert_eq!(place.status().expect("reads").role, role);
    }
    model.write(&[]).expect("opens a transaction");
    assert!(matches!(
        model.set_role(Role::Live),
        Err(ReadModelError::TransactionOpen { .. })
    ));
}

pub(crate) fn ready_is_lasting_and_said_once(new_place: NewPlace<'_>) {
    let place = new_place();
    let mut model = place.create(&people(), &provenance(), 1).expect("creates");
    let ann = person("ann", Some("a@x"), Some("Ulm"), 1);
    model.write(&[put(&ann, true)]).expect("writes");
    assert!(matches!(
        model.prepare_ready(),
        Err(ReadModelError::TransactionOpen { .. })
    ));
    model.commit(at(1), 0.0).expect("commits");
    model.prepare_ready().expect("gets ready");
    model.prepare_ready().expect("is ready already");
    assert!(model.is_ready() && place.status().expect("reads").ready);
    model.write(&[put(&ann, false)]).expect("writes");
    model.commit(at(2), 0.0).expect("commits");
    drop(model);
    let model = place.open(&people(), &provenance(), 2).expect("opens");
    assert!(model.is_ready());
    assert_eq!(model.checkpoint(), at(2));
}

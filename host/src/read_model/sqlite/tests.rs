//! The conformance suite bound to SQLite, and what only SQLite can get wrong.

mod crash;
mod rewrite;

use std::path::PathBuf;

use retell_contract::manifest::{AfterReplay, Dialect, Manifest};
use tempfile::TempDir;

use super::SqliteReadModel;
use crate::read_model::conformance::{
    Place, at, conformance_tests, count, people, person, provenance, put,
};
use crate::read_model::{Provenance, ReadModel, ReadModelError, ReadModelStatus};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("people").join("1.2.3-7.db")
    }
}

impl Place for Folder {
    fn create(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        let model = SqliteReadModel::create(&self.path(), manifest, provenance, epoch)?;
        Ok(Box::new(model))
    }

    fn open(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        let model = SqliteReadModel::open(&self.path(), manifest, provenance, epoch)?;
        Ok(Box::new(model))
    }

    fn status(&self) -> Result<ReadModelStatus, ReadModelError> {
        SqliteReadModel::status(&self.path())
    }
}

conformance_tests!(Folder::new());

fn with_sql(sql: &str) -> Manifest {
    let mut manifest = people();
    manifest.after_replay = vec![
        AfterReplay {
            dialect: Dialect::Postgres,
            sql: "this is for PostgreSQL alone".into(),
        },
        AfterReplay {
            dialect: Dialect::Sqlite,
            sql: sql.into(),
        },
    ];
    manifest
}

/// A read model with one row, on which the after-replay SQL was run.
fn after(sql: &str) -> (Folder, Box<dyn ReadModel>, Result<(), ReadModelError>) {
    let folder = Folder::new();
    let mut model = folder
        .create(&with_sql(sql), &provenance(), 1)
        .expect("creates");
    let ann = person("ann", Some("a@x"), Some("Ulm"), 1);
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    let result = model.prepare_ready();
    (folder, model, result)
}

const FULL_TEXT: &str = "
    CREATE VIRTUAL TABLE person_search USING fts5(id UNINDEXED, town);
    INSERT INTO person_search (id, town) SELECT id, town FROM person;
    CREATE TRIGGER person_search_in AFTER INSERT ON person BEGIN
        INSERT INTO person_search (id, town) VALUES (new.id, new.town);
    END;
    CREATE TRIGGER person_search_out AFTER DELETE ON person BEGIN
        DELETE FROM person_search WHERE id = old.id;
    END;
    CREATE TRIGGER person_search_on AFTER UPDATE ON person BEGIN
        UPDATE person_search SET town = new.town WHERE id = new.id;
    END;
    CREATE VIEW adult AS SELECT * FROM person WHERE age >= 18;
    CREATE INDEX person_age ON person (age);
    CREATE TABLE counted (town TEXT PRIMARY KEY, people INTEGER);
    INSERT INTO counted SELECT town, count(*) FROM person GROUP BY town;
    ANALYZE";

#[test]
fn after_replay_sql_makes_full_text_indexes_that_follow_the_rows() {
    let (folder, mut model, result) = after(FULL_TEXT);
    result.expect("gets ready");
    let search = |word: &str| -> Vec<String> {
        let connection = rusqlite::Connection::open(folder.path()).expect("opens");
        let mut statement = connection
            .prepare("SELECT id FROM person_search(?1) ORDER BY id")
            .expect("prepares");
        let ids = statement
            .query_map([word], |row| row.get(0))
            .expect("reads");
        ids.collect::<Result<_, _>>().expect("reads")
    };
    assert_eq!(search("ulm"), ["ann"]);
    let moved = [
        person("ann", Some("a@x"), Some("Bonn"), 1),
        person("bob", None, Some("Bonn am Rhein"), 30),
    ];
    model
        .write(&[put(&moved[0], false), put(&moved[1], true)])
        .expect("writes");
    model.commit(at(2), 0.0).expect("commits");
    assert_eq!(search("ulm"), [""; 0]);
    assert_eq!(search("bonn"), ["ann", "bob"]);
    drop(model);
    let mut model = folder
        .open(&with_sql(FULL_TEXT), &provenance(), 1)
        .expect("opens");
    let gone = crate::read_model::RowChange {
        table: 0,
        key: &moved[0].0,
        row: None,
        fresh: false,
    };
    model.write(&[gone]).expect("deletes");
    model.commit(at(3), 0.0).expect("commits");
    assert_eq!(search("bonn"), ["bob"]);
}

#[test]
fn after_replay_sql_may_not_touch_what_is_not_its_own() {
    let trigger = |body: &str| format!("CREATE TRIGGER t AFTER INSERT ON person BEGIN {body}; END");
    let cases: Vec<(String, &str)> = vec![
        (
            "DELETE FROM person".into(),
            "delete from the table `person`",
        ),
        (
            "UPDATE Person SET age = 3".into(),
            "update the table `person`",
        ),
        (
            "INSERT INTO visit VALUES (1, NULL)".into(),
            "insert into the table `visit`",
        ),
        (
            "WITH x AS (SELECT 1) DELETE FROM person".into(),
            "delete from the table `person`",
        ),
        ("DROP TABLE visit".into(), "the table `visit`"),
        (
            "ALTER TABLE person ADD COLUMN x".into(),
            "the table `person`",
        ),
        (
            "ALTER TABLE person RENAME TO human".into(),
            "the table `person`",
        ),
        (
            "UPDATE retell_read_model SET position = 99".into(),
            "the table `retell_read_model`",
        ),
        (
            "DROP TABLE retell_read_model".into(),
            "the table `retell_read_model`",
        ),
        ("CREATE TABLE retell_x (a)".into(), "the table `retell_x`"),
        (
            "CREATE TABLE x (a); ALTER TABLE x RENAME TO retell_x".into(),
            "`retell_x`",
        ),
        (
            "DROP INDEX \"person.email\"".into(),
            "the index `person.email`",
        ),
        (
            "CREATE UNIQUE INDEX one_town ON person (town)".into(),
            "the index `one_town`",
        ),
        ("ATTACH 'x.db' AS x".into(), "attach"),
        ("PRAGMA synchronous = OFF".into(), "PRAGMA synchronous"),
        (
            "SELECT * FROM pragma_table_list".into(),
            "PRAGMA table_list",
        ),
        ("COMMIT".into(), "transaction"),
        ("SAVEPOINT x".into(), "transaction"),
        ("CREATE TEMP TABLE x (a)".into(), "temporary"),
        (
            "SELECT load_extension('x')".into(),
            "extensions can't be loaded",
        ),
        ("CREATE VIRTUAL TABLE x USING dbstat".into(), "`dbstat`"),
        ("VACUUM".into(), "statement 1 of script 1"),
        (
            trigger("UPDATE person SET age = 0"),
            "the trigger `t` would update the table `person`",
        ),
        (
            trigger("DELETE FROM retell_read_model"),
            "the trigger `t` would delete from the table `retell_read_model`",
        ),
        (trigger("INSERT INTO nowhere VALUES (1)"), "nowhere"),
        (
            trigger("SELECT RAISE(IGNORE)"),
            "the trigger `t` on table `person` could drop rows",
        ),
        (
            "CREATE TABLE a (b); SELECT 1; CREATE TABEL x (y)".into(),
            "statement 3 of script 1",
        ),
        (
            "CREATE VIEW v AS SELECT * FROM person; SELECT nothing FROM v".into(),
            "statement 2",
        ),
    ];
    for (sql, expected) in cases {
        let (folder, mut model, result) = after(&sql);
        match result {
            Err(error @ ReadModelError::AfterReplay { .. }) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{sql}: {error}");
            }
            other => panic!("{sql} should be refused, got {other:?}"),
        }
        assert!(!model.is_ready() && !folder.status().expect("reads").ready);
        // Nothing of it stays, and the version goes on.
        let bob = person("bob", None, None, 2);
        model.write(&[put(&bob, true)]).expect("writes");
        model.commit(at(2), 0.0).expect("commits");
        assert_eq!(count(&*model, 0), 2, "{sql}");
    }
}

/// An index that the module made does not take a row: that is the module's fault, and no reason to try
/// again for ever.
#[test]
fn an_index_that_does_not_take_a_row_says_so() {
    let sql = "CREATE INDEX person_json ON person (json_extract(town, '$.a')) WHERE age > 5";
    let (_folder, mut model, result) = after(sql);
    result.expect("gets ready");
    let bob = person("bob", None, Some("no JSON"), 6);
    let error = model.write(&[put(&bob, true)]).expect_err("is refused");
    assert!(error.is_the_modules_fault(), "{error:?}");
    let says = "does not take a row of table `person`: malformed JSON";
    assert!(error.to_string().ends_with(says), "{error}");
}

#[test]
fn a_virtual_table_cannot_take_a_table_of_the_manifest_for_its_own() {
    let mut manifest = with_sql("CREATE VIRTUAL TABLE person USING fts4(x)");
    manifest.tables[0].name = "person_stat".into();
    let folder = Folder::new();
    let mut model = folder.create(&manifest, &provenance(), 1).expect("creates");
    let error = model.prepare_ready().expect_err("is refused").to_string();
    assert!(error.contains("`person_stat`"), "{error}");
}

#[test]
fn files_that_are_none_of_ours_are_refused_and_stay_as_they_are() {
    let folder = Folder::new();
    let path = folder.path();
    std::fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
    for content in [&b"hello"[..], &[7; 10_000]] {
        std::fs::write(&path, content).expect("writes");
        let opened = folder.open(&people(), &provenance(), 1).err();
        let status = folder.status().err();
        for error in [opened, status] {
            assert!(
                error
                    .as_ref()
                    .is_some_and(|error| error.to_string().contains("not a read model")),
                "{error:?}"
            );
        }
        assert_eq!(std::fs::read(&path).expect("reads"), content);
    }
    std::fs::remove_file(&path).expect("removes");
    let foreign = rusqlite::Connection::open(&path).expect("opens");
    foreign
        .execute_batch(
            "CREATE TABLE retell_read_model (a); INSERT INTO retell_read_model VALUES (1)",
        )
        .expect("writes");
    let error = folder
        .open(&people(), &provenance(), 1)
        .err()
        .expect("is refused");
    assert!(error.to_string().contains("of another make"), "{error}");
}

#[test]
fn a_machine_that_died_while_replaying_is_noticed() {
    let folder = Folder::new();
    drop(folder.create(&people(), &provenance(), 1).expect("creates"));
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    let pretend = |boot: &str| {
        outside
            .execute("UPDATE retell_read_model SET unsynced_boot = ?1", [boot])
            .expect("writes");
    };
    pretend("an earlier boot");
    let error = folder
        .open(&people(), &provenance(), 1)
        .err()
        .expect("is refused");
    assert!(matches!(error, ReadModelError::Unsynced { .. }), "{error}");
    assert!(error.needs_a_new_build() && error.hint().is_some());

    let marker = || -> Option<String> {
        outside
            .query_row("SELECT unsynced_boot FROM retell_read_model", [], |row| {
                row.get(0)
            })
            .expect("reads")
    };
    pretend(&super::open::boot_id().expect("Linux has one"));
    let model = folder.open(&people(), &provenance(), 1).expect("opens");
    model.close().expect("closes");
    assert_eq!(marker(), None);
    let mut model = folder.open(&people(), &provenance(), 1).expect("opens");
    assert!(marker().is_some());
    model.prepare_ready().expect("gets ready");
    assert_eq!(marker(), None);
    drop(model);
    drop(folder.open(&people(), &provenance(), 1).expect("opens"));
    assert_eq!(marker(), None);
}

#[test]
fn looking_for_a_read_model_makes_no_files() {
    let folder = Folder::new();
    assert!(folder.status().is_err());
    assert!(!folder.path().parent().expect("has one").exists());
}

#[test]
fn the_digest_is_of_the_content_and_not_of_its_making() {
    let digest = |folder: &Folder, manifest: &Manifest| {
        SqliteReadModel::digest(&folder.path(), manifest).expect("reads")
    };
    let entries = ["ann", "bob", "cat"].map(|id| person(id, Some(&format!("{id}@x")), None, 1));
    let one = Folder::new();
    let mut model = one.create(&people(), &provenance(), 1).expect("creates");
    let empty = digest(&one, &people());
    model
        .write(&entries.each_ref().map(|e| put(e, true)))
        .expect("writes");
    // What is not committed is not in it.
    assert_eq!(digest(&one, &people()), empty);
    model.commit(at(9), 0.0).expect("commits");

    let (other, mut slow, result) = after(FULL_TEXT);
    result.expect("gets ready");
    for entry in entries.iter().rev() {
        slow.write(&[put(entry, false)]).expect("writes");
        slow.commit(at(9), 0.0).expect("commits");
    }
    let mut renamed = people();
    renamed.tables.reverse();
    let (a, b) = (digest(&one, &people()), digest(&other, &renamed));
    assert_eq!(a, b);
    assert_eq!(a.position, 9);
    assert_ne!(a.digest, empty.digest);
}

#[test]
fn readers_of_a_dropped_read_model_get_an_error_and_no_stale_rows() {
    let (folder, model, result) = after(FULL_TEXT);
    result.expect("gets ready");
    let reader = rusqlite::Connection::open(folder.path()).expect("opens");
    let count = || {
        reader.query_row("SELECT count(*) FROM person", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    assert_eq!(count(), Ok(1));
    model.close().expect("closes");
    SqliteReadModel::drop_read_model(&folder.path(), &provenance().log_id).expect("drops");
    let error = count().expect_err("has no table any more").to_string();
    assert!(error.contains("no such table"), "{error}");
    drop(reader);
    let left = std::fs::read_dir(folder.path().parent().expect("has one")).expect("reads");
    assert_eq!(left.count(), 0);
    SqliteReadModel::drop_read_model(&folder.path(), &provenance().log_id)
        .expect("has nothing left to do");
}

#[test]
fn a_drop_that_was_cut_off_is_finished_by_the_next() {
    let folder = Folder::new();
    drop(folder.create(&people(), &provenance(), 1).expect("creates"));
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    outside
        .execute_batch(
            "DROP TABLE person; DROP TABLE visit; DROP TABLE retell_progress;
             DROP TABLE retell_read_model",
        )
        .expect("drops");
    drop(outside);
    SqliteReadModel::drop_read_model(&folder.path(), &provenance().log_id).expect("finishes");
    assert!(!folder.path().exists());
}

#[test]
fn what_late_readers_leave_of_a_dropped_one_is_swept_up() {
    let folder = Folder::new();
    let home = folder.path().parent().expect("has one").to_owned();
    std::fs::create_dir_all(&home).expect("makes it");
    let kept = ["build-2-1.0.0.db", "build-2-1.0.0.db-wal", "mine.db-wal"];
    for name in kept
        .iter()
        .chain(&["build-1-1.0.0.db-wal", "build-1-1.0.0.db-shm"])
    {
        std::fs::write(home.join(name), "").expect("writes");
    }
    SqliteReadModel::sweep(&home).expect("sweeps");
    let left = std::fs::read_dir(&home).expect("reads").flatten();
    let mut left: Vec<_> = left.map(|it| it.file_name()).collect();
    left.sort();
    assert_eq!(left, kept);
    SqliteReadModel::sweep(&home.join("nowhere")).expect("is nothing to do");
}

#[test]
fn only_read_models_are_dropped() {
    let folder = Folder::new();
    let path = folder.path();
    std::fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
    let foreign = rusqlite::Connection::open(&path).expect("opens");
    foreign
        .execute_batch("CREATE TABLE mine (a)")
        .expect("writes");
    drop(foreign);
    let error =
        SqliteReadModel::drop_read_model(&path, &provenance().log_id).expect_err("is refused");
    assert!(
        matches!(error, ReadModelError::NotAReadModel { .. }),
        "{error}"
    );
    // What is no database at all is a read model that was damaged.
    std::fs::write(&path, "once a read model".repeat(100)).expect("writes");
    SqliteReadModel::drop_read_model(&path, &provenance().log_id).expect("drops");
    assert!(!path.exists());
}

#[test]
fn a_creation_that_was_cut_off_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    let path = folder.path();
    std::fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
    for suffix in [".new", ".new-wal", ".new-shm"] {
        std::fs::write(super::open::side_file(&path, suffix), "half").expect("writes");
    }
    let model = folder.create(&people(), &provenance(), 1).expect("creates");
    model.close().expect("closes");
    let left = std::fs::read_dir(path.parent().expect("has one")).expect("reads");
    assert_eq!(left.count(), 1);
}

#[test]
fn a_creation_that_was_cut_off_at_its_end_leaves_no_second_name() {
    let folder = Folder::new();
    let path = folder.path();
    let second = super::open::side_file(&path, ".new");
    drop(folder.create(&people(), &provenance(), 1).expect("creates"));
    std::fs::hard_link(&path, &second).expect("links");
    drop(folder.open(&people(), &provenance(), 2).expect("opens"));
    assert!(!second.exists());
    // Nor where it is dropped before anyone opens it.
    std::fs::hard_link(&path, &second).expect("links");
    SqliteReadModel::drop_read_model(&path, &provenance().log_id).expect("drops");
    assert!(!path.exists() && !second.exists());
}

#[test]
fn a_modules_sql_does_not_read_raw_pages() {
    let (_folder, _model, result) = after("CREATE TABLE copy AS SELECT data FROM sqlite_dbpage");
    let error = result.expect_err("is refused");
    assert!(error.to_string().contains("sqlite_dbpage"), "{error}");
}

#[test]
fn an_index_is_deferred_until_it_is_asked_for() {
    let folder = Folder::new();
    let mut model = folder.create(&people(), &provenance(), 1).expect("creates");
    let outside = rusqlite::Connection::open(folder.path()).expect("opens");
    let exists = || {
        outside
            .prepare("SELECT 1 FROM sqlite_schema WHERE name = 'person.town'")
            .and_then(|mut statement| statement.exists([]))
            .expect("reads")
    };
    assert!(!exists(), "it is deferred");
    model.ensure_index(0, 1).expect("builds");
    assert!(exists());
}

/// Else the first flush of a version that follows would move a whole index into the file.
#[test]
fn indexes_are_in_the_file_itself_when_it_is_ready() {
    let folder = Folder::new();
    let mut model = folder.create(&people(), &provenance(), 1).expect("creates");
    let town = "x".repeat(500);
    let all: Vec<_> = (0..10_000)
        .map(|n| person(&format!("{n:05}"), None, Some(&town), n))
        .collect();
    let changes: Vec<_> = all.iter().map(|it| put(it, true)).collect();
    model.write(&changes).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    model.prepare_ready().expect("gets ready");

    let alone = folder.path().with_extension("alone");
    std::fs::copy(folder.path(), &alone).expect("copies");
    let indexed: i64 = rusqlite::Connection::open(&alone)
        .and_then(|it| {
            let sql = "SELECT count(*) FROM person INDEXED BY \"person.town\" WHERE town > ''";
            it.query_row(sql, [], |row| row.get(0))
        })
        .expect("has the index");
    assert_eq!(indexed, 10_000);
}

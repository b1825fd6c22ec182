//! What opening does with whatever is at the path.

use std::fs;

use rusqlite::Connection;

use super::{Folder, SqliteLog};
use crate::log::{EventLog, LogError, OpenMode};

use OpenMode::{CreateIfMissing, CreateOrMigrate, Existing};

async fn refusal(folder: &Folder, mode: OpenMode) -> String {
    match SqliteLog::open(folder.path(), mode).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            let path = folder.path().display().to_string();
            format!("{error}\nhint: {hint}").replace(&path, "LOG")
        }
    }
}

async fn same_for_all_modes(folder: &Folder) -> String {
    let first = refusal(folder, Existing).await;
    for mode in [CreateIfMissing, CreateOrMigrate] {
        assert_eq!(refusal(folder, mode).await, first);
    }
    first
}

#[tokio::test]
async fn a_missing_log_is_created_only_when_asked() {
    let folder = Folder::new();
    insta::assert_snapshot!(refusal(&folder, Existing).await, @r"
    there is no event log at LOG
    hint: create one with `retell init`, or name another folder with --data
    ");
    assert!(
        !folder.path().parent().unwrap().exists(),
        "the folder was created"
    );
    let log = SqliteLog::open(folder.path(), CreateIfMissing)
        .await
        .unwrap();
    assert!(log.was_prepared());
    let again = SqliteLog::open(folder.path(), CreateOrMigrate)
        .await
        .unwrap();
    assert!(!again.was_prepared());
    assert_eq!(log.log_id(), again.log_id());
    assert_eq!(log.log_id().len(), 36);
}

#[tokio::test]
async fn what_is_no_log_is_refused_and_left_alone() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
    fs::write(
        folder.path(),
        "this is a text and no database, whatever its name says",
    )
    .unwrap();
    insta::assert_snapshot!(same_for_all_modes(&folder).await, @r"
    LOG is not an event log: it is not an SQLite database
    hint: name the folder of an instance with --data, or another log with --log
    ");
    fs::remove_file(folder.path()).unwrap();
    Connection::open(folder.path())
        .unwrap()
        .execute_batch("CREATE TABLE customers (id)")
        .unwrap();
    let before = fs::read(folder.path()).unwrap();
    insta::assert_snapshot!(same_for_all_modes(&folder).await, @r"
    LOG is not an event log: it is an SQLite database with other tables
    hint: name the folder of an instance with --data, or another log with --log
    ");
    assert_eq!(fs::read(folder.path()).unwrap(), before);
    fs::remove_file(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    assert!(refusal(&folder, Existing).await.contains("it is a folder"));
}

#[tokio::test]
async fn a_newer_log_is_refused() {
    let folder = Folder::new();
    SqliteLog::open(folder.path(), CreateIfMissing)
        .await
        .unwrap();
    let tool = Connection::open(folder.path()).unwrap();
    tool.execute_batch(
        "INSERT INTO retell_log_migrations VALUES (999, 'later', 0, true, x'00', 0)",
    )
    .unwrap();
    insta::assert_snapshot!(same_for_all_modes(&folder).await, @r"
    the event log at LOG was written by a newer retell: its schema is 999, this one knows up to 1
    hint: use the newer retell, `retell --version` says which one this is
    ");
    tool.execute_batch(
        "DELETE FROM retell_log_migrations WHERE version = 999;
         UPDATE log_head SET format = 2 WHERE false;
         DROP TRIGGER log_head_update;
         UPDATE log_head SET format = 2",
    )
    .unwrap();
    assert!(refusal(&folder, Existing).await.contains("newer retell"));
}

#[tokio::test]
async fn an_interrupted_creation_is_finished() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
    // SQLite makes the file before anything is in it …
    fs::write(folder.path(), "").unwrap();
    assert!(
        refusal(&folder, Existing)
            .await
            .contains("there is no event log")
    );
    SqliteLog::open(folder.path(), CreateIfMissing)
        .await
        .unwrap();
    // … and the id comes after the schema.
    let tool = Connection::open(folder.path()).unwrap();
    tool.execute_batch("DROP TRIGGER log_head_delete; DELETE FROM log_head")
        .unwrap();
    insta::assert_snapshot!(refusal(&folder, Existing).await, @r"
    the event log at LOG has schema 0, older than 1, which this retell needs
    hint: bring it up to date with `retell migrate`
    ");
    let log = SqliteLog::open(folder.path(), CreateIfMissing)
        .await
        .unwrap();
    assert_eq!(log.head().await.unwrap().position, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_create_it_at_once() {
    for _ in 0..5 {
        let folder = Folder::new();
        let opening: Vec<_> = (0..4)
            .map(|_| tokio::spawn(SqliteLog::open(folder.path(), CreateIfMissing)))
            .collect();
        let mut ids = Vec::new();
        for open in opening {
            ids.push(open.await.unwrap().unwrap().log_id().to_owned());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn a_log_without_room_or_rights_says_so() {
    let folder = Folder::new();
    // Works for root too: a file stands where the folder should be.
    fs::write(folder.path().parent().unwrap(), "").unwrap();
    let error = SqliteLog::open(folder.path(), CreateIfMissing)
        .await
        .err()
        .expect("there is no folder to create it in");
    assert!(
        matches!(error, LogError::ReadOnly { .. } | LogError::Create { .. }),
        "{error}"
    );
}

//! The schema refuses what would change the log, from any tool.

use rusqlite::Connection;

use super::Folder;
use crate::log::conformance::{Place, append, event, everything, open, with_id};

#[tokio::test]
async fn no_statement_changes_or_removes_an_event() {
    let folder = Folder::new();
    let log = open(&folder).await;
    let events = [
        with_id("a", event("s", "T", "1")),
        with_id("b", event("s", "T", "2")),
    ];
    append(&*log, &events).await.unwrap();
    let before = everything(&*log).await;

    // A tool that knows nothing of retell: default settings, no shared code.
    let tool = Connection::open(folder.path()).unwrap();
    let row = |position: i64, id: &str, stream: &str, revision: i64| {
        format!(
            "(position, id, stream, revision, type, recorded_at, hash, payload)
             VALUES ({position}, '{id}', '{stream}', {revision}, 'T', 0, zeroblob(32), '9')"
        )
    };
    let refused = [
        "UPDATE events SET payload = '9' WHERE position = 1".to_owned(),
        "UPDATE OR REPLACE events SET position = 2 WHERE position = 1".to_owned(),
        "UPDATE OR IGNORE events SET payload = '9'".to_owned(),
        "UPDATE events SET position = position + 10".to_owned(),
        "DELETE FROM events WHERE position = 2".to_owned(),
        "DELETE FROM events".to_owned(),
        // An existing position, id, or stream and revision, each overwritten.
        format!("INSERT OR REPLACE INTO events {}", row(1, "c", "t", 1)),
        format!("INSERT OR REPLACE INTO events {}", row(3, "a", "t", 1)),
        format!("INSERT OR REPLACE INTO events {}", row(3, "c", "s", 1)),
        format!("REPLACE INTO events {}", row(2, "b", "s", 2)),
        format!("INSERT OR IGNORE INTO events {}", row(1, "c", "t", 1)),
        format!(
            "INSERT INTO events {} ON CONFLICT DO UPDATE SET payload = '9'",
            row(1, "a", "s", 1)
        ),
        format!(
            "INSERT INTO events {} ON CONFLICT (id) DO UPDATE SET payload = '9'",
            row(3, "a", "s", 3)
        ),
        // Gaps, and positions that SQLite would choose by itself.
        format!("INSERT INTO events {}", row(4, "c", "t", 1)),
        format!("INSERT INTO events {}", row(0, "c", "t", 1)),
        format!("INSERT INTO events {}", row(-1, "c", "t", 1)),
        format!("INSERT INTO events {}", row(3, "c", "s", 4)),
        format!("INSERT INTO events {}", row(3, "c", "t", 2)),
        "INSERT INTO events (id, stream, revision, type, recorded_at, hash, payload)
         VALUES ('c', 't', 1, 'T', 0, zeroblob(32), '9')"
            .to_owned(),
        "INSERT INTO events SELECT * FROM events".to_owned(),
        format!(
            "INSERT INTO events {}",
            row(3, "c", "t", 1).replace("zeroblob(32)", "NULL")
        ),
        // The head.
        "DELETE FROM log_head".to_owned(),
        "UPDATE log_head SET log_id = 'other'".to_owned(),
        "UPDATE log_head SET position = 1".to_owned(),
        "UPDATE log_head SET position = 3".to_owned(),
        "UPDATE log_head SET hash = zeroblob(32)".to_owned(),
        "UPDATE log_head SET format = 0".to_owned(),
        "INSERT INTO log_head VALUES (2, 'other', 1, 0, zeroblob(32), 0)".to_owned(),
        "INSERT OR REPLACE INTO log_head VALUES (1, 'other', 1, 0, zeroblob(32), 0)".to_owned(),
    ];
    for statement in refused {
        let done = tool.execute_batch(&statement);
        assert!(done.is_err(), "went through: {statement}");
        assert_eq!(everything(&*log).await, before, "{statement}");
    }
    assert_eq!(folder.verify_chain().await.unwrap().position, 2);
    append(&*log, &[event("s", "T", "3")]).await.unwrap();
    assert_eq!(folder.verify_chain().await.unwrap().position, 3);
}

#[tokio::test]
async fn a_changed_event_does_not_pass_verification() {
    let folder = Folder::new();
    let log = open(&folder).await;
    let events: Vec<_> = (1..=5).map(|i| event("s", "T", &i.to_string())).collect();
    append(&*log, &events).await.unwrap();
    // Somebody who takes the triggers away first.
    let tool = Connection::open(folder.path()).unwrap();
    tool.execute_batch("DROP TRIGGER events_update; DROP TRIGGER events_delete")
        .unwrap();
    for (change, back) in [
        ("payload = '9'", "payload = '3'"),
        ("type = 'U'", "type = 'T'"),
    ] {
        tool.execute_batch(&format!("UPDATE events SET {change} WHERE position = 3"))
            .unwrap();
        assert_eq!(folder.verify_chain().await, Err(3), "{change}");
        tool.execute_batch(&format!("UPDATE events SET {back} WHERE position = 3"))
            .unwrap();
        // The events are whole; the triggers are missing.
        assert_eq!(folder.verify_chain().await, Err(6));
    }
    // A log that lost its end is not appended to.
    tool.execute_batch("DELETE FROM events WHERE position = 5")
        .unwrap();
    let error = append(&*log, &[event("s", "T", "6")]).await.unwrap_err();
    insta::assert_snapshot!(
        error.to_string().replace(&folder.path().display().to_string(), "LOG"),
        @"the event log at LOG ends at position 4, and 5 was seen before"
    );
}

#[tokio::test]
async fn a_guard_that_was_dropped_is_missed() {
    let folder = Folder::new();
    let log = open(&folder).await;
    append(&*log, &[event("s", "T", "1")]).await.unwrap();
    let tool = Connection::open(folder.path()).unwrap();
    let names = "SELECT group_concat(type || ' ' || name, ',') FROM sqlite_schema
                 WHERE type IN ('trigger', 'index') AND sql IS NOT NULL
                     AND tbl_name IN ('events', 'log_head')";
    let names: String = tool.query_row(names, [], |row| row.get(0)).unwrap();
    assert_eq!(names.split(',').count(), 9);
    for name in names.split(',') {
        let name_of_it = name.split(' ').next_back().unwrap();
        let sql: String = tool
            .query_row(
                "SELECT sql FROM sqlite_schema WHERE name = ?1",
                [name_of_it],
                |row| row.get(0),
            )
            .unwrap();
        folder.verify_chain().await.expect("it is whole");
        tool.execute_batch(&format!("DROP {name}")).unwrap();
        folder.verify_chain().await.expect_err(name);
        tool.execute_batch(&sql).unwrap();
    }
}

#[tokio::test]
async fn an_empty_text_is_not_taken_for_none() {
    let folder = Folder::new();
    let log = open(&folder).await;
    append(&*log, &[event("s", "T", "1"), event("s", "T", "2")])
        .await
        .unwrap();
    folder.verify_chain().await.expect("it is whole");
    let tool = Connection::open(folder.path()).unwrap();
    tool.execute_batch(
        "DROP TRIGGER events_update; UPDATE events SET metadata = '' WHERE position = 2",
    )
    .unwrap();
    assert_eq!(folder.verify_chain().await, Err(2));
}

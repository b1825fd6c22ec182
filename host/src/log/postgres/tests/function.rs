//! `retell.append`: the way into the log for everyone who speaks SQL.

use serde_json::Value;

use super::Database;
use crate::log::conformance::{Place as _, append, event, everything, with_id};
use crate::log::{EventLog, RoleKind};
use crate::test_cluster::cluster;

const VECTORS: &str = include_str!("../../../../../tests/fixtures/hash_chain.json");

/// A text as an SQL literal, null as NULL.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Null => "NULL".to_owned(),
        other => panic!("{other} is no text"),
    }
}

fn time(value: &Value) -> String {
    match value.as_i64() {
        Some(micros) => format!(
            "('epoch'::timestamptz + make_interval(secs => {}) + interval '{} microseconds')",
            micros.div_euclid(1_000_000),
            micros.rem_euclid(1_000_000)
        ),
        None => "NULL".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hash_is_the_one_that_every_implementation_computes() {
    let database = Database::new();
    database.log().await;
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut seen = 0;
    for log in vectors["logs"].as_array().unwrap() {
        let mut previous = log["first_previous_hash"].as_str().unwrap().to_owned();
        for event in log["events"].as_array().unwrap() {
            let salt = format!("'\\x{}'::bytea", event["salt"].as_str().unwrap());
            let sql = format!(
                "SELECT encode(retell.event_hash('\\x{previous}', {}, {}, {}, {}, {}, {}, {}, {}, {},
                     retell.content_digest({salt}, {}), retell.content_digest({salt}, {})), 'hex')",
                event["position"],
                literal(&event["stream"]),
                event["revision"],
                literal(&event["id"]),
                literal(&event["type"]),
                time(&event["occurred_at"]),
                time(&event["recorded_at"]),
                literal(&event["subject"]),
                literal(&event["key_id"]),
                literal(&event["payload"]),
                literal(&event["metadata"]),
            );
            previous = database.psql(&sql);
            assert_eq!(previous, event["hash"].as_str().unwrap());
            seen += 1;
        }
    }
    assert!(seen >= 5, "the fixture lost its events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_function_and_of_the_host_are_one_chain() {
    let database = Database::new();
    let log = database.log().await;
    append(&log, &[event("a", "T", "1")]).await.unwrap();
    let appended = database.psql(
        r#"SELECT retell.append('a', 'T', '{ "b" : " \" x" , "a":[1, 2]}', 'x', '{"by": "me"}',
                                '2026-01-31 12:00:00.000001+00')"#,
    );
    assert_eq!(appended, "2");
    append(&log, &[event("a", "T", "3")]).await.unwrap();
    let head = database.verify_chain().await.unwrap();
    assert_eq!(head, log.head().await.unwrap());
    let stored = everything(&log).await;
    assert_eq!(
        (
            stored[1].revision,
            stored[1].data.as_str(),
            stored[1].metadata.as_deref()
        ),
        (2, r#"{"b":" \" x","a":[1,2]}"#, Some(r#"{"by":"me"}"#))
    );
    assert_eq!(stored[1].occurred_at, Some(1_769_860_800_000_001));
    // The same event, whichever way it comes.
    let again = with_id("x", event("a", "T", r#"{"b":" \" x","a":[1,2]}"#));
    let again = crate::event::NewEvent {
        metadata: stored[1].metadata.clone(),
        occurred_at: stored[1].occurred_at,
        ..again
    };
    let appended = append(&log, &[again]).await.unwrap();
    assert_eq!((appended.positions, appended.already_there), (vec![2], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_function_checks_what_the_host_checks() {
    let database = Database::new();
    database.log().await;
    let call = "SELECT retell.append('a', 'T', '1', 'x', expected_revision => 0)";
    assert_eq!(database.psql(call), "1");
    // A retry gets its first position, though the stream has moved on.
    assert_eq!(database.psql(call), "1");
    for (sql, code, says) in [
        (
            "SELECT retell.append('a', 'T', '2', 'x')",
            "RT001",
            "another data",
        ),
        (
            "SELECT retell.append('b', 'T', '1', 'x')",
            "RT001",
            "another stream",
        ),
        (
            "SELECT retell.append('a', 'T', '1', 'x', '{}')",
            "RT001",
            "another metadata",
        ),
        (
            "SELECT retell.append('a', 'T', '2', expected_revision => 0)",
            "RT002",
            "at revision 1",
        ),
        (
            "SELECT retell.append('', 'T', '2')",
            "RT003",
            "1 to 512 bytes",
        ),
        (
            "SELECT retell.append('a', repeat('T', 513), '2')",
            "RT003",
            "1 to 512 bytes",
        ),
        ("SELECT retell.append('a', 'T', NULL)", "RT003", "no data"),
        (
            "SELECT retell.append('a', 'T', to_json(repeat('x', 1048576)))",
            "RT003",
            "1048576",
        ),
        (
            "SELECT retell.append('a', 'T', '1', occurred_at => '0044-03-15 BC')",
            "RT003",
            "1 to 9999",
        ),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT retell.append('a', 'T', '2')",
            "25000",
            "READ COMMITTED",
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT retell.append('a', 'T', '2')",
            "25000",
            "inbox",
        ),
    ] {
        let refusal = database.refusal(sql);
        assert!(
            refusal.contains(code) && refusal.contains(says),
            "{sql}: {refusal}"
        );
    }
    assert_eq!(database.psql("SELECT count(*) FROM retell.events"), "1");
    // An id is made where there is none, and is a UUIDv7.
    database.psql("SELECT retell.append('a', 'T', '2')");
    let id = database.psql("SELECT id FROM retell.events WHERE position = 2");
    let id: uuid::Uuid = id.parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_log_is_limited_until_the_transaction_ends() {
    let database = Database::new();
    database.log().await;
    let settings = database.psql(
        "BEGIN;
         SET LOCAL synchronous_commit = off;
         SELECT set_config('lock_timeout', '7s', true);
         SELECT retell.append('a', 'T', '1');
         SELECT current_setting('synchronous_commit'), current_setting('lock_timeout'),
                current_setting('idle_in_transaction_session_timeout');
         COMMIT;
         SELECT current_setting('idle_in_transaction_session_timeout')",
    );
    assert_eq!(settings, "7s\n1\non|7s|10s\n0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_can_append_and_nothing_else() {
    let database = Database::new();
    let log = database.log().await;
    let role = format!("app_{}", database.name());
    assert!(log.admit_role(&role, RoleKind::Application).await.unwrap());
    assert!(!log.admit_role(&role, RoleKind::Application).await.unwrap());
    let run = |sql: &str| cluster().try_psql(&role, database.name(), sql);
    assert_eq!(run("SELECT retell.append('a', 'T', '1')").unwrap(), "1");
    run("INSERT INTO retell.inbox (stream, type, data) VALUES ('a', 'T', '2')").unwrap();
    for sql in [
        "SELECT * FROM retell.events",
        "SELECT * FROM retell.inbox",
        "DELETE FROM retell.inbox",
        "INSERT INTO retell.events SELECT * FROM retell.events",
        "UPDATE retell.log_head SET position = 9",
        "SELECT retell.lock_head()",
        "ALTER TABLE retell.events DISABLE TRIGGER ALL",
        "DROP TABLE retell.events",
    ] {
        let refusal = run(sql).expect_err("it must be refused");
        assert!(refusal.contains("42501"), "{sql}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_role_appends_and_reads_and_can_not_undo() {
    let database = Database::new();
    let owner = database.log().await;
    let role = format!("host_{}", database.name());
    owner.admit_role(&role, RoleKind::Host).await.unwrap();
    let url = cluster().url(&role, database.name()).parse().unwrap();
    let log = super::PgLog::open(&url, crate::log::OpenMode::CreateIfMissing)
        .await
        .unwrap();
    append(&log, &[event("a", "T", "1")]).await.unwrap();
    assert_eq!(everything(&log).await.len(), 1);
    for sql in [
        "UPDATE retell.events SET payload = '9'",
        "DELETE FROM retell.events",
        "TRUNCATE retell.events",
        "UPDATE retell.log_head SET position = 9",
        "ALTER TABLE retell.events DISABLE TRIGGER ALL",
    ] {
        let refusal = cluster().try_psql(&role, database.name(), sql);
        assert!(
            refusal.expect_err("it must be refused").contains("42501"),
            "{sql}"
        );
    }
}

//! The schema refuses every change of the past, even to the superuser.

use super::Database;
use crate::log::conformance::{append, event};
use crate::log::{EventLog as _, unwatched};

async fn log_of_two() -> Database {
    let database = Database::new();
    let log = database.log().await;
    append(&log, &[event("a", "T", "1"), event("a", "T", "2")])
        .await
        .unwrap();
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_changes_or_deletes_an_event() {
    let database = log_of_two().await;
    for sql in [
        "UPDATE retell.events SET payload = '9'",
        "UPDATE retell.events SET type = 'U' WHERE position = 2",
        "DELETE FROM retell.events WHERE position = 2",
        "TRUNCATE retell.events",
        "TRUNCATE retell.events CASCADE",
        "INSERT INTO retell.events SELECT * FROM retell.events WHERE position = 2
         ON CONFLICT (position) DO UPDATE SET payload = '9'",
        "SET session_replication_role = replica; DELETE FROM retell.events",
        "SET session_replication_role = replica; TRUNCATE retell.events",
    ] {
        let refusal = database.refusal(sql);
        assert!(refusal.contains("append-only"), "{sql}: {refusal}");
    }
    let left = database.psql("SELECT string_agg(payload::text, ',') FROM retell.events");
    assert_eq!(left, "1,2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_can_only_come_next() {
    let database = log_of_two().await;
    let insert = |position: u64, stream: &str, revision: u64, id: &str| {
        format!(
            "INSERT INTO retell.events
                 (position, stream, revision, id, type, recorded_at, hash, payload)
             VALUES ({position}, '{stream}', {revision}, '{id}', 'T', now(), sha256(''), '1')"
        )
    };
    for (sql, says) in [
        (insert(4, "b", 1, "x"), "the head plus 1"),
        (insert(0, "b", 1, "x"), "the head plus 1"),
        (insert(3, "a", 4, "x"), "last plus 1"),
        (insert(3, "b", 2, "x"), "last plus 1"),
        (insert(2, "b", 1, "x"), "events_pkey"),
        (insert(3, "a", 2, "x"), "events_stream"),
        (insert(3, "", 1, "x"), "events_stream_check"),
    ] {
        let refusal = database.refusal(&sql);
        assert!(refusal.contains(says), "{sql}: {refusal}");
    }
    // What is in order moves the head with it.
    database.psql(&insert(3, "b", 1, "x"));
    assert_eq!(database.psql("SELECT position FROM retell.log_head"), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_names_the_last_event() {
    let database = log_of_two().await;
    for sql in [
        "UPDATE retell.log_head SET position = 1",
        "UPDATE retell.log_head SET position = 3",
        "UPDATE retell.log_head SET hash = sha256('')",
        "UPDATE retell.log_head SET log_id = 'another'",
        "DELETE FROM retell.log_head",
        "TRUNCATE retell.log_head",
    ] {
        let refusal = database.refusal(sql);
        assert!(
            refusal.contains("the head of the event log"),
            "{sql}: {refusal}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_it_so_is_looked_for() {
    let database = log_of_two().await;
    let log = database.log().await;
    let fault = async || {
        let check = log.check_chain(unwatched()).await.expect("reads");
        check.fault.map(|it| it.to_string())
    };
    assert_eq!(fault().await, None);
    let update = "BEFORE UPDATE ON retell.events FOR EACH ROW EXECUTE FUNCTION";
    let always = "ALTER TABLE retell.events ENABLE ALWAYS TRIGGER events_update";
    for (harm, says, remedy) in [
        (
            "ALTER TABLE retell.events DISABLE TRIGGER events_update",
            always,
            always,
        ),
        // As it is after somebody disabled and enabled it.
        (
            "ALTER TABLE retell.events ENABLE TRIGGER events_update",
            always,
            always,
        ),
        (
            "ALTER TABLE retell.log_head ENABLE REPLICA TRIGGER log_head_update",
            "ALTER TABLE retell.log_head ENABLE TRIGGER log_head_update",
            "ALTER TABLE retell.log_head ENABLE TRIGGER log_head_update",
        ),
        (
            "DROP TRIGGER events_update ON retell.events",
            "`events_update` is gone",
            &format!("CREATE TRIGGER events_update {update} retell.refuse('never'); {always}"),
        ),
        (
            &format!(
                "CREATE FUNCTION retell.allow() RETURNS trigger LANGUAGE plpgsql
                     AS 'BEGIN RETURN NEW; END';
                 DROP TRIGGER events_update ON retell.events;
                 CREATE TRIGGER events_update {update} retell.allow(); {always}"
            ),
            "`events_update` is gone",
            &format!(
                "DROP TRIGGER events_update ON retell.events;
                 CREATE TRIGGER events_update {update} retell.refuse('never'); {always}"
            ),
        ),
        (
            "DROP INDEX retell.events_id",
            "`events_id` is gone",
            "CREATE UNIQUE INDEX events_id ON retell.events (id)",
        ),
        (
            "UPDATE pg_index SET indisvalid = false
             WHERE indexrelid = 'retell.events_type'::regclass",
            "the index `events_type` is not valid",
            "REINDEX INDEX retell.events_type",
        ),
    ] {
        database.psql(harm);
        let fault_after = fault().await.unwrap_or_default();
        assert!(fault_after.contains(says), "{harm}: {fault_after}");
        database.psql(remedy);
        assert_eq!(fault().await, None, "{remedy}");
    }
}

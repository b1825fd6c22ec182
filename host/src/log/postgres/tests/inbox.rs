//! `retell.inbox`: events written in an application's own transaction.

use std::time::Duration;

use super::Database;
use crate::log::conformance::{Place as _, append, event, everything, with_id};
use crate::log::{Drained, EventLog};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_move_once_in_order_and_bad_ones_block_nobody() {
    let database = Database::new();
    let log = database.log().await;
    append(&log, &[with_id("taken", event("a", "T", "1"))])
        .await
        .unwrap();
    assert_eq!(log.drain_inbox().await.unwrap(), Drained::default());
    database.psql(
        r#"INSERT INTO retell.inbox (stream, type, data, event_id, expected_revision) VALUES
               ('a', 'T', '{ "n": 2 }', 'two', NULL),
               ('a', 'T', '0', 'taken', NULL),
               ('a', 'T', '3', NULL, 2),
               ('a', 'T', '0', NULL, 2),
               ('', 'T', '0', NULL, NULL),
               ('b', 'T', '"\ud800"', NULL, NULL),
               ('a', 'T', '{"n":2}', 'two', NULL),
               ('b', 'T', '4', NULL, 0)"#,
    );
    // What an open transaction holds is moved once it is committed, and keeps nobody back.
    let drained = log.drain_inbox().await.unwrap();
    assert_eq!((drained.moved, drained.rejected), (4, 4));
    let stored = everything(&log).await;
    let told: Vec<_> = stored
        .iter()
        .map(|it| (it.stream.as_str(), it.revision, it.data.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", 1, "1"),
            ("a", 2, r#"{"n":2}"#),
            ("a", 3, "3"),
            ("b", 1, "4")
        ]
    );
    assert_eq!(database.psql("SELECT count(*) FROM retell.inbox"), "0");
    let reasons = database.psql("SELECT reason FROM retell.inbox_rejected ORDER BY id");
    let reasons: Vec<_> = reasons.lines().collect();
    assert!(
        reasons[0].contains("`taken` is already in the log"),
        "{reasons:?}"
    );
    assert!(
        reasons[1].contains("at revision 3, not at 2"),
        "{reasons:?}"
    );
    assert!(reasons[2].contains("`stream` is empty"), "{reasons:?}");
    assert!(reasons[3].contains("not valid JSON"), "{reasons:?}");
    database.verify_chain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_that_drain_at_once_move_each_row_once() {
    let database = Database::new();
    let (one, other) = (database.log().await, database.log().await);
    database.psql(
        "INSERT INTO retell.inbox (stream, type, data)
         SELECT 's' || n % 7, 'T', to_json(n) FROM generate_series(1, 5000) AS n",
    );
    let (one, other) = tokio::join!(one.drain_inbox(), other.drain_inbox());
    assert_eq!(one.unwrap().moved + other.unwrap().moved, 5_000);
    let stored = everything(&database.log().await).await;
    assert!(
        stored
            .iter()
            .map(|it| it.data.clone())
            .eq((1..=5_000).map(|n| n.to_string()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_far_too_large_is_rejected_and_holds_nobody_up() {
    let database = Database::new();
    let log = database.log().await;
    database.psql(
        r#"INSERT INTO retell.inbox (stream, type, data) VALUES
            ('a', 'T', '1'),
            ('a', 'T', ('"' || repeat('x', 40000000) || '"')::json),
            ('a', 'T', ('"' || repeat('y', 1000000) || '"')::json),
            ('b', 'T', '2')"#,
    );
    let drained = log.drain_inbox().await.unwrap();
    assert_eq!((drained.moved, drained.rejected), (3, 1));
    let reason = database.psql("SELECT reason FROM retell.inbox_rejected");
    assert!(reason.contains("40000002 bytes"), "{reason}");
    let order = database.psql("SELECT string_agg(stream, '' ORDER BY position) FROM retell.events");
    assert_eq!(order, "aab");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_hears_of_new_rows() {
    let database = Database::new();
    let log = database.log().await;
    let hearing = tokio::spawn({
        let log = log.clone();
        async move { log.inbox_filled().await }
    });
    // It may begin to listen only after this; then it looks by itself.
    database.psql("INSERT INTO retell.inbox (stream, type, data) VALUES ('a', 'T', '1')");
    tokio::time::timeout(Duration::from_secs(20), hearing)
        .await
        .expect("heard in time")
        .unwrap();
    assert_eq!(log.drain_inbox().await.unwrap().moved, 1);
}

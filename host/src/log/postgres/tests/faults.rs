//! Appenders that stall, change their minds, or are killed while they hold the log; and whoever
//! follows it must see each event once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection, PgConnection};

use super::Database;
use crate::event::Position;
use crate::log::conformance::{Place as _, append, event};
use crate::log::{EnvelopeParts, EventChunk, EventLog, TypeFilter};
use crate::postgres::connect;

/// Clients that append through a host, in requests of many events.
const HOSTS: u64 = 8;
const REQUESTS: u64 = 125;
const EVENTS_PER_REQUEST: u64 = 200;
/// Clients that append with SQL, and misbehave.
const CLIENTS: u64 = 8;
const TRANSACTIONS: u64 = 60;
const PATIENCE: Duration = Duration::from_mins(2);

/// Ids that a client of the host was told are in the log.
async fn append_as_a_host(database: Arc<Database>, client: u64) -> Vec<String> {
    let log = database.log().await;
    let mut acknowledged = Vec::new();
    for request in 0..REQUESTS {
        let ids: Vec<String> = (0..EVENTS_PER_REQUEST)
            .map(|n| format!("h{client}-{request}-{n}"))
            .collect();
        let events: Vec<_> = ids
            .iter()
            .map(|id| crate::log::conformance::with_id(id, event(&format!("h{client}"), "T", "1")))
            .collect();
        append(&log, &events).await.expect("the host appends");
        acknowledged.extend(ids);
    }
    acknowledged
}

/// Ids that are in the log, and ids that must not be.
async fn append_with_sql(database: Arc<Database>, client: u64) -> (Vec<String>, Vec<String>) {
    let mut dice = StdRng::seed_from_u64(client);
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    let mut connection = connect(&database.url).await.expect("a connection");
    for transaction in 0..TRANSACTIONS {
        let id = format!("c{client}-{transaction}");
        let took = take_a_position(&mut connection, &id, client).await;
        took.expect("a position");
        match dice.random_range(0..4) {
            // Stalls with the log in its hands.
            0 => {
                tokio::time::sleep(Duration::from_millis(dice.random_range(1..40))).await;
                sqlx::raw_sql("COMMIT")
                    .execute(&mut connection)
                    .await
                    .expect("committed");
                kept.push(id);
            }
            1 => {
                sqlx::raw_sql("ROLLBACK")
                    .execute(&mut connection)
                    .await
                    .expect("rolled back");
                lost.push(id);
            }
            // Killed.
            2 => {
                let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number");
                database.psql(&format!("SELECT pg_terminate_backend({pid})"));
                connection = connect(&database.url).await.expect("another connection");
                lost.push(id);
            }
            _ => {
                sqlx::raw_sql("COMMIT")
                    .execute(&mut connection)
                    .await
                    .expect("committed");
                kept.push(id);
            }
        }
    }
    let _ = connection.close().await;
    (kept, lost)
}

async fn take_a_position(
    connection: &mut PgConnection,
    id: &str,
    client: u64,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    sqlx::query("SELECT retell.append($1, 'T', '1', $2)")
        .bind(format!("c{client}"))
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Everything a follower sees, until it is told that no more comes.
fn follow(log: &dyn EventLog, last: &AtomicU64) -> Vec<(Position, String)> {
    let parts = EnvelopeParts {
        id: true,
        ..EnvelopeParts::default()
    };
    let mut reader = log.reader(TypeFilter::All, parts).expect("a reader");
    let mut watch = log.watch().expect("a watch");
    let mut chunk = EventChunk::new(1_000, 1 << 20);
    let mut seen = Vec::new();
    let mut reached = 0;
    let began = Instant::now();
    while reached < last.load(Ordering::SeqCst) {
        assert!(began.elapsed() < PATIENCE, "stuck at {reached}");
        let head = watch
            .wait(reached, Duration::from_millis(50))
            .expect("awake");
        while reached < head {
            reader.read(reached, head, &mut chunk).expect("read");
            let ids = chunk.ids.iter().map(str::to_owned);
            seen.extend(chunk.positions.iter().copied().zip(ids));
            reached = chunk.reached;
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appenders_that_stall_roll_back_or_die_hide_nothing_from_followers() {
    let database = Arc::new(Database::new());
    let log = database.log().await;
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let following = {
        let (log, last) = (log.clone(), last.clone());
        tokio::task::spawn_blocking(move || follow(&log, &last))
    };
    let hosts: Vec<_> = (0..HOSTS)
        .map(|client| tokio::spawn(append_as_a_host(database.clone(), client)))
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(append_with_sql(database.clone(), client)))
        .collect();
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for host in hosts {
        kept.extend(host.await.expect("a host"));
    }
    for client in clients {
        let (of_client, lost_of_client) = client.await.expect("a client");
        kept.extend(of_client);
        lost.extend(lost_of_client);
    }
    let head = database.verify_chain().await.expect("one chain");
    assert_eq!(head, log.head().await.unwrap());
    last.store(head.position, Ordering::SeqCst);
    let seen = following.await.expect("a follower");
    // Against the table itself.
    let stored: Vec<(i64, String)> =
        sqlx::query_as("SELECT position, id FROM retell.events ORDER BY position")
            .fetch_all(&log.shared.pool)
            .await
            .unwrap();
    assert!(stored.len() >= 200_000, "{} events", stored.len());
    assert_eq!(seen.len(), stored.len());
    for (seen, stored) in seen.iter().zip(&stored) {
        assert_eq!((seen.0.cast_signed(), &seen.1), (stored.0, &stored.1));
    }
    let mut ids: Vec<&String> = stored.iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    kept.sort_unstable();
    assert!(ids.into_iter().eq(&kept), "kept is not what is there");
    assert!(lost.iter().all(|id| kept.binary_search(id).is_err()));
    assert!(lost.len() > 100, "nobody misbehaved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_the_log_and_does_nothing_is_cut_off() {
    let database = Database::new();
    let log = database.log().await;
    // As `retell.append` sets it, only shorter.
    let mut idle = connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        .execute(&mut idle)
        .await
        .unwrap();
    sqlx::raw_sql("SELECT retell.append('a', 'T', '1', 'lost')")
        .execute(&mut idle)
        .await
        .unwrap();
    let appended = append(&log, &[event("a", "T", "2")]).await.unwrap();
    assert_eq!(appended.positions, [1]);
    let committed = sqlx::raw_sql("COMMIT").execute(&mut idle).await;
    assert!(committed.is_err(), "it was cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_cut_is_made_anew_and_nothing_is_appended_twice() {
    let database = Arc::new(Database::new());
    let log = database.log().await;
    let done = Arc::new(AtomicBool::new(false));
    let cutting = {
        let (database, done) = (database.clone(), done.clone());
        tokio::task::spawn_blocking(move || {
            while !done.load(Ordering::SeqCst) {
                database.psql(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'retell'",
                );
            }
        })
    };
    let (mut known, mut unknown) = (0, 0);
    let began = Instant::now();
    while (known < 200 || unknown < 20) && began.elapsed() < PATIENCE {
        match append(&log, &[event("a", "T", "1")]).await {
            Ok(_) => known += 1,
            Err(_) => unknown += 1,
        }
    }
    done.store(true, Ordering::SeqCst);
    cutting.await.unwrap();
    // An error may only be told of what is not there.
    let head = database.verify_chain().await.expect("one chain");
    assert_eq!(head.position, known, "{unknown} failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_connects_says_of_which_log_it_reads() {
    let database = Arc::new(Database::new());
    let log = database.log().await;
    for data in ["1", "2", "3"] {
        append(&log, &[event("a", "T", data)]).await.unwrap();
    }
    let mut reader = log
        .reader(TypeFilter::All, EnvelopeParts::default())
        .unwrap();
    let mut chunk = EventChunk::new(1, 1 << 20);
    let mut read = |after: Position| {
        tokio::task::block_in_place(|| reader.read(after, 3, &mut chunk))
            .map(|()| chunk.joined_hash)
    };
    let hash_at = async |position| log.hash_at(position).await.unwrap();
    assert_eq!(read(0).unwrap(), hash_at(0).await);
    assert_eq!(read(1).unwrap(), None);
    database.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'retell'",
    );
    read(2).expect_err("its session was cut");
    assert_eq!(read(2).unwrap(), hash_at(2).await);
    read(9).expect_err("the log ends before");
}

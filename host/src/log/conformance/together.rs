//! Rules of appends that come at the same time, whether they share a transaction or not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Place, append, event, everything, open, with_id};
use crate::event::{NewEvent, StoredEvent};
use crate::log::{AppendRequest, Appended, EventLog, LogError};

const STREAMS: usize = 3;
const TASKS: u64 = 24;
const REQUESTS: u64 = 15;

/// Last revisions that somebody was told of.
type Seen = Arc<[AtomicU64; STREAMS]>;

/// What was asked for, what was known then, and what came of it.
struct Attempt {
    request: AppendRequest,
    /// What each expected stream had at least when the request was made.
    known: Vec<u64>,
    outcome: Result<Appended, LogError>,
}

/// One to three events. Some have an id that others use too, with the same content or with another.
fn some_events(dice: &mut StdRng, serial: u64) -> Vec<NewEvent> {
    let shared = dice.random_range(0..40);
    (0..dice.random_range(1..=3))
        .map(|n| {
            let stream = format!("s{}", dice.random_range(0..STREAMS));
            match dice.random_range(0..8) {
                0 => with_id(&format!("shared-{shared}"), event("s0", "Shared", "0")),
                1 => with_id(&format!("shared-{shared}"), event("s1", "Shared", "0")),
                2..4 => with_id(
                    &format!("{serial}-{n}"),
                    event(&stream, "T", &format!("[{serial},{n}]")),
                ),
                _ => event(&stream, "T", &format!("[{serial},{n}]")),
            }
        })
        .collect()
}

async fn attempt(log: &dyn EventLog, dice: &mut StdRng, serial: u64, seen: &Seen) -> Attempt {
    let mut request = AppendRequest {
        events: some_events(dice, serial),
        expected: Vec::new(),
    };
    let mut known = Vec::new();
    if dice.random_bool(0.6) {
        let stream = dice.random_range(0..STREAMS);
        let revision = seen[stream].load(Ordering::SeqCst);
        known.push(revision);
        request.expected.push((format!("s{stream}"), revision));
    }
    let outcome = log.append(request.clone()).await;
    if let Err(LogError::Revision { stream, actual, .. }) = &outcome {
        let stream: usize = stream[1..].parse().expect("a stream of this test");
        seen[stream].fetch_max(*actual, Ordering::SeqCst);
    }
    Attempt {
        request,
        known,
        outcome,
    }
}

pub(crate) async fn appends_at_once_get_each_its_own_answer(place: &dyn Place) {
    let seed: u64 = rand::random();
    // Two handles, as two processes would have them.
    let logs = [open(place).await, open(place).await];
    let seen: Seen = Arc::default();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (log, seen) = (
                Arc::clone(&logs[usize::from(task % 2 == 1)]),
                Arc::clone(&seen),
            );
            let mut dice = StdRng::seed_from_u64(seed.wrapping_add(task));
            tokio::spawn(async move {
                let mut attempts = Vec::new();
                for n in 0..REQUESTS {
                    attempts.push(attempt(&*log, &mut dice, task * REQUESTS + n, &seen).await);
                }
                attempts
            })
        })
        .collect();
    let mut attempts = Vec::new();
    for task in tasks {
        attempts.extend(task.await.unwrap());
    }
    let stored = everything(&*logs[0]).await;
    let revisions = gapless(&stored);
    let mut appended = 0;
    for attempt in &attempts {
        let said = format!("seed {seed}: {:?}: {:?}", attempt.request, attempt.outcome);
        match &attempt.outcome {
            Ok(done) => {
                appended += done.positions.len() as u64 - done.already_there;
                is_there(&stored, attempt, done, &said);
            }
            Err(error) => {
                is_justified(&stored, &revisions, attempt, error, &said);
                let is_absent = |event: &NewEvent| {
                    event.event_type == "Shared" || stored.iter().all(|s| s.data != event.data)
                };
                assert!(attempt.request.events.iter().all(is_absent), "{said}");
            }
        }
    }
    assert_eq!(appended, stored.len() as u64, "seed {seed}");
    let refused = attempts.iter().filter(|a| a.outcome.is_err()).count();
    assert!(refused > 0 && refused < attempts.len(), "seed {seed}");
    assert_eq!(
        place.verify_chain().await.unwrap(),
        logs[1].head().await.unwrap()
    );
}

/// Checks that positions and revisions have no gaps; gives the last revision of each stream.
fn gapless(stored: &[StoredEvent]) -> HashMap<String, u64> {
    let mut revisions = HashMap::new();
    for (event, position) in stored.iter().zip(1..) {
        let last: &mut u64 = revisions.entry(event.stream.clone()).or_default();
        *last += 1;
        assert_eq!((event.position, event.revision), (position, *last));
    }
    revisions
}

/// Each event is once in the log, where the answer says; and before them, everything was as
/// expected.
fn is_there(stored: &[StoredEvent], attempt: &Attempt, done: &Appended, said: &str) {
    let request = &attempt.request;
    assert_eq!(done.positions.len(), request.events.len(), "{said}");
    for (event, &position) in request.events.iter().zip(&done.positions) {
        let found = stored.iter().find(|s| s.position == position);
        assert!(
            found.is_some_and(|s| s.stream == event.stream && s.data == event.data),
            "{said}"
        );
        if event.event_type == "T" {
            let same = stored.iter().filter(|s| s.data == event.data).count();
            assert_eq!(same, 1, "{said}");
        }
    }
    // What is new stands together, and behind everything that was there before.
    let new = done.positions.len() as u64 - done.already_there;
    let before = done.last().unwrap_or(0) - new;
    if new > 0 {
        for (stream, expected) in &request.expected {
            let is_before = |s: &&StoredEvent| s.position <= before && s.stream == *stream;
            let there = stored.iter().filter(is_before).count() as u64;
            assert_eq!(there, *expected, "{said}");
        }
    }
}

/// The log was in the state that the refusal names.
fn is_justified(
    stored: &[StoredEvent],
    revisions: &HashMap<String, u64>,
    attempt: &Attempt,
    error: &LogError,
    said: &str,
) {
    match error {
        LogError::Revision {
            stream,
            expected,
            actual,
        } => {
            assert_eq!(attempt.request.expected, [(stream.clone(), *expected)]);
            assert!(actual != expected, "{said}");
            assert!(*actual >= attempt.known[0], "{said}");
            assert!(
                actual <= &revisions.get(stream).copied().unwrap_or(0),
                "{said}"
            );
        }
        LogError::IdTaken {
            id,
            position,
            index,
            ..
        } => {
            let event = &attempt.request.events[*index];
            assert_eq!(event.id.as_ref(), Some(id), "{said}");
            let found = stored.iter().find(|s| s.position == *position);
            // Or it was taken by an event of the same request, which went with it.
            let taken_here = attempt
                .request
                .events
                .iter()
                .take(*index)
                .any(|before| before.id.as_ref() == Some(id) && before.stream != event.stream);
            let taken_there = found.is_some_and(|s| s.id == *id && s.stream != event.stream);
            assert!(taken_here || taken_there, "{said}");
        }
        other => panic!("{other}: {said}"),
    }
}

pub(crate) async fn a_dropped_append_is_whole_or_absent_and_harms_nobody(place: &dyn Place) {
    const APPENDS: u64 = 40;
    let log = open(place).await;
    let tasks: Vec<_> = (0..8)
        .map(|task: u64| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for n in 0..APPENDS {
                    let data = format!("[{task},{n}]");
                    let pair = [event("a", "T", &data), event("b", "T", &data)];
                    if (task + n).is_multiple_of(2) {
                        append(&*log, &pair).await.expect("nobody dropped it");
                    } else {
                        // Given up as soon as it has to wait for anything.
                        let appending = append(&*log, &pair);
                        let _ = tokio::time::timeout(Duration::ZERO, appending).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let appended = append(&*log, &[event("c", "T", "1")]).await.unwrap();
    let stored = everything(&*log).await;
    gapless(&stored);
    assert_eq!(appended.positions, [stored.len() as u64], "it was the last");
    let (pairs, _) = stored.as_chunks::<2>();
    for [a, b] in pairs {
        assert_eq!((&*a.stream, &*b.stream, &a.data), ("a", "b", &b.data));
    }
    let waited_for = pairs.len() as u64;
    assert!(waited_for >= 8 * APPENDS / 2, "only {waited_for} are there");
    assert_eq!(
        place.verify_chain().await.unwrap(),
        log.head().await.unwrap()
    );
}

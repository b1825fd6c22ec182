//! Rules of reading and of waking up.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use super::{Hand, Place, append, blocking, event, everything, open, with_id};
use crate::event::NewEvent;
use crate::log::{EnvelopeParts, EventChunk, EventFilter, EventLog, LogError, TypeFilter};

const ALL: u64 = u64::MAX;

/// 600 events: streams s0 to s6, types `Odd`, `Even` and, rarely, `Rare`.
async fn fill(log: &dyn EventLog) {
    let events: Vec<NewEvent> = (1..=600)
        .map(|i| {
            let event_type = match i {
                _ if i % 97 == 0 => "Rare",
                _ if i % 2 == 0 => "Even",
                _ => "Odd",
            };
            event(&format!("s{}", i % 7), event_type, &i.to_string())
        })
        .collect();
    append(log, &events).await.unwrap();
}

pub(crate) async fn pages_of_events_by_stream_and_type(place: &dyn Place) {
    let log = open(place).await;
    fill(&*log).await;
    let all = everything(&*log).await;
    let some = |text: &str| Some(text.to_owned());
    for (stream, event_type) in [
        (None, None),
        (some("s3"), None),
        (None, some("Rare")),
        (some("s3"), some("Even")),
        (some("s3"), some("Unknown")),
        (some("unknown"), None),
    ] {
        let filter = EventFilter { stream, event_type };
        for (after, limit) in [(0, 1), (0, 1_000), (250, 7), (600, 5), (9_999, 5)] {
            let page = log.events(&filter, after, limit).await.unwrap();
            let expected: Vec<_> = all
                .iter()
                .filter(|event| {
                    event.position > after
                        && filter.stream.as_ref().is_none_or(|s| *s == event.stream)
                        && filter
                            .event_type
                            .as_ref()
                            .is_none_or(|t| *t == event.event_type)
                })
                .take(limit)
                .cloned()
                .collect();
            assert_eq!(page, expected, "{filter:?} after {after}, at most {limit}");
        }
    }
}

pub(crate) async fn any_limits_give_the_same_events(place: &dyn Place) {
    let log = open(place).await;
    fill(&*log).await;
    let all = everything(&*log).await;
    let only = |names: &[&str]| TypeFilter::Only(names.iter().map(|n| (*n).to_owned()).collect());
    for types in [
        TypeFilter::All,
        only(&["Odd", "Even", "Rare"]),
        only(&["Rare"]),
        only(&["Rare", "Unknown", "Rare"]),
        only(&["Unknown"]),
        only(&[]),
    ] {
        let expected: Vec<_> = all
            .iter()
            .filter(|event| match &types {
                TypeFilter::All => true,
                TypeFilter::Only(names) => names.contains(&event.event_type),
            })
            .map(|event| (event.position, event.event_type.clone(), event.data.clone()))
            .collect();
        for (events, bytes) in [
            (1, 1 << 20),
            (7, 1 << 20),
            (1_000, 1),
            (1_000, 50),
            (1_000, 1 << 20),
        ] {
            let mut reader = log.reader(types.clone(), EnvelopeParts::default()).unwrap();
            let mut chunk = EventChunk::new(events, bytes);
            let mut got = Vec::new();
            let mut after = 0;
            while after < 600 {
                blocking(|| reader.read(after, ALL, &mut chunk)).unwrap();
                assert!(
                    chunk.reached > after,
                    "{types:?}: no progress after {after}"
                );
                assert!(
                    chunk.len() <= events
                        && (chunk.payloads.bytes.len() <= bytes || chunk.len() == 1)
                );
                for i in 0..chunk.len() {
                    got.push((
                        chunk.positions[i],
                        chunk.type_name(i).to_owned(),
                        chunk.payloads.get(i).unwrap().to_owned(),
                    ));
                }
                after = chunk.reached;
            }
            assert_eq!(after, 600);
            assert_eq!(got, expected, "{types:?}, {events} events, {bytes} bytes");
        }
    }
}

pub(crate) async fn events_that_are_larger_than_any_before_are_read(place: &dyn Place) {
    const EVENTS: u64 = 300;
    let log = open(place).await;
    // More than any reader takes at once, after what lets it expect small ones.
    let large = format!("\"{}\"", "x".repeat(100_000));
    let events: Vec<_> = (0..EVENTS).map(|_| event("s", "T", &large)).collect();
    append(&*log, &events[..10]).await.unwrap();
    for some in events[10..].chunks(29) {
        append(&*log, some).await.unwrap();
    }
    let types = TypeFilter::Only(vec!["T".to_owned()]);
    let mut reader = log.reader(types, EnvelopeParts::default()).unwrap();
    let mut chunk = EventChunk::new(3_000, 1 << 20);
    let (mut after, mut found) = (0, 0);
    while after < EVENTS {
        blocking(|| reader.read(after, ALL, &mut chunk)).unwrap();
        assert!(chunk.payloads.iter().all(|it| it == large));
        found += chunk.len() as u64;
        after = chunk.reached;
    }
    assert_eq!(found, EVENTS);
}

pub(crate) async fn a_chunk_says_how_far_it_looked(place: &dyn Place) {
    let log = open(place).await;
    fill(&*log).await;
    let mut reader = log
        .reader(
            TypeFilter::Only(vec!["Rare".to_owned()]),
            EnvelopeParts::default(),
        )
        .unwrap();
    let mut chunk = EventChunk::new(100, 1 << 20);
    // Ends at the asked position, with the hash there, though the last event was long before.
    blocking(|| reader.read(90, 150, &mut chunk)).unwrap();
    assert_eq!(
        (chunk.positions.as_slice(), chunk.reached),
        (&[97][..], 150)
    );
    assert_eq!(Some(chunk.reached_hash), log.hash_at(150).await.unwrap());
    // Nothing of the type: still moves on to the head, and stays there.
    blocking(|| reader.read(590, ALL, &mut chunk)).unwrap();
    assert_eq!((chunk.len(), chunk.reached), (0, 600));
    blocking(|| reader.read(600, ALL, &mut chunk)).unwrap();
    assert_eq!((chunk.len(), chunk.reached), (0, 600));
    // A full chunk ends with its last event.
    chunk.limit_events = 1;
    blocking(|| reader.read(0, ALL, &mut chunk)).unwrap();
    assert_eq!((chunk.positions.as_slice(), chunk.reached), (&[97][..], 97));
    assert_eq!(Some(chunk.reached_hash), log.hash_at(97).await.unwrap());
    // And what is appended later is seen.
    append(&*log, &[event("s", "Rare", "601")]).await.unwrap();
    blocking(|| reader.read(600, ALL, &mut chunk)).unwrap();
    assert_eq!(
        (chunk.positions.as_slice(), chunk.reached),
        (&[601][..], 601)
    );
}

pub(crate) async fn a_chunk_brings_the_parts_asked_for(place: &dyn Place) {
    fn asked<T: Clone>(asked: bool, values: &[T]) -> Vec<T> {
        if asked { values.to_vec() } else { Vec::new() }
    }
    let log = place.open(Arc::new(Hand(AtomicI64::new(9)))).await;
    let full = NewEvent {
        metadata: Some("{\"u\":1}".to_owned()),
        occurred_at: Some(-5),
        ..with_id("x", event("stream-1", "T", "1"))
    };
    append(&*log, &[full, with_id("y", event("stream-2", "T", "2"))])
        .await
        .unwrap();
    for mask in 0..64 {
        let parts = EnvelopeParts {
            stream: mask & 1 > 0,
            id: mask & 2 > 0,
            metadata: mask & 4 > 0,
            revision: mask & 8 > 0,
            occurred_at: mask & 16 > 0,
            recorded_at: mask & 32 > 0,
        };
        let mut reader = log.reader(TypeFilter::All, parts).unwrap();
        let mut chunk = EventChunk::new(10, 1 << 20);
        // Twice, so that what the first left behind would show.
        for _ in 0..2 {
            blocking(|| reader.read(0, ALL, &mut chunk)).unwrap();
            assert!(
                chunk
                    .streams
                    .iter()
                    .eq(asked(parts.stream, &["stream-1", "stream-2"]))
            );
            assert!(chunk.ids.iter().eq(asked(parts.id, &["x", "y"])));
            assert!(
                chunk
                    .metadata
                    .iter()
                    .eq(asked(parts.metadata, &["{\"u\":1}", ""]))
            );
            assert_eq!(chunk.payloads.iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(chunk.revisions, asked(parts.revision, &[1, 1]));
            assert_eq!(
                chunk.occurred_at,
                asked(parts.occurred_at, &[Some(-5), None])
            );
            assert_eq!(chunk.recorded_at, asked(parts.recorded_at, &[9, 9]));
        }
    }
}

pub(crate) async fn a_reader_ahead_of_the_log_is_told(place: &dyn Place) {
    let log = open(place).await;
    append(&*log, &[event("a", "T", "1")]).await.unwrap();
    let mut reader = log
        .reader(TypeFilter::All, EnvelopeParts::default())
        .unwrap();
    let mut chunk = EventChunk::new(10, 1 << 20);
    let error = blocking(|| reader.read(5, ALL, &mut chunk)).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Shorter {
                head: 1,
                seen: 5,
                ..
            }
        ),
        "{error}"
    );
}

pub(crate) async fn a_watch_wakes_up_for_every_writer(place: &dyn Place) {
    const LONG: Duration = Duration::from_secs(30);
    let log = open(place).await;
    let mut watch = log.watch().unwrap();
    let began = Instant::now();
    assert_eq!(
        blocking(|| watch.wait(0, Duration::from_millis(20))).unwrap(),
        0
    );
    assert!(began.elapsed() >= Duration::from_millis(20));
    // This handle, then one that shares nothing with the watch but the database.
    for (seen, writer) in [(0, log.clone()), (1, open(place).await)] {
        let appending =
            tokio::spawn(async move { append(&*writer, &[event("a", "T", "1")]).await });
        let (woken, back) = tokio::task::spawn_blocking(move || (watch.wait(seen, LONG), watch))
            .await
            .unwrap();
        watch = back;
        assert_eq!(woken.unwrap(), seen + 1);
        appending.await.unwrap().unwrap();
    }
    assert!(
        began.elapsed() < LONG,
        "it waited for the end of its patience"
    );
    // What is there already is no reason to wait.
    assert_eq!(blocking(|| watch.wait(0, LONG)).unwrap(), 2);
    assert!(began.elapsed() < LONG);
}

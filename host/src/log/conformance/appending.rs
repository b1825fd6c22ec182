//! Rules of appending.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{Hand, Place, append, event, everything, expecting, open, with_id};
use crate::event::NewEvent;
use crate::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX};
use crate::log::LogError;

pub(crate) async fn positions_have_no_gaps_and_streams_count_for_themselves(place: &dyn Place) {
    let log = open(place).await;
    append(&*log, &[event("a", "T", "1"), event("b", "T", "2")])
        .await
        .unwrap();
    append(&*log, &[event("a", "U", "3")]).await.unwrap();
    append(&*log, &[]).await.unwrap();
    let appended = append(&*log, &[event("a", "T", "4"), event("a", "T", "5")])
        .await
        .unwrap();
    assert_eq!(appended.positions, [4, 5]);
    assert_eq!((appended.first(), appended.last()), (Some(4), Some(5)));
    let places: Vec<_> = everything(&*log)
        .await
        .into_iter()
        .map(|event| (event.position, event.stream, event.revision, event.data))
        .collect();
    let expected = [
        (1, "a", 1, "1"),
        (2, "b", 1, "2"),
        (3, "a", 2, "3"),
        (4, "a", 3, "4"),
        (5, "a", 4, "5"),
    ];
    assert_eq!(
        places,
        expected.map(|(p, s, r, d)| (p, s.to_owned(), r, d.to_owned()))
    );
    assert_eq!(
        log.head().await.unwrap(),
        place.verify_chain().await.unwrap()
    );
}

pub(crate) async fn a_request_is_appended_whole_or_not_at_all(place: &dyn Place) {
    let log = open(place).await;
    append(&*log, &[with_id("x", event("a", "T", "1"))])
        .await
        .unwrap();
    let before = log.head().await.unwrap();
    let error = append(
        &*log,
        &[event("a", "T", "2"), with_id("x", event("a", "T", "other"))],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, LogError::BadEvent { index: 1, .. }),
        "{error}"
    );
    let error = append(
        &*log,
        &[event("a", "T", "2"), with_id("x", event("a", "T", "3"))],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, LogError::IdTaken { index: 1, .. }),
        "{error}"
    );
    assert_eq!(log.head().await.unwrap(), before);
    // The next one does not notice.
    let appended = append(&*log, &[event("a", "T", "4")]).await.unwrap();
    assert_eq!(appended.positions, [2]);
}

pub(crate) async fn an_id_is_appended_once(place: &dyn Place) {
    let log = open(place).await;
    let events = [
        with_id("x", event("a", "T", "{\"n\": 1}")),
        with_id("y", event("b", "T", "2")),
    ];
    let first = append(&*log, &events).await.unwrap();
    append(&*log, &[event("a", "T", "3")]).await.unwrap();
    let again = append(&*open(place).await, &events).await.unwrap();
    assert_eq!(again.positions, first.positions);
    assert_eq!((first.already_there, again.already_there), (0, 2));
    let twice = [
        with_id("z", event("a", "T", "4")),
        with_id("z", event("a", "T", "4")),
    ];
    let appended = append(&*log, &twice).await.unwrap();
    assert_eq!(appended.positions, [4, 4]);
    assert_eq!(appended.already_there, 1);
    assert_eq!(log.head().await.unwrap().position, 4);
}

pub(crate) async fn an_id_with_other_content_is_refused(place: &dyn Place) {
    let log = open(place).await;
    let first = NewEvent {
        occurred_at: Some(7),
        metadata: Some("{}".to_owned()),
        ..with_id("x", event("a", "T", "1"))
    };
    append(&*log, std::slice::from_ref(&first)).await.unwrap();
    let others = [
        (
            "stream",
            NewEvent {
                stream: "b".to_owned(),
                ..first.clone()
            },
        ),
        (
            "type",
            NewEvent {
                event_type: "U".to_owned(),
                ..first.clone()
            },
        ),
        (
            "data",
            NewEvent {
                data: "1.0".to_owned(),
                ..first.clone()
            },
        ),
        (
            "metadata",
            NewEvent {
                metadata: None,
                ..first.clone()
            },
        ),
        (
            "occurred_at",
            NewEvent {
                occurred_at: None,
                ..first.clone()
            },
        ),
    ];
    for (part, other) in others {
        match append(&*log, &[other]).await {
            Err(
                error @ LogError::IdTaken {
                    position: 1,
                    difference,
                    ..
                },
            ) => {
                assert_eq!(difference, part);
                assert!(error.is_refusal());
            }
            other => panic!("{part}: {other:?}"),
        }
    }
    // The order of keys is of no meaning in metadata: a CloudEvent that comes again may have another.
    let metadata = |text: &str| NewEvent {
        metadata: Some(text.to_owned()),
        ..with_id("y", event("a", "T", "1"))
    };
    let ordered = metadata(r#"{"source":"/a","trace":18446744073709551614,"by":"a\u0000"}"#);
    append(&*log, &[ordered]).await.unwrap();
    let otherwise = metadata(r#"{"by":"a\u0000","source":"/a","trace":18446744073709551614}"#);
    let again = append(&*log, &[otherwise]).await.unwrap();
    assert_eq!((again.positions, again.already_there), (vec![2], 1));
    for other in [
        r#"{"source":"/a","trace":18446744073709551615,"by":"a\u0000"}"#,
        r#"{"source":"/a","trace":18446744073709551614,"by":"b\u0000"}"#,
        r#"{"source":"/a","trace":18446744073709551614}"#,
        "{}",
    ] {
        let refused = append(&*log, &[metadata(other)]).await;
        assert!(matches!(refused, Err(LogError::IdTaken { .. })), "{other}");
    }
    assert_eq!(log.head().await.unwrap().position, 2);
}

pub(crate) async fn ids_are_checked_before_expected_revisions(place: &dyn Place) {
    let log = open(place).await;
    let events = [with_id("x", event("a", "T", "1"))];
    expecting(&*log, &events, &[("a", 0)]).await.unwrap();
    append(&*log, &[event("a", "T", "2")]).await.unwrap();
    // A retry of what went through succeeds, though the stream has moved on.
    let retried = expecting(&*log, &events, &[("a", 0)]).await.unwrap();
    assert_eq!((retried.positions, retried.already_there), (vec![1], 1));
    // Other content under the id is what is wrong, not the revision.
    let other = [with_id("x", event("a", "T", "3"))];
    let error = expecting(&*log, &other, &[("a", 0)]).await.unwrap_err();
    assert!(matches!(error, LogError::IdTaken { .. }), "{error}");
    // Also behind an event that is new.
    let behind = [event("a", "T", "4"), other[0].clone()];
    let error = expecting(&*log, &behind, &[("a", 0)]).await.unwrap_err();
    assert!(
        matches!(error, LogError::IdTaken { index: 1, .. }),
        "{error}"
    );
}

pub(crate) async fn expected_revisions_are_those_before_the_request(place: &dyn Place) {
    let log = open(place).await;
    let two = [
        event("a", "T", "1"),
        event("a", "T", "2"),
        event("b", "T", "3"),
    ];
    expecting(&*log, &two, &[("a", 0), ("b", 0)]).await.unwrap();
    expecting(&*log, &[event("c", "T", "4")], &[("a", 2), ("b", 1)])
        .await
        .unwrap();
    for (stream, expected, actual) in [("a", 0, 2), ("a", 3, 2), ("b", 2, 1), ("new", 1, 0)] {
        match expecting(
            &*log,
            &[event("a", "T", "5")],
            &[("c", 1), (stream, expected)],
        )
        .await
        {
            Err(error @ LogError::Revision { .. }) => {
                assert!(error.is_refusal());
                assert_eq!(
                    error.to_string(),
                    format!(
                        "stream `{stream}` is at revision {actual}, not at {expected} as expected"
                    )
                );
            }
            other => panic!("{stream}: {other:?}"),
        }
    }
    assert_eq!(log.head().await.unwrap().position, 4);
}

pub(crate) async fn a_mixed_request_appends_what_is_new(place: &dyn Place) {
    let log = open(place).await;
    let old = with_id("x", event("a", "T", "1"));
    append(&*log, std::slice::from_ref(&old)).await.unwrap();
    let mixed = [
        with_id("y", event("a", "T", "2")),
        old,
        with_id("z", event("a", "T", "3")),
        event("a", "T", "4"),
    ];
    let appended = append(&*log, &mixed).await.unwrap();
    assert_eq!(appended.positions, [2, 1, 3, 4]);
    assert_eq!(appended.already_there, 1);
    // Refused by the id of an event that is new, after one that is not.
    let taken = [mixed[1].clone(), with_id("z", event("a", "T", "5"))];
    let error = append(&*log, &taken).await.unwrap_err();
    assert!(
        matches!(
            error,
            LogError::IdTaken {
                position: 3,
                index: 1,
                ..
            }
        ),
        "{error}"
    );
}

pub(crate) async fn bad_events_are_refused(place: &dyn Place) {
    let log = open(place).await;
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let large = format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX));
    let bad = [
        event("", "T", "1"),
        event("a", "", "1"),
        event(&long, "T", "1"),
        event("a", &long, "1"),
        with_id(&long, event("a", "T", "1")),
        with_id("", event("a", "T", "1")),
        event("a\0", "T", "1"),
        event("a", "T", ""),
        event("a", "T", "{"),
        event("a", "T", "1e999"),
        event("a", "T", "\"\\ud800\""),
        event("a", "T", &large),
    ];
    for event in bad {
        let shown = format!("{event:?}").chars().take(80).collect::<String>();
        let error = append(&*log, &[event]).await.expect_err(&shown);
        assert!(
            matches!(error, LogError::BadEvent { index: 0, .. }),
            "{shown}: {error}"
        );
    }
    let longest = "ä".repeat(NAME_BYTES_MAX / 2);
    append(&*log, &[with_id(&longest, event(&longest, &longest, "1"))])
        .await
        .unwrap();
    assert_eq!(log.head().await.unwrap().position, 1);
}

pub(crate) async fn json_is_compacted_and_otherwise_kept(place: &dyn Place) {
    let log = open(place).await;
    let written = NewEvent {
        metadata: Some(" { \"b\" : 1 , \"a\" : 2 } ".to_owned()),
        ..event(
            "s",
            "T",
            "{ \"z\" : 1.50,\n \"z\": 1E2, \"a\" : \"\\u00e4 ☃ b\" }",
        )
    };
    append(&*log, &[written]).await.unwrap();
    let stored = everything(&*log).await.remove(0);
    assert_eq!(stored.data, "{\"z\":1.50,\"z\":1E2,\"a\":\"\\u00e4 ☃ b\"}");
    assert_eq!(stored.metadata.as_deref(), Some("{\"b\":1,\"a\":2}"));
}

pub(crate) async fn recorded_times_never_decrease(place: &dyn Place) {
    let clock = Arc::new(Hand(AtomicI64::new(1_000)));
    let log = place.open(clock.clone()).await;
    for now in [1_000, 5_000, 2_000, 6_000] {
        clock.0.store(now, Ordering::SeqCst);
        append(&*log, &[event("a", "T", "1")]).await.unwrap();
    }
    let recorded: Vec<_> = everything(&*log)
        .await
        .iter()
        .map(|event| event.recorded_at)
        .collect();
    assert_eq!(recorded, [1_000, 5_000, 5_000, 6_000]);
}

pub(crate) async fn hashes_name_the_log_and_its_history(place: &dyn Place) {
    let log = open(place).await;
    let start = log.head().await.unwrap();
    assert_eq!(start.position, 0);
    assert_eq!(log.hash_at(0).await.unwrap(), Some(start.hash));
    assert_eq!(start.hash, crate::log::chain::first_previous(log.log_id()));
    append(&*log, &[event("a", "T", "1"), event("a", "T", "1")])
        .await
        .unwrap();
    let events = everything(&*log).await;
    assert_ne!(events[0].hash, events[1].hash);
    assert_eq!(log.hash_at(1).await.unwrap(), Some(events[0].hash));
    assert_eq!(log.head().await.unwrap().hash, events[1].hash);
    assert_eq!(log.hash_at(3).await.unwrap(), None);
    let again = open(place).await;
    assert_eq!(again.log_id(), log.log_id());
    assert_eq!(
        again.head().await.unwrap(),
        place.verify_chain().await.unwrap()
    );
}

pub(crate) async fn several_writers_leave_no_gap(place: &dyn Place) {
    const WRITERS: usize = 4;
    const REQUESTS: usize = 25;
    open(place).await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let log = open(place).await;
        writers.push(tokio::spawn(async move {
            let mut positions = Vec::new();
            for request in 0..REQUESTS {
                let stream = format!("s{writer}");
                let events = [
                    with_id(&format!("{writer}-{request}"), event(&stream, "T", "1")),
                    event("shared", "T", "2"),
                ];
                let appended = append(&*log, &events).await.unwrap();
                assert_eq!(appended.positions[0] + 1, appended.positions[1]);
                positions.extend(appended.positions);
            }
            positions
        }));
    }
    let mut positions = Vec::new();
    for writer in writers {
        positions.extend(writer.await.unwrap());
    }
    positions.sort_unstable();
    let expected: Vec<u64> = (1..=(WRITERS * REQUESTS * 2) as u64).collect();
    assert_eq!(positions, expected);
    let log = open(place).await;
    assert_eq!(
        place.verify_chain().await.unwrap(),
        log.head().await.unwrap()
    );
    let shared = everything(&*log)
        .await
        .into_iter()
        .filter(|event| event.stream == "shared")
        .map(|event| event.revision);
    assert!(shared.eq(1..=(WRITERS * REQUESTS) as u64));
}

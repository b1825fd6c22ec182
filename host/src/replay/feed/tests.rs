//! The feed over a real log: whatever the number of threads, members and batch limits, each member
//! gets what it would have read alone.

use std::sync::Arc;

use proptest::prelude::*;
use retell_contract::manifest::{Envelope, Field, Manifest, Shape, Wanted};

use super::*;
use crate::log::OpenMode;
use crate::log::sqlite::SqliteLog;
use crate::log::{AppendRequest, EventChunk, EventLog, NewEvent};
use crate::replay::parsers::{Asks, Parser, parts_of, types_of};

const TYPES: [&str; 3] = ["Rare", "Common", "Odd"];

/// A module that wants some types, and of each the field `n` as an integer.
fn asks(types: &[&str]) -> Arc<Asks> {
    let shape = |event_type: &&str| Shape {
        event_type: (*event_type).into(),
        fields: vec![Field {
            paths: vec!["n".into()],
            wants: Wanted::Integer,
            optional: false,
            nullable: false,
        }],
    };
    Asks::new(&Manifest {
        name: "m".into(),
        version: "1.0.0".into(),
        shapes: types.iter().map(shape).collect(),
        tables: vec![],
        envelope: Envelope {
            revision: true,
            ..Envelope::default()
        },
        hints: vec![],
        after_replay: vec![],
    })
}

/// Type, payload size; odd ones do not fit.
type Events = Vec<(usize, usize)>;

fn append(runtime: &tokio::runtime::Runtime, log: &SqliteLog, events: &Events) {
    let event = |(number, &(kind, bytes)): (usize, &(usize, usize))| NewEvent {
        stream: format!("s{}", number % 3),
        event_type: TYPES[kind].into(),
        data: if kind == 2 {
            "{\"n\":\"odd\"}".into()
        } else {
            format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(bytes))
        },
        ..NewEvent::default()
    };
    let request = AppendRequest {
        events: events.iter().enumerate().map(event).collect(),
        expected: vec![],
    };
    runtime.block_on(log.append(request)).expect("appends");
}

/// Positions and numbers of what a member gets up to the first event that does not fit, and where
/// that is.
fn collect(
    feed: &Arc<Feed>,
    log: &SqliteLog,
    asks: &Arc<Asks>,
    after: Position,
    head: Position,
) -> (Vec<(Position, u64)>, Option<Position>) {
    let settings = feed.shared().settings;
    let mut chunk = EventChunk::new(settings.batch_events_max, settings.batch_bytes_max);
    let mut parser = Parser::new(std::slice::from_ref(asks));
    let alone = std::slice::from_ref(asks);
    let mut reader = log.reader(types_of(alone), parts_of(alone)).expect("opens");
    let mut got = Vec::new();
    let mut take = |batch: &EventBatch| {
        let revisions = batch.revisions.as_ref().expect("asked for").iter();
        got.extend(batch.positions.iter().copied().zip(revisions.copied()));
    };
    let subscription = feed.subscribe(asks, after, false).expect("threads start");
    let mut reached = after;
    while let Some(window) = subscription.next(head) {
        assert!(window.end > reached);
        if let Some(read) = window.read {
            assert!(read.reached > reached && read.reached <= window.end);
            take(&read.batch);
            reached = read.reached;
        }
        while reached < window.end {
            reader.read(reached, window.end, &mut chunk).expect("reads");
            let parsed = parser.parse(&chunk, 0..chunk.len()).pop().expect("one");
            take(&parsed.batch);
            if let Some(misfit) = parsed.misfit {
                return (got, Some(chunk.positions[misfit.at]));
            }
            reached = chunk.reached;
        }
    }
    assert_eq!(reached, head);
    (got, None)
}

#[derive(Debug, Clone)]
struct Case {
    events: Events,
    settings: FeedSettings,
    /// What each wants (a bit for each type), and where it begins.
    members: Vec<(u8, usize)>,
}

fn case() -> impl Strategy<Value = Case> {
    let event = (
        prop_oneof![1 => Just(0_usize), 10 => Just(1_usize)],
        prop_oneof![9 => 0_usize..50, 1 => Just(3_000_usize)],
    );
    let odd = prop::option::weighted(0.3, any::<prop::sample::Index>());
    let settings =
        (1_usize..4, 1_usize..40, 1_usize..4_000).prop_map(|(threads, events, bytes)| {
            FeedSettings {
                threads,
                batch_events_max: events,
                batch_bytes_max: bytes,
                distance_min: 1,
            }
        });
    let members = prop::collection::vec((1_u8..8, 0_usize..3), 1..5);
    (prop::collection::vec(event, 1..300), odd, settings, members).prop_map(
        |(mut events, odd, settings, members)| {
            if let Some(odd) = odd {
                let at = odd.index(events.len());
                events[at].0 = 2;
            }
            Case {
                events,
                settings,
                members,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everybody_gets_what_it_would_have_read_alone(case in case()) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.db");
        let log = runtime.block_on(SqliteLog::open(&path, OpenMode::CreateIfMissing));
        let log = Arc::new(log.expect("a fresh log"));
        append(&runtime, &log, &case.events);
        let head = case.events.len() as Position;
        let feed = Feed::new(log.clone(), case.settings);
        let threads: Vec<_> = case.members.iter().map(|&(wants, third)| {
            let types: Vec<&str> = (0..3).filter(|bit| wants & (1 << bit) != 0).map(|bit| TYPES[bit]).collect();
            let after = head * third as u64 / 3;
            let (feed, log) = (feed.clone(), log.clone());
            std::thread::spawn(move || {
                let got = collect(&feed, &log, &asks(&types), after, head);
                (types, after, got)
            })
        }).collect();
        for thread in threads {
            let (types, after, (got, stopped)) = thread.join().expect("no panic");
            let mut revisions = [0_u64; 3];
            let mut expected = Vec::new();
            let mut odd = None;
            for (position, (kind, _)) in (1..).zip(&case.events) {
                let stream = usize::try_from((position - 1) % 3).expect("small");
                revisions[stream] += 1;
                if position <= after || !types.contains(&TYPES[*kind]) {
                    continue;
                }
                if *kind == 2 {
                    odd = Some(position);
                    break;
                }
                expected.push((position, revisions[stream]));
            }
            prop_assert_eq!(stopped, odd);
            prop_assert_eq!(got, expected);
        }
    }
}

//! Events that can't be applied: whatever the cuts into batches and the kills, the journal and the
//! rows are those of an independent fold under the same policy and the same decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use retell::event::{NewEvent, Position};
use retell::log::{AppendRequest, EventLog};
use retell::read_model::journal::{Decision, ErrorPolicy, OnError};
use retell::read_model::sqlite::SqliteReadModel;
use retell::replay::Remedy;
use rusqlite::Connection;
use serde_json::json;

use crate::engine;
use crate::replay::{Run, Way, way};

const CASES: u32 = 32;
const EVENTS_MAX: usize = 80;
const STREAMS: u8 = 5;
const NOTES: u8 = 6;

/// What an event asks of the module.
#[derive(Debug, Clone, Copy)]
enum What {
    Add(u8),
    /// Fails while the note is missing, and gives it a star otherwise.
    Needs(u8),
    Fails,
}

#[derive(Debug, Clone, Copy)]
struct Happening {
    stream: u8,
    what: What,
}

impl Happening {
    fn event(self) -> NewEvent {
        let (event_type, data) = match self.what {
            What::Add(id) => (
                "NoteAdded",
                json!({ "id": id.to_string(), "title": "T", "stars": 1 }),
            ),
            What::Needs(id) => ("Misbehaved", json!({ "how": format!("needs {id}") })),
            What::Fails => ("Misbehaved", json!({ "how": "fly" })),
        };
        NewEvent {
            stream: format!("stream-{}", self.stream),
            event_type: event_type.to_owned(),
            data: data.to_string(),
            ..NewEvent::default()
        }
    }
}

/// An operator decides about one of the open entries of the journal, once a position is reached.
#[derive(Debug, Clone)]
struct Order {
    at: Index,
    entry: Index,
    remedy: Remedy,
}

#[derive(Debug)]
struct Case {
    events: Vec<Happening>,
    on_error: OnError,
    orders: Vec<Order>,
    cuts: Way,
    kills: Way,
}

fn case() -> impl Strategy<Value = Case> {
    let what = prop_oneof![
        4 => (0..NOTES).prop_map(What::Add),
        3 => (0..NOTES).prop_map(What::Needs),
        1 => Just(What::Fails),
    ];
    let event = (0..STREAMS, what).prop_map(|(stream, what)| Happening { stream, what });
    let order = (
        any::<Index>(),
        any::<Index>(),
        prop_oneof![Just(Remedy::Retry), Just(Remedy::Skip)],
    )
        .prop_map(|(at, entry, remedy)| Order { at, entry, remedy });
    (
        prop::collection::vec(event, 1..EVENTS_MAX),
        prop_oneof![Just(OnError::Skip), Just(OnError::ParkStream)],
        prop::collection::vec(order, 0..8),
        way(false),
        way(true),
    )
        .prop_map(|(events, on_error, orders, cuts, kills)| Case {
            events,
            on_error,
            orders,
            cuts,
            kills,
        })
}

/// The same rules in plain maps.
struct Fold<'a> {
    events: &'a [Happening],
    on_error: OnError,
    /// Stars by note.
    notes: BTreeMap<u8, u64>,
    journal: BTreeMap<Position, Decision>,
    retries: u64,
}

impl Fold<'_> {
    fn happening(&self, position: Position) -> Happening {
        self.events[usize::try_from(position).expect("a short log") - 1]
    }

    /// True if the event could be applied.
    fn apply(&mut self, position: Position) -> bool {
        match self.happening(position).what {
            What::Add(id) => {
                self.notes.insert(id, 1);
                true
            }
            What::Needs(id) => match self.notes.get_mut(&id) {
                Some(stars) => {
                    *stars += 1;
                    true
                }
                None => false,
            },
            What::Fails => false,
        }
    }

    /// What is parked of a stream, in order.
    fn parked(&self, stream: u8) -> BTreeSet<Position> {
        let parked = self.journal.iter().filter(|(position, decision)| {
            **decision == Decision::Parked && self.happening(**position).stream == stream
        });
        parked.map(|(position, _)| *position).collect()
    }

    fn meet(&mut self, position: Position) {
        if !self.parked(self.happening(position).stream).is_empty() {
            self.journal.insert(position, Decision::Parked);
        } else if !self.apply(position) {
            let decision = match self.on_error {
                OnError::ParkStream => Decision::Parked,
                _ => Decision::Skipped,
            };
            self.journal.insert(position, decision);
        }
    }

    /// What is open, and may be decided about.
    fn open(&self, remedy: Remedy) -> Vec<Position> {
        let may_be = |(position, decision): (&Position, &Decision)| {
            let stream = self.happening(*position).stream;
            let open = match (decision, remedy) {
                (Decision::Skipped, Remedy::Retry) | (Decision::Parked, Remedy::Skip) => true,
                (Decision::Parked, Remedy::Retry) => self.parked(stream).first() == Some(position),
                _ => false,
            };
            open.then_some(*position)
        };
        self.journal.iter().filter_map(may_be).collect()
    }

    fn decide(&mut self, after: Position, position: Position, remedy: Remedy) {
        let parked = self.parked(self.happening(position).stream);
        let is_first = parked.first() == Some(&position);
        let freed: Vec<Position> = match remedy {
            Remedy::Retry if is_first => parked.into_iter().collect(),
            Remedy::Retry => vec![position],
            Remedy::Skip => {
                self.journal.insert(position, Decision::Skipped);
                let behind = parked.into_iter().skip(1);
                behind.filter(|_| is_first).collect()
            }
        };
        for position in freed {
            if !self.apply(position) {
                break;
            }
            self.retries += 1;
            let number = self.retries;
            self.journal
                .insert(position, Decision::Retried { after, number });
        }
    }
}

#[test]
fn rows_and_journal_do_not_depend_on_cuts_and_kills() {
    let runtime = engine::runtime();
    let module = engine::module("brittle");
    let config = Config {
        cases: CASES,
        max_shrink_iters: 200,
        source_file: Some(file!()),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let ran = runner.run(&case(), |case| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = runtime.block_on(engine::open_log(folder.path()));
        let request = AppendRequest {
            events: case.events.iter().map(|it| it.event()).collect(),
            expected: Vec::new(),
        };
        runtime
            .block_on(log.append(request))
            .expect("events can be appended");
        let head = case.events.len() as Position;
        let mut orders: Vec<(Position, &Order)> = case
            .orders
            .iter()
            .map(|order| (order.at.index(case.events.len()) as Position + 1, order))
            .collect();
        orders.sort_by_key(|(at, _)| *at);
        let errors = ErrorPolicy {
            on_error: case.on_error,
            ..ErrorPolicy::default()
        };
        for (name, way) in [
            ("one-shot", &Way::one_shot()),
            ("cuts", &case.cuts),
            ("kills", &case.kills),
        ] {
            let way = way.with(errors);
            let mut fold = Fold {
                events: &case.events,
                on_error: case.on_error,
                notes: BTreeMap::new(),
                journal: BTreeMap::new(),
                retries: 0,
            };
            let path = folder.path().join(format!("{name}.db"));
            let mut run = Run::new(&runtime, &log, &module, path.clone(), &way);
            let mut met = 0;
            for (at, order) in &orders {
                run.advance(*at);
                (met + 1..=*at).for_each(|position| fold.meet(position));
                met = *at;
                let open = fold.open(order.remedy);
                if !open.is_empty() {
                    let position = *order.entry.get(&open);
                    fold.decide(*at, position, order.remedy);
                    run.decide(position, order.remedy);
                }
            }
            run.advance(head);
            (met + 1..=head).for_each(|position| fold.meet(position));
            run.make_ready();
            run.end(head);
            check(&path, &fold, name);
            if name != "one-shot" {
                continue;
            }
            // Another build under the same journal, as it is made to verify one.
            let journal = SqliteReadModel::journal(&path).expect("it can be read");
            let path = folder.path().join("again.db");
            let mut run = Run::new(&runtime, &log, &module, path.clone(), &case.cuts);
            run.advance_under(&journal, head);
            run.end(head);
            check(&path, &fold, "under a journal");
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

fn check(read_model: &Path, fold: &Fold<'_>, way: &str) {
    let journal = SqliteReadModel::journal(read_model).expect("it can be read");
    let journal: BTreeMap<Position, Decision> = journal
        .into_iter()
        .map(|entry| (entry.position, entry.decision))
        .collect();
    assert_eq!(journal, fold.journal, "{way}: journal");
    let rows = Connection::open(read_model).expect("it opens");
    let mut rows = rows
        .prepare("SELECT id, stars FROM note")
        .expect("there are notes");
    let rows = rows
        .query_map([], |row| {
            let id: String = row.get(0)?;
            Ok((id.parse().expect("a small number"), row.get(1)?))
        })
        .expect("notes can be read");
    let notes: BTreeMap<u8, u64> = rows.map(|row| row.expect("a row")).collect();
    assert_eq!(notes, fold.notes, "{way}: rows");
}

//! Replay equivalence: one shot, any batch cuts with any cache, kills at any point, and events that
//! come while the version is ready all end in the same content, and that content is what an
//! independent fold of the same events says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use retell::event::Position;
use retell::log::EventLog;
use retell::log::sqlite::SqliteLog;
use retell::read_model::journal::{ErrorPolicy, JournalEntry};
use retell::read_model::sqlite::SqliteReadModel;
use retell::read_model::{Provenance, ReadModel};
use retell::replay::{Feed, FeedSettings, Remedy, Replay, Settings};
use retell::wasm::{Limits, Module};
use tokio::runtime::Runtime;

use crate::content::{self, Content, Fold};
use crate::engine::{self, GUESTS};

const CASES: u32 = 24;
const EVENTS_MAX: usize = 150;
/// Of one run; opening a read model takes a while.
const KILLS_MAX: u64 = 20;

/// What happens between two batches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Between {
    GoOn,
    Flush,
    /// The process dies: what was not flushed is lost.
    Kill,
}

/// One way to get from an empty read model to the head.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    read: FeedSettings,
    cache_bytes_max: usize,
    flush_bytes: usize,
    flush_interval: Duration,
    rewrite_bytes_min: usize,
    /// Positions of one call, so that batches also end where the events run out.
    stride: u64,
    /// Taken one after the other, and then again from the first.
    between: Vec<Between>,
    /// What becomes of events that the module can't apply.
    errors: ErrorPolicy,
}

impl Way {
    pub(crate) fn one_shot() -> Self {
        let settings = Settings::default();
        Self {
            read: FeedSettings::default(),
            cache_bytes_max: settings.cache_bytes_max,
            flush_bytes: settings.flush_bytes,
            flush_interval: Duration::from_hours(1),
            rewrite_bytes_min: 0,
            stride: Position::MAX,
            between: vec![Between::GoOn],
            errors: ErrorPolicy::default(),
        }
    }

    /// The same with a policy of its own.
    pub(crate) fn with(&self, errors: ErrorPolicy) -> Self {
        Self {
            errors,
            ..self.clone()
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache_bytes_max: self.cache_bytes_max,
            flush_bytes: self.flush_bytes,
            flush_interval: self.flush_interval,
            rewrite_bytes_min: self.rewrite_bytes_min,
            limits: Limits::default(),
            batches_per_instance_max: 256,
            errors: self.errors,
        }
    }
}

pub(crate) fn way(kills: bool) -> impl Strategy<Value = Way> {
    let between = prop_oneof![
        4 => Just(Between::GoOn),
        2 => Just(Between::Flush),
        3 => Just(if kills { Between::Kill } else { Between::GoOn }),
    ];
    (
        0..4_usize,
        prop_oneof![Just(1_usize), 2..40_usize, Just(1_000)],
        prop_oneof![Just(1_usize), 50..3_000_usize, Just(1 << 20)],
        prop_oneof![Just(0_usize), 200..4_000_usize, Just(1 << 28)],
        prop_oneof![Just(0_usize), 100..2_000_usize, Just(1 << 26)],
        prop_oneof![Just(Duration::ZERO), Just(Duration::from_hours(1))],
        prop_oneof![2 => Just(0_usize), 1 => 1..2_000_usize, 1 => Just(usize::MAX)],
        prop_oneof![1..30_u64, Just(Position::MAX)],
        prop::collection::vec(between, 1..12),
    )
        .prop_map(
            |(threads, events, bytes, cache, flush, flush_interval, rewrite, stride, between)| {
                Way {
                    read: FeedSettings {
                        threads,
                        batch_events_max: events,
                        batch_bytes_max: bytes,
                        distance_min: 5,
                    },
                    cache_bytes_max: cache,
                    flush_bytes: flush,
                    flush_interval,
                    rewrite_bytes_min: rewrite,
                    stride,
                    between,
                    errors: ErrorPolicy::default(),
                }
            },
        )
}

/// A build as it lives through kills.
pub(crate) struct Run<'a> {
    runtime: &'a Runtime,
    log: Arc<SqliteLog>,
    module: &'a Module,
    path: PathBuf,
    way: &'a Way,
    epoch: u64,
    replay: Option<Replay>,
    /// How many times it looked at `between`.
    moments: usize,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        runtime: &'a Runtime,
        log: &Arc<SqliteLog>,
        module: &'a Module,
        path: PathBuf,
        way: &'a Way,
    ) -> Self {
        let log = log.clone();
        let mut run = Self {
            runtime,
            log,
            module,
            path,
            way,
            epoch: 0,
            replay: None,
            moments: 0,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        self.epoch += 1;
        let manifest = self.module.manifest();
        let provenance = Provenance {
            projection: manifest.name.clone(),
            version: manifest.version.clone(),
            build: 1,
            module_digest: self.module.digest().to_owned(),
            sdk: self.module.stamp().sdk.clone(),
            contract: self.module.stamp().contract.clone(),
            log_id: self.log.log_id().to_owned(),
        };
        let make = if self.path.exists() {
            SqliteReadModel::open
        } else {
            SqliteReadModel::create
        };
        let model = make(&self.path, manifest, &provenance, self.epoch).expect("it opens");
        let model: Box<dyn ReadModel> = Box::new(model);
        let replay = Replay::open(
            Feed::new(self.log.clone(), self.way.read),
            self.runtime.handle().clone(),
            self.module,
            model,
            self.way.settings(),
        );
        self.replay = Some(replay.expect("the log agrees with the read model"));
    }

    fn replay(&mut self) -> &mut Replay {
        self.replay
            .as_mut()
            .expect("a run has one unless it is being opened")
    }

    /// Whatever the way says shall happen now.
    fn moment(&mut self) {
        let between = &self.way.between;
        let now = between[self.moments % between.len()];
        self.moments += 1;
        match now {
            Between::GoOn => {}
            Between::Flush => self.replay().flush().expect("it can be written"),
            Between::Kill if self.epoch > KILLS_MAX => {}
            Between::Kill => {
                let flushed = self.replay().flushed();
                self.replay = None;
                self.open();
                // What the writer still had in its hands may have come through, too.
                assert!(
                    self.replay().applied() >= flushed,
                    "a kill keeps what was flushed"
                );
            }
        }
    }

    /// Applies everything up to `head`.
    pub(crate) fn advance(&mut self, head: Position) {
        let mut batches = 0;
        while self.replay().applied() < head {
            let (before, missing) = (self.replay().applied(), self.replay().dead_letters());
            let up_to = head.min(before.saturating_add(self.way.stride));
            self.replay()
                .advance(up_to)
                .expect("the events fit the module");
            let after = self.replay().applied();
            let set_aside = self.replay().dead_letters() > missing;
            assert!(
                after > before || set_aside,
                "a batch has at least one event"
            );
            // A way that always kills before anything is flushed would never arrive.
            batches += 1;
            if batches % 3 == 0 {
                self.replay().flush().expect("it can be written");
            }
            self.moment();
        }
    }

    /// Decides about a dead letter.
    pub(crate) fn decide(&mut self, position: Position, remedy: Remedy) {
        let decided = self.replay().decide(position, remedy, &|| false);
        decided.expect("it can be written").expect("it is open");
        self.moment();
    }

    /// Goes to `head` under a journal that another build wrote.
    pub(crate) fn advance_under(&mut self, journal: &[JournalEntry], head: Position) {
        self.replay().follow_journal(journal);
        self.advance(head);
        // What was retried at the very end.
        self.replay()
            .advance(head)
            .expect("it can be applied again");
    }

    pub(crate) fn make_ready(&mut self) {
        self.replay()
            .make_ready()
            .expect("indexes and SQL are right");
        self.moment();
        assert!(self.replay().is_ready());
    }

    /// The content's digest.
    pub(crate) fn end(mut self, head: Position) -> String {
        self.replay().flush().expect("it can be written");
        let replay = self.replay.take().expect("it is open");
        replay.close().expect("it closes");
        let digest = SqliteReadModel::digest(&self.path, self.module.manifest());
        let digest = digest.expect("it can be read");
        assert_eq!(digest.position, head);
        digest.digest
    }
}

#[derive(Debug)]
struct Case {
    events: Vec<Content>,
    /// How many are there before the version is ready.
    early: usize,
    cuts: Way,
    kills: Way,
    following: Way,
}

fn case() -> impl Strategy<Value = Case> {
    let events = prop::collection::vec(content::content(), 1..EVENTS_MAX);
    (events, any::<Index>(), way(false), way(true), way(true)).prop_map(
        |(events, early, cuts, kills, following)| Case {
            early: early.index(events.len()),
            events,
            cuts,
            kills,
            following,
        },
    )
}

#[test]
fn every_way_leads_to_the_same_content() {
    let runtime = engine::runtime();
    let modules = GUESTS.map(engine::module);
    let config = Config {
        cases: CASES,
        // Each try builds 16 read models.
        max_shrink_iters: 60,
        source_file: Some(file!()),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let ran = runner.run(&case(), |case| {
        check(&runtime, &modules, &case);
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

fn check(runtime: &Runtime, modules: &[Module], case: &Case) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = runtime.block_on(engine::open_log(folder.path()));
    let (early, late) = case.events.split_at(case.early);
    let path = |guest: &str, way: &str| folder.path().join(format!("{guest}-{way}.db"));

    runtime.block_on(engine::append(&log, early, 0));
    let mut following: Vec<Run<'_>> = Vec::new();
    for (guest, module) in GUESTS.iter().zip(modules) {
        let file = path(guest, "following");
        let mut run = Run::new(runtime, &log, module, file, &case.following);
        run.advance(early.len() as Position);
        run.make_ready();
        following.push(run);
    }
    // In two requests, so that there is something to follow in between.
    let (first, second) = late.split_at(late.len() / 2);
    let mut head = early.len();
    for part in [first, second] {
        runtime.block_on(engine::append(&log, part, head));
        head += part.len();
        for run in &mut following {
            run.advance(head as Position);
            run.replay().flush().expect("it can be written");
        }
    }
    let head = head as Position;
    let ends = following.into_iter().map(|run| run.end(head));
    let ends: Vec<String> = ends.collect();

    let fold = Fold::of(&case.events);
    for ((guest, module), followed) in GUESTS.iter().zip(modules).zip(ends) {
        let from_nothing = |name: &str, way: &Way| {
            let mut run = Run::new(runtime, &log, module, path(guest, name), way);
            run.advance(head);
            run.make_ready();
            run.end(head)
        };
        let one_shot = from_nothing("one-shot", &Way::one_shot());
        assert_eq!(from_nothing("cuts", &case.cuts), one_shot, "{guest}: cuts");
        assert_eq!(
            from_nothing("kills", &case.kills),
            one_shot,
            "{guest}: kills"
        );
        assert_eq!(followed, one_shot, "{guest}: events after it was ready");
        for name in ["one-shot", "cuts", "kills", "following"] {
            check_rows(guest, &path(guest, name), &fold);
        }
    }
}

/// What SQL shows, beside what the digest covers.
fn check_rows(guest: &str, read_model: &Path, fold: &Fold) {
    match guest {
        "articles_v1" => fold.assert_is_version_1(read_model),
        "articles_v2" => fold.assert_is_version_2(read_model),
        "articles_v3" => content::assert_search(read_model),
        _ => {}
    }
}

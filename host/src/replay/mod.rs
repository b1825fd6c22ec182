//! The replay engine: one build's way from the log to its read model.
//!
//! Data flows one way: reader (`log`), [`parsers`], [`applier`], row cache ([`tables`]), [`writer`],
//! read model. A stage knows the next one's input and nothing else. Far behind the head, the
//! [`feed`] reads and parses ahead on threads of its own and the writer has a thread, too; close to
//! it the same stages run in turn on the caller's thread, which is faster for a few events. This file
//! wires the stages, decides when to flush, and keeps the checkpoint. It knows nothing of versions,
//! roles or leases.

mod absence;
mod applier;
mod bisect;
mod cache;
pub(crate) mod changes;
mod error;
mod feed;
mod journal;
mod order;
mod parsers;
mod poison;
mod priority;
mod progress;
mod shape;
mod table;
mod tables;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::{Hash, Position};
use crate::limits;
use crate::log::{EventChunk, LogReader};
use crate::read_model::journal::ErrorPolicy;
use crate::read_model::{Checkpoint, ReadModel, ReadModelError, Role};
use crate::wasm::{CallError, Limit, Limits, Module};
use applier::Applier;
pub use bisect::Blame;
use cache::FlushNumber;
pub use error::ReplayError;
use feed::Subscription;
pub use feed::{Feed, FeedSettings};
use journal::Journal;
pub use journal::Undecided;
use parsers::{Asks, Parser};
use poison::Script;
pub use poison::{Decided, Remedy};
use priority::Urgent;
pub use progress::{Rate, eta_s};
use tables::{SharedModel, Tables};
use writer::{Flush, Writer, Written};

/// How the engine works for one build.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub cache_bytes_max: usize,
    pub flush_bytes: usize,
    pub flush_interval: Duration,
    /// Smaller flushes never lay a read model out anew.
    pub rewrite_bytes_min: usize,
    pub limits: Limits,
    /// An instance of a module serves so many batches at most.
    pub batches_per_instance_max: u32,
    /// What becomes of events that the module can't apply.
    pub errors: ErrorPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes_max: limits::ROW_CACHE_BYTES_MAX,
            flush_bytes: limits::FLUSH_BYTES,
            flush_interval: limits::FLUSH_INTERVAL,
            rewrite_bytes_min: limits::REWRITE_BYTES_MIN,
            limits: Limits::default(),
            batches_per_instance_max: limits::BATCHES_PER_INSTANCE_MAX,
            errors: ErrorPolicy::default(),
        }
    }
}

/// One build being replayed or followed. Blocking; for a thread of its own.
pub struct Replay {
    feed: Arc<Feed>,
    runtime: tokio::runtime::Handle,
    asks: Arc<Asks>,
    /// Far behind the head: who reads ahead.
    subscription: Option<Subscription>,
    /// Up to here the feed left the reading to us.
    alone_until: Position,
    reader: Box<dyn LogReader>,
    chunk: EventChunk,
    parser: Parser,
    applier: Applier,
    tables: Arc<Mutex<Tables>>,
    writer: Writer,
    model: SharedModel,
    journal: Journal,
    script: Script,
    is_ready: bool,
    /// Held while readers of a ready version wait for events.
    urgent: Option<Urgent>,
    /// Everything up to here is in the row cache or the read model.
    applied: Checkpoint,
    /// Everything up to here is in the read model.
    flushed: Checkpoint,
    flushes: FlushNumber,
    /// A flush failed: what it had is nowhere any more.
    spent: bool,
    since_flush: Stopwatch,
    rate: Rate,
    settings: Settings,
}

impl Replay {
    /// Goes on from the read model's checkpoint, once the log agrees with it.
    /// `runtime`: drives what the log does asynchronously; the caller is not one of its threads.
    pub fn open(
        feed: Arc<Feed>,
        runtime: tokio::runtime::Handle,
        module: &Module,
        mut model: Box<dyn ReadModel>,
        settings: Settings,
    ) -> Result<Self, ReplayError> {
        let manifest = module.manifest();
        let log = &feed.shared().log;
        let flushed = model.checkpoint();
        let mut applied = flushed;
        let there = runtime.block_on(log.hash_at(applied.position))?;
        if applied.position == 0 {
            applied.log_hash = there.unwrap_or_default();
        } else if there != Some(applied.log_hash) {
            return Err(ReplayError::LogChanged {
                position: applied.position,
            });
        }
        let asks = Asks::new(manifest);
        let alone = std::slice::from_ref(&asks);
        let entries = model.journal()?;
        // An event that was retried before any other was applied has rows, too.
        let is_empty = !entries.iter().any(|it| it.decision.retried().is_some());
        let from_nothing = applied.position == 0 && is_empty;
        let journal = Journal::new(entries, settings.errors);
        let mut parts = parsers::parts_of(alone);
        parts.stream |= journal.asks_for_streams();
        let reader = log.reader(parsers::types_of(alone), parts)?;
        let is_ready = model.is_ready();
        let model: SharedModel = Arc::new(Mutex::new(model));
        let tables = Tables::new(
            manifest,
            model.clone(),
            settings.cache_bytes_max,
            settings.limits.size(Limit::CallBytes),
            from_nothing,
        );
        let tables = Arc::new(Mutex::new(tables));
        let read = feed.shared().settings;
        Ok(Self {
            subscription: None,
            alone_until: 0,
            reader,
            chunk: EventChunk::new(read.batch_events_max, read.batch_bytes_max),
            parser: Parser::new(alone),
            applier: Applier::new(module.clone(), tables.clone(), &settings),
            writer: Writer::new(
                model.clone(),
                feed.shared().priority.clone(),
                settings.rewrite_bytes_min,
            ),
            asks,
            feed,
            runtime,
            tables,
            model,
            journal,
            script: Script::default(),
            is_ready,
            urgent: None,
            applied,
            flushed,
            flushes: 0,
            spent: false,
            since_flush: Stopwatch::start(),
            rate: Rate::new(applied.position),
            settings,
        })
    }

    /// Position up to which events are applied; readers see them after the next flush.
    pub fn applied(&self) -> Position {
        self.applied.position
    }

    /// Position up to which the read model holds everything.
    pub fn flushed(&self) -> Position {
        self.flushed.position
    }

    /// Events a second, positions passed over included; 0 until it is known.
    pub fn events_per_s(&self) -> f64 {
        self.rate.events_per_s()
    }

    /// Applies the next batch, up to and including `up_to`, and flushes when that is due. `up_to`
    /// does not go back from one call to the next. What becomes of an event that the module refuses is
    /// the policy's to say; where the build stops, everything before that event is flushed first.
    pub fn advance(&mut self, up_to: Position) -> Result<(), ReplayError> {
        let up_to = self.keep_to_script(up_to)?;
        if self.applied.position >= up_to {
            return Ok(());
        }
        self.rate.goes_on(self.applied.position);
        let priority = &self.feed.shared().priority;
        if !self.is_ready {
            priority.give_way();
        } else if self.urgent.is_none() {
            self.urgent = Some(priority.urgent());
        }
        match self.next_batch(up_to) {
            Some(read) => {
                crash_point::reach(CrashPoint::BatchRead);
                self.apply_read(&read)?;
            }
            None => self.apply_alone(up_to)?,
        }
        crash_point::reach(CrashPoint::BatchApplied);
        if self.applied.position >= up_to {
            self.subscription = None;
        }
        self.rate.reached(self.applied.position);
        self.flush_if_due()
    }

    /// Writes all changed rows and the checkpoint in one transaction.
    pub fn flush(&mut self) -> Result<(), ReplayError> {
        self.flush_all(false)
    }

    fn flush_all(&mut self, is_last: bool) -> Result<(), ReplayError> {
        if let Some(ended) = self.writer.wait() {
            self.note(ended)?;
        }
        if self.flushed != self.applied || self.journal.has_changed() {
            let flush = self.freeze(is_last)?;
            let written = self.writer.write(flush);
            self.note(written)?;
        }
        self.urgent = None;
        Ok(())
    }

    /// Builds the indexes and runs the module's SQL; the read model is ready then.
    pub fn make_ready(&mut self) -> Result<(), ReplayError> {
        self.flush_all(true)?;
        let made = lock(&self.model).prepare_ready();
        made.map_err(|error| self.blame_rows(error))?;
        crash_point::reach(CrashPoint::ReadModelReady);
        self.is_ready = true;
        Ok(())
    }

    /// Notes in the read model what it is to its readers.
    pub fn set_role(&mut self, role: Role) -> Result<(), ReplayError> {
        self.flush()?;
        Ok(lock(&self.model).set_role(role)?)
    }

    /// Whether `make_ready` is done, now or in an earlier run.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Closes the read model so that it survives the machine, too. Unflushed rows are dropped; they
    /// are applied again next time.
    pub fn close(self) -> Result<(), ReplayError> {
        let Self {
            model,
            applier,
            tables,
            writer,
            ..
        } = self;
        drop((applier, tables, writer));
        let model = Arc::into_inner(model).expect("all who shared it are gone");
        let model = model.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(model.close()?)
    }

    /// The next batch from the feed, where the feed is worth it.
    fn next_batch(&mut self, up_to: Position) -> Option<Box<feed::Read>> {
        let applied = self.applied.position;
        if applied < self.alone_until {
            return None;
        }
        // The feed knows nothing of streams.
        if self.journal.has_parked() {
            self.subscription = None;
            return None;
        }
        let read = self.feed.shared().settings;
        let is_far = up_to - applied >= read.distance_min && read.threads > 0;
        if self.subscription.is_none() && is_far {
            self.subscription = self.feed.subscribe(&self.asks, applied, self.is_ready);
        }
        let window = self.subscription.as_ref()?.next(up_to)?;
        self.alone_until = window.end;
        window.read
    }

    fn apply_read(&mut self, read: &feed::Read) -> Result<(), ReplayError> {
        self.check_history(read.joined_hash)?;
        let window = self.applied.position + 1..=read.reached;
        if self.journal.knows_any(window) {
            return self.apply_alone(read.reached);
        }
        if !read.batch.positions.is_empty() {
            match self.applier.apply(&read.batch) {
                Ok(()) => {}
                Err(CallError::Host { source }) => return Err(ReplayError::Rows { source }),
                // Read again, to find the event to blame.
                Err(_) => return self.apply_alone(read.reached),
            }
        }
        self.applied = Checkpoint {
            position: read.reached,
            log_hash: read.reached_hash,
        };
        Ok(())
    }

    /// What was read from where everything is applied must be of the log that was applied.
    fn check_history(&self, joined_hash: Option<Hash>) -> Result<(), ReplayError> {
        let Checkpoint { position, log_hash } = self.applied;
        if joined_hash.is_some_and(|hash| hash != log_hash) {
            return Err(ReplayError::LogChanged { position });
        }
        Ok(())
    }

    /// Reads and applies the next batch without the feed.
    fn apply_alone(&mut self, up_to: Position) -> Result<(), ReplayError> {
        // What comes after that is in the queue already.
        let up_to = match &self.subscription {
            Some(_) => up_to.min(self.alone_until),
            None => up_to,
        };
        self.check_room()?;
        self.reader
            .read(self.applied.position, up_to, &mut self.chunk)?;
        self.check_history(self.chunk.joined_hash)?;
        crash_point::reach(CrashPoint::BatchRead);
        let aside = self.set_aside();
        match bisect::apply(&mut self.applier, &mut self.parser, &self.chunk, &aside) {
            Ok(()) => {
                let (position, log_hash) = (self.chunk.reached, self.chunk.reached_hash);
                self.reach(Checkpoint { position, log_hash });
                Ok(())
            }
            Err(bisect::Stopped::Host(source)) => Err(ReplayError::Rows { source }),
            Err(bisect::Stopped::Module(blame)) => self.refuse(blame),
        }
    }

    fn flush_if_due(&mut self) -> Result<(), ReplayError> {
        if let Some(ended) = self.writer.ended() {
            self.note(ended)?;
        }
        let dirty_bytes = self.tables().dirty_bytes();
        // Dirty and frozen rows can't be forgotten: together they stay within the cache's budget. While
        // one flush is written the next one grows, up to that: few large ones cost less than many.
        let dirty_bytes_max = self.settings.cache_bytes_max / 16 * 7;
        let is_due = dirty_bytes > 0 && dirty_bytes >= self.settings.flush_bytes;
        let is_full = dirty_bytes > 0 && dirty_bytes >= dirty_bytes_max;
        if !is_due && !is_full && self.since_flush.elapsed() < self.settings.flush_interval {
            return Ok(());
        }
        if self.writer.is_running() {
            if !is_full {
                return Ok(());
            }
            if let Some(ended) = self.writer.wait() {
                self.note(ended)?;
            }
        }
        let flush = self.freeze(false)?;
        self.writer.begin(flush).map_err(|source| {
            self.spent = true;
            ReplayError::Thread { source }
        })
    }

    fn freeze(&mut self, is_last: bool) -> Result<Flush, ReplayError> {
        if self.spent {
            return Err(ReplayError::Spent);
        }
        self.since_flush = Stopwatch::start();
        self.flushes = self.flushes.wrapping_add(1);
        let frozen = self.tables().freeze(self.flushes);
        Ok(Flush {
            frozen,
            journal: self.journal.take_changed(),
            is_last,
            checkpoint: self.applied,
            events_per_s: self.rate.events_per_s(),
        })
    }

    /// A flush ended.
    fn note(&mut self, ended: Result<Written, ReadModelError>) -> Result<(), ReplayError> {
        match ended {
            Ok(written) => {
                self.flushed = written.checkpoint;
                let mut tables = self.tables();
                tables.committed(written.number);
                // What is ready is not replaced any more.
                if !self.is_ready {
                    tables.let_go()?;
                }
                Ok(())
            }
            Err(error) => {
                self.spent = true;
                Err(self.blame_rows(error))
            }
        }
    }

    /// Rows that the database refuses as none of the table's are the module's doing; the rest is
    /// the host's.
    fn blame_rows(&self, error: ReadModelError) -> ReplayError {
        if !error.is_the_modules_fault() {
            return error.into();
        }
        ReplayError::Module(Box::new(Blame::Contract {
            first: self.flushed() + 1,
            last: self.applied.position,
            message: crate::error_chain(&error),
        }))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(model: &SharedModel) -> MutexGuard<'_, Box<dyn ReadModel>> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

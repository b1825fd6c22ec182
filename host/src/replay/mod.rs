//! The replay engine: one build's way from the log to its read model.
//!
//! Data flows one way: reader (`log`), [`parsers`], [`applier`], row cache and writer ([`tables`]),
//! read model. A stage knows the next one's input and nothing else. This file wires the stages,
//! decides when to flush, and keeps the checkpoint. It knows nothing of versions, roles or leases.

mod applier;
mod bisect;
mod cache;
mod changes;
mod parsers;
mod progress;
mod shape;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Stopwatch;
use crate::event::{Hash, Position};
use crate::limits;
use crate::log::{EnvelopeParts, EventChunk, EventLog, LogError, LogReader, TypeFilter};
use crate::read_model::{Checkpoint, ReadModel, ReadModelError, Role};
use crate::wasm::{Limits, Module};
use applier::Applier;
pub use bisect::Blame;
use parsers::Parser;
pub use progress::{Rate, eta_s};
use tables::Tables;

/// Why a replay stopped. The log and read model's faults pass; the module's and the log's history
/// do not.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the log can't be read")]
    Log(#[from] LogError),
    #[error("the read model can't be used")]
    ReadModel(#[from] ReadModelError),
    /// Rows could not be read while the module ran.
    #[error("the read model can't be used")]
    Rows {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the module can't be loaded")]
    Load {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The module's own doing: the version fails, and the reason says where and why.
    #[error("{0}")]
    Module(Box<Blame>),
    #[error(
        "the log is not the one this read model was built from: at position {position} its hash \
         differs; it was restored to an older state and went another way, or is another log"
    )]
    LogChanged { position: Position },
}

/// How the engine works for one build.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    pub cache_bytes_max: usize,
    pub flush_bytes: usize,
    pub flush_interval: std::time::Duration,
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_events_max: limits::BATCH_EVENTS_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            cache_bytes_max: limits::ROW_CACHE_BYTES_MAX,
            flush_bytes: limits::FLUSH_BYTES,
            flush_interval: limits::FLUSH_INTERVAL,
            limits: Limits::default(),
        }
    }
}

/// One build being replayed or followed. Blocking; for a thread of its own.
pub struct Replay {
    log: Arc<dyn EventLog>,
    runtime: tokio::runtime::Handle,
    reader: Box<dyn LogReader>,
    chunk: EventChunk,
    parser: Parser,
    applier: Applier,
    tables: Arc<Mutex<Tables>>,
    /// Everything up to here is in the row cache or the read model.
    applied: Checkpoint,
    since_flush: Stopwatch,
    rate: Rate,
    settings: Settings,
}

impl Replay {
    /// Goes on from the read model's checkpoint, once the log agrees with it.
    /// `runtime`: drives what the log does asynchronously; the caller is not one of its threads.
    pub fn open(
        log: Arc<dyn EventLog>,
        runtime: tokio::runtime::Handle,
        module: &Module,
        model: Box<dyn ReadModel>,
        settings: Settings,
    ) -> Result<Self, ReplayError> {
        let manifest = module.manifest();
        let mut applied = model.checkpoint();
        let there = runtime.block_on(log.hash_at(applied.position))?;
        if applied.position == 0 {
            applied.log_hash = there.unwrap_or_default();
        } else if there != Some(applied.log_hash) {
            return Err(ReplayError::LogChanged {
                position: applied.position,
            });
        }
        let types = if manifest.shapes.iter().any(|shape| shape.event_type == "*") {
            TypeFilter::All
        } else {
            let mut types: Vec<String> = manifest
                .shapes
                .iter()
                .map(|shape| shape.event_type.clone())
                .collect();
            types.sort();
            types.dedup();
            TypeFilter::Only(types)
        };
        let parts = EnvelopeParts {
            revision: manifest.envelope.revision,
            // `time` is the one where there is one, else the other.
            occurred_at: manifest.envelope.occurred_at || manifest.envelope.time,
            recorded_at: manifest.envelope.recorded_at || manifest.envelope.time,
            stream: manifest.envelope.stream,
            id: manifest.envelope.id,
            metadata: manifest.envelope.metadata,
        };
        let reader = log.reader(types, parts)?;
        let fresh = applied.position == 0;
        let tables = Arc::new(Mutex::new(Tables::new(
            manifest,
            model,
            settings.cache_bytes_max,
            fresh,
        )));
        Ok(Self {
            chunk: EventChunk::new(settings.batch_events_max, settings.batch_bytes_max),
            parser: Parser::new(manifest),
            applier: Applier::new(module.clone(), tables.clone(), settings.limits),
            log,
            runtime,
            reader,
            tables,
            applied,
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
        self.tables().checkpoint().position
    }

    /// Events a second, positions passed over included; 0 until it is known.
    pub fn events_per_s(&self) -> f64 {
        self.rate.events_per_s()
    }

    /// Applies the next batch, up to and including `up_to`, and flushes when that is due. When the
    /// module refuses an event, everything before that event is flushed first.
    pub fn advance(&mut self, up_to: Position) -> Result<(), ReplayError> {
        if self.applied.position >= up_to {
            return Ok(());
        }
        self.reader
            .read(self.applied.position, up_to, &mut self.chunk)?;
        match bisect::apply(&mut self.applier, &mut self.parser, &self.chunk) {
            Ok(()) => {
                let (position, log_hash) = (self.chunk.reached, self.chunk.reached_hash);
                self.applied = Checkpoint { position, log_hash };
            }
            Err(bisect::Stopped::Host(source)) => return Err(ReplayError::Rows { source }),
            Err(bisect::Stopped::Module(blame)) => {
                self.stop_before(blame.position())?;
                return Err(ReplayError::Module(blame));
            }
        }
        self.rate.reached(self.applied.position);
        let due = self.tables().dirty_bytes() >= self.settings.flush_bytes
            || self.since_flush.elapsed() >= self.settings.flush_interval;
        if due { self.flush() } else { Ok(()) }
    }

    /// Writes all changed rows and the checkpoint in one transaction.
    pub fn flush(&mut self) -> Result<(), ReplayError> {
        self.since_flush = Stopwatch::start();
        let (checkpoint, rate) = (self.applied, self.rate.events_per_s());
        let flushed = self.tables().flush(checkpoint, rate);
        flushed.map_err(|error| self.blame_rows(error))
    }

    /// Builds the indexes and runs the module's SQL; the read model is ready then.
    pub fn make_ready(&mut self) -> Result<(), ReplayError> {
        self.flush()?;
        let made = self.tables().model().prepare_ready();
        made.map_err(|error| self.blame_rows(error))
    }

    /// Notes in the read model what it is to its readers.
    pub fn set_role(&mut self, role: Role) -> Result<(), ReplayError> {
        self.flush()?;
        Ok(self.tables().model().set_role(role)?)
    }

    /// Whether `make_ready` is done, now or in an earlier run.
    pub fn is_ready(&self) -> bool {
        self.tables().model().is_ready()
    }

    /// Closes the read model so that it survives the machine, too. Unflushed rows are dropped; they
    /// are applied again next time.
    pub fn close(self) -> Result<(), ReplayError> {
        let Self {
            applier, tables, ..
        } = self;
        drop(applier);
        let tables = Arc::into_inner(tables).expect("the applier held the only other handle");
        let tables = tables.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(tables.into_model().close()?)
    }

    /// Keeps what came before the event that the module refused.
    fn stop_before(&mut self, refused: Position) -> Result<(), ReplayError> {
        let position = refused - 1;
        if position > self.applied.position {
            let log_hash: Hash = self
                .runtime
                .block_on(self.log.hash_at(position))?
                .ok_or(ReplayError::LogChanged { position })?;
            self.applied = Checkpoint { position, log_hash };
        }
        self.flush()
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

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

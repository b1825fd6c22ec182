//! One instance of a module: its memory, its limits, and the calls into it. An instance that
//! reported an error is of no more use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use super::bindings::{
    ChangeSet, EventBatch, PackedRows, Projection, ProjectionPre, read_model, types,
};
use super::engine::Engine;
use super::limits::{Limit, Limits};
use super::module::Module;
use super::trap::{BrokenContract, CallError, HostFault, LimitHit, RefusedEvent, judge};
use crate::clock::Stopwatch;
use crate::limits;

/// Why an import was not served.
#[derive(Debug, thiserror::Error)]
pub enum RowSourceError {
    /// The module asked for something senseless.
    #[error("{message}")]
    Contract { message: String },
    /// A change that this event made can't stand.
    #[error("{message}")]
    Refused { event: u32, message: String },
    /// The answer would be more than a call may carry.
    #[error("the rows take more than one call may carry")]
    TooMuch,
    /// The read model failed.
    #[error("the read model failed")]
    Host {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the imports of a module are served from: its own tables during one call.
pub trait RowSource: Send {
    /// One entry per key, in order; empty where there is no such row.
    fn get_many(
        &mut self,
        table: u16,
        keys: &[u8],
        key_ends: &[u32],
    ) -> Result<PackedRows, RowSourceError>;
    /// See the WIT.
    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<PackedRows, RowSourceError>;
    /// Takes changes that count if the call succeeds, and shows them to later scans.
    fn stage(&mut self, changes: ChangeSet) -> Result<(), RowSourceError>;
}

/// A running module.
pub struct Instance {
    store: Store<State>,
    projection: Projection,
    limits: Limits,
}

/// What the store holds for the imports.
pub(super) struct State {
    rows: Arc<Mutex<dyn RowSource>>,
    limits: Limits,
    /// Who logs, for the host's own log.
    name: String,
    running: Stopwatch,
    /// Time spent inside imports during this call; it is not the guest's.
    in_imports: Duration,
    memory_bytes: usize,
    table_elements: usize,
    /// Changed so far in this call, staged ones included.
    change_rows: u64,
    change_bytes: u64,
    log_lines: u64,
    /// What it logged, with the level of each line.
    log: Vec<(u8, String)>,
    last_error_line: Option<String>,
}

impl Instance {
    /// A fresh instance. It takes some ten microseconds, so recycling one is cheap.
    pub fn new(
        module: &Module,
        rows: Arc<Mutex<dyn RowSource>>,
        limits: Limits,
    ) -> Result<Self, CallError> {
        Self::start(module.engine(), module.pre(), &module.name(), rows, limits)
    }

    /// An instance of a module of which nothing else is known yet. `name`: for the host's log.
    pub(super) fn start(
        engine: &Engine,
        pre: &ProjectionPre<State>,
        name: &str,
        rows: Arc<Mutex<dyn RowSource>>,
        limits: Limits,
    ) -> Result<Self, CallError> {
        let state = State {
            rows,
            limits,
            name: name.to_owned(),
            running: Stopwatch::start(),
            in_imports: Duration::ZERO,
            memory_bytes: 0,
            table_elements: 0,
            change_rows: 0,
            change_bytes: 0,
            log_lines: 0,
            log: Vec::new(),
            last_error_line: None,
        };
        let mut store = Store::new(engine.inner(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.size(Limit::CallBytes));
        store.set_epoch_deadline(1);
        let batch_time_max = limits.time(Limit::BatchTime);
        store.epoch_deadline_callback(move |context| {
            let state = context.data();
            // A slow database is no fault of the module's, but asking for ever is.
            let in_imports = state
                .in_imports
                .min(batch_time_max.saturating_mul(limits::IMPORTS_TIME_FACTOR));
            let guest_time = state.running.elapsed().saturating_sub(in_imports);
            Ok(if guest_time < batch_time_max {
                UpdateDeadline::Continue(1)
            } else {
                UpdateDeadline::Interrupt
            })
        });
        let projection = pre.instantiate(&mut store).map_err(|error| {
            match judge(error, store.data_mut().last_error_line.take(), &limits) {
                // Its imports were checked when it was loaded; what is left is memory and the like.
                CallError::Contract { message } => CallError::Host {
                    source: message.into(),
                },
                judged => judged,
            }
        })?;
        Ok(Self {
            store,
            projection,
            limits,
        })
    }

    /// What the module says of itself, unchecked.
    pub(super) fn describe(&mut self) -> Result<types::Manifest, CallError> {
        self.begin_call();
        let described = self.projection.call_describe(&mut self.store);
        described.map_err(|error| self.judge(error))
    }

    /// Folds a batch. The changes that were staged during the call come before those returned.
    pub fn apply(&mut self, batch: &EventBatch) -> Result<ChangeSet, CallError> {
        self.begin_call();
        match self.projection.call_apply(&mut self.store, batch) {
            Ok(Ok(changes)) => match self.store.data_mut().count(&changes) {
                Ok(()) => Ok(changes),
                Err(LimitHit { limit, value }) => Err(CallError::Limit { limit, value }),
            },
            Ok(Err(failure)) => Err(CallError::Failure {
                event: failure.event,
                message: failure.message,
            }),
            Err(error) => Err(self.judge(error)),
        }
    }

    /// Hands on what the module logged in its last call. A call that is made again as it was told too
    /// little would say things that are not so.
    pub fn pass_on_log(&mut self) {
        let state = self.store.data_mut();
        for (level, message) in state.log.drain(..) {
            let module = &state.name;
            match level {
                0 | 1 => tracing::debug!(%module, "guest error: {message}"),
                2 => tracing::warn!(%module, "{message}"),
                3 => tracing::info!(%module, "{message}"),
                _ => tracing::debug!(%module, "{message}"),
            }
        }
    }

    fn begin_call(&mut self) {
        let state = self.store.data_mut();
        state.log.clear();
        state.running = Stopwatch::start();
        state.in_imports = Duration::ZERO;
        (state.change_rows, state.change_bytes) = (0, 0);
        state.log_lines = 0;
        state.last_error_line = None;
        // The callback looks at the clock at every tick and goes on until the time is used up.
        self.store.set_epoch_deadline(1);
    }

    fn judge(&mut self, error: wasmtime::Error) -> CallError {
        let last_words = self.store.data_mut().last_error_line.take();
        judge(error, last_words, &self.limits)
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("module", &self.store.data().name)
            .finish_non_exhaustive()
    }
}

impl State {
    fn hit(&self, limit: Limit) -> LimitHit {
        let value = self.limits.get(limit);
        LimitHit { limit, value }
    }

    /// Counts what the call changed, before anybody looks into it.
    fn count(&mut self, changes: &ChangeSet) -> Result<(), LimitHit> {
        self.change_rows += changes.events.len() as u64;
        self.change_bytes += (changes.keys.len() + changes.rows.len()) as u64;
        let mut start = 0;
        let row_bytes =
            |&end: &u32| u64::from(end.saturating_sub(std::mem::replace(&mut start, end)));
        let longest = changes.row_ends.iter().map(row_bytes).max();
        for (limit, used) in [
            (Limit::ChangeRows, self.change_rows),
            (Limit::ChangeBytes, self.change_bytes),
            (Limit::RowBytes, longest.unwrap_or(0)),
        ] {
            if used > self.limits.get(limit) {
                return Err(self.hit(limit));
            }
        }
        Ok(())
    }

    /// Serves an import: counts its time as the host's, and sorts its errors.
    fn serve<T>(
        &mut self,
        serve: impl FnOnce(&mut dyn RowSource) -> Result<T, RowSourceError>,
    ) -> wasmtime::Result<T> {
        let watch = Stopwatch::start();
        let served = {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            serve(&mut *rows)
        };
        self.in_imports += watch.elapsed();
        let too_much = self.hit(Limit::CallBytes);
        served.map_err(|error| match error {
            RowSourceError::Contract { message } => {
                wasmtime::Error::new(BrokenContract { message })
            }
            RowSourceError::Refused { event, message } => {
                wasmtime::Error::new(RefusedEvent { event, message })
            }
            RowSourceError::TooMuch => wasmtime::Error::new(too_much),
            RowSourceError::Host { source } => wasmtime::Error::new(HostFault { source }),
        })
    }
}

impl types::Host for State {}

impl read_model::Host for State {
    fn get_many(
        &mut self,
        table: u16,
        keys: Vec<u8>,
        key_ends: Vec<u32>,
    ) -> wasmtime::Result<PackedRows> {
        self.serve(|rows| rows.get_many(table, &keys, &key_ends))
    }

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: u32,
    ) -> wasmtime::Result<PackedRows> {
        let limit = limit.min(limits::SCAN_ROWS_MAX);
        self.serve(|rows| rows.scan(table, index, &prefix, after.as_deref(), limit))
    }

    fn stage(&mut self, changes: ChangeSet) -> wasmtime::Result<()> {
        self.count(&changes).map_err(wasmtime::Error::new)?;
        self.serve(|rows| rows.stage(changes))
    }

    fn log(&mut self, level: u8, message: String) -> wasmtime::Result<()> {
        self.log_lines += 1;
        let message = cut(message, limits::GUEST_LOG_LINE_BYTES_MAX);
        // Kept even past the limit: it is what a panic leaves behind.
        if level <= 1 {
            self.last_error_line = Some(message.clone());
        }
        let lines_max = self.limits.get(Limit::LogLines);
        if self.log_lines <= lines_max {
            self.log.push((level, message));
        } else if self.log_lines == lines_max + 1 {
            let message = "too many log lines in one batch; the rest is dropped";
            self.log.push((2, message.to_owned()));
        }
        Ok(())
    }
}

/// The text, cut at a character's end to at most `bytes_max` bytes.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Of all its memories together.
        let grown = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if grown <= self.limits.size(Limit::Memory) {
            self.memory_bytes = grown;
            return Ok(true);
        }
        Err(wasmtime::Error::new(self.hit(Limit::Memory)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Of all its tables together.
        let grown = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if grown <= self.limits.size(Limit::TableElements) {
            self.table_elements = grown;
            return Ok(true);
        }
        Err(wasmtime::Error::new(self.hit(Limit::TableElements)))
    }

    fn instances(&self) -> usize {
        limits::GUEST_PARTS_MAX
    }

    fn tables(&self) -> usize {
        limits::GUEST_PARTS_MAX
    }

    fn memories(&self) -> usize {
        limits::GUEST_PARTS_MAX
    }
}

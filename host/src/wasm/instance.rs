//! One instance of a module: its memory, its limits, and the calls into it. An instance that
//! reported an error is of no more use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use super::bindings::{
    ChangeSet, EventBatch, PackedRows, Projection, ProjectionPre, read_model, types,
};
use super::engine::Engine;
use super::module::Module;
use super::trap::{BrokenContract, CallError, HostFault, LimitHit, RefusedEvent, judge};
use crate::clock::Stopwatch;
use crate::limits;

/// What an instance may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes_max: usize,
    pub table_elements_max: usize,
    pub batch_time_max: Duration,
    pub call_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: limits::GUEST_MEMORY_BYTES_MAX,
            table_elements_max: limits::GUEST_TABLE_ELEMENTS_MAX,
            batch_time_max: limits::GUEST_BATCH_TIME_MAX,
            call_bytes_max: limits::GUEST_CALL_BYTES_MAX,
        }
    }
}

/// Why an import was not served.
#[derive(Debug, thiserror::Error)]
pub enum RowSourceError {
    /// The module asked for something senseless.
    #[error("{message}")]
    Contract { message: String },
    /// A change that this event made can't stand.
    #[error("{message}")]
    Refused { event: u32, message: String },
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
    batch_time_max: Duration,
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
    log_lines: usize,
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
            log_lines: 0,
            last_error_line: None,
        };
        let mut store = Store::new(engine.inner(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.call_bytes_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            let state = context.data();
            let guest_time = state.running.elapsed().saturating_sub(state.in_imports);
            Ok(if guest_time < limits.batch_time_max {
                UpdateDeadline::Continue(1)
            } else {
                UpdateDeadline::Interrupt
            })
        });
        let projection = pre.instantiate(&mut store).map_err(|error| {
            match judge(error, store.data_mut().last_error_line.take()) {
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
            batch_time_max: limits.batch_time_max,
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
            Ok(Ok(changes)) => Ok(changes),
            Ok(Err(failure)) => Err(CallError::Failure {
                event: failure.event,
                message: failure.message,
            }),
            Err(error) => Err(self.judge(error)),
        }
    }

    fn begin_call(&mut self) {
        let state = self.store.data_mut();
        state.running = Stopwatch::start();
        state.in_imports = Duration::ZERO;
        state.log_lines = 0;
        state.last_error_line = None;
        // The callback looks at the clock at every tick and goes on until the time is used up.
        self.store.set_epoch_deadline(1);
    }

    fn judge(&mut self, error: wasmtime::Error) -> CallError {
        let mut judged = judge(error, self.store.data_mut().last_error_line.take());
        if let CallError::Limit {
            limit: "time for one batch",
            value,
        } = &mut judged
        {
            *value = format!("{} ms", self.batch_time_max.as_millis());
        }
        judged
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
        served.map_err(|error| match error {
            RowSourceError::Contract { message } => {
                wasmtime::Error::new(BrokenContract { message })
            }
            RowSourceError::Refused { event, message } => {
                wasmtime::Error::new(RefusedEvent { event, message })
            }
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
        self.serve(|rows| rows.stage(changes))
    }

    fn log(&mut self, level: u8, message: String) -> wasmtime::Result<()> {
        self.log_lines += 1;
        let message = cut(message, limits::GUEST_LOG_LINE_BYTES_MAX);
        // Kept even past the limit: it is what a panic leaves behind.
        if level <= 1 {
            self.last_error_line = Some(message.clone());
        }
        if self.log_lines <= limits::GUEST_LOG_LINES_MAX {
            let module = &self.name;
            match level {
                0 | 1 => tracing::debug!(%module, "guest error: {message}"),
                2 => tracing::warn!(%module, "{message}"),
                3 => tracing::info!(%module, "{message}"),
                _ => tracing::debug!(%module, "{message}"),
            }
        } else if self.log_lines == limits::GUEST_LOG_LINES_MAX + 1 {
            let module = &self.name;
            tracing::warn!(%module, "too many log lines in one batch; the rest is dropped");
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
        if grown <= self.limits.memory_bytes_max {
            self.memory_bytes = grown;
            return Ok(true);
        }
        Err(wasmtime::Error::new(LimitHit {
            limit: "memory",
            value: format!("{} MiB", self.limits.memory_bytes_max >> 20),
        }))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= self.limits.table_elements_max {
            return Ok(true);
        }
        Err(wasmtime::Error::new(LimitHit {
            limit: "table elements",
            value: self.limits.table_elements_max.to_string(),
        }))
    }
}

//! Calls the module, and hands its changes to the tables. A call counts whole or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;

use super::Settings;
use super::changes::MergeError;
use super::tables::Tables;
use crate::wasm::{CallError, EventBatch, Instance, Limits, Module};

/// How often a batch is rehearsed when its rows are far away and not in the cache: each rehearsal
/// finds the rows that those of the one before lead to.
const REHEARSALS_MAX: usize = 3;

/// Applies batches, one at a time.
pub(super) struct Applier {
    module: Module,
    tables: Arc<Mutex<Tables>>,
    limits: Limits,
    /// An instance serves so many batches at most, and a sixteenth of them at least, drawn anew each
    /// time: a module that relies on what memory kept from one call to the next shows it soon.
    batches_max: u32,
    instance: Option<Instance>,
    batches_left: u32,
}

impl Applier {
    pub(super) fn new(module: Module, tables: Arc<Mutex<Tables>>, settings: &Settings) -> Self {
        Self {
            module,
            tables,
            limits: settings.limits,
            batches_max: settings.batches_per_instance_max.max(1),
            instance: None,
            batches_left: 0,
        }
    }

    /// Applies a batch. After an error nothing of it is in the tables, and the next call runs in a
    /// fresh instance.
    pub(super) fn apply(&mut self, batch: &EventBatch) -> Result<(), CallError> {
        let events = batch.positions.len();
        self.tables().make_room();
        let applied = self.call_with_rows(batch).and_then(|changes| {
            self.tables()
                .merge(&changes, events)
                .map_err(|error| match error {
                    MergeError::Duplicate { event, message } => {
                        CallError::Failure { event, message }
                    }
                    MergeError::Contract { message } => CallError::Contract { message },
                    MergeError::ReadModel(error) if error.is_the_modules_fault() => {
                        CallError::Contract {
                            message: crate::error_chain(&error),
                        }
                    }
                    MergeError::ReadModel(error) => CallError::Host {
                        source: Box::new(error),
                    },
                })
        });
        if applied.is_err() {
            self.instance = None;
            self.tables().take_back();
        }
        applied
    }

    /// The next call runs in a fresh instance.
    pub(super) fn renew(&mut self) {
        self.instance = None;
    }

    /// Calls the module with the rows that it asks for. A module is a pure function of what it is
    /// given, so a call that was told too little is made again.
    fn call_with_rows(&mut self, batch: &EventBatch) -> Result<crate::wasm::ChangeSet, CallError> {
        for _ in 0..REHEARSALS_MAX {
            self.tables().begin_rehearsal();
            let called = self.call(batch);
            let was_rehearsal = self.tables().end_rehearsal().map_err(|error| {
                if error.is_the_modules_fault() {
                    CallError::Contract {
                        message: crate::error_chain(&error),
                    }
                } else {
                    CallError::Host {
                        source: Box::new(error),
                    }
                }
            })?;
            if !was_rehearsal {
                return self.passing_on_log(batch, called);
            }
            self.tables().take_back();
            if called.is_err() {
                self.instance = None;
            }
        }
        let called = self.call(batch);
        self.passing_on_log(batch, called)
    }

    /// A batch that fails is applied again in pieces, which say what they have to say then.
    fn passing_on_log<T, E>(&mut self, batch: &EventBatch, called: Result<T, E>) -> Result<T, E> {
        if (called.is_ok() || batch.positions.len() == 1)
            && let Some(instance) = &mut self.instance
        {
            instance.pass_on_log();
        }
        called
    }

    fn call(&mut self, batch: &EventBatch) -> Result<crate::wasm::ChangeSet, CallError> {
        if self.batches_left == 0 {
            self.instance = None;
        }
        if self.instance.is_none() {
            self.instance = Some(Instance::new(
                &self.module,
                self.tables.clone(),
                self.limits,
            )?);
            self.batches_left =
                rand::rng().random_range((self.batches_max / 16).max(1)..=self.batches_max);
        }
        self.batches_left -= 1;
        self.tables().begin_call(batch.positions.len());
        self.instance.as_mut().expect("made above").apply(batch)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

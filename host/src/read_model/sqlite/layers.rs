//! What a read model's rows are in, as its writer and its readers share it: the file at its path, and
//! runs on top of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::replaced::Replaced;
use super::runs::Run;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Layers {
    state: Mutex<State>,
    /// What was in their place before.
    pub(super) replaced: Replaced,
}

/// The layers at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// How often the file was laid out anew, and another one is at the path since.
    pub(super) rewrites: u64,
    /// Oldest first.
    pub(super) runs: Vec<Arc<Run>>,
    /// Readers scan by key, and look at the file alone when they do.
    are_scanned: bool,
}

impl Layers {
    pub(super) fn now(&self) -> State {
        self.state().clone()
    }

    pub(super) fn may_have_runs(&self) -> bool {
        !self.state().are_scanned
    }

    /// From now on there is nothing but the file.
    pub(super) fn forbid_runs(&self) {
        let mut state = self.state();
        debug_assert!(state.runs.is_empty(), "they were laid out before");
        state.are_scanned = true;
    }

    /// One more on top.
    pub(super) fn add(&self, run: Run) {
        self.state().runs.push(Arc::new(run));
    }

    /// All of it is in a new file. Returns the runs, which nobody needs any more.
    pub(super) fn begin_anew(&self) -> Vec<Arc<Run>> {
        let mut state = self.state();
        state.rewrites += 1;
        std::mem::take(&mut state.runs)
    }

    /// The runs never were.
    pub(super) fn forget_runs(&self) {
        self.state().runs.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

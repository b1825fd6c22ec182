//! Who goes first on a busy machine: versions that are followed, and therefore read by somebody, go
//! before those that are replayed. Work that can wait looks here between two pieces of it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The longest that a piece of work gives way, so that replays go on under any load.
const GIVE_WAY_MAX: Duration = Duration::from_millis(2);

/// Shared by everything that one host replays and follows.
#[derive(Debug, Default)]
pub(super) struct Priority {
    /// How many versions have events to show to their readers right now.
    urgent: Mutex<usize>,
    eased: Condvar,
}

/// As long as it lives, others give way.
#[derive(Debug)]
pub(super) struct Urgent(std::sync::Arc<Priority>);

impl Priority {
    pub(super) fn urgent(self: &std::sync::Arc<Self>) -> Urgent {
        *self.urgent.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Urgent(self.clone())
    }

    /// Waits while somebody more urgent is at work, but not for long.
    pub(super) fn give_way(&self) {
        let urgent = self.urgent.lock().unwrap_or_else(PoisonError::into_inner);
        if *urgent > 0 {
            let waited = self
                .eased
                .wait_timeout_while(urgent, GIVE_WAY_MAX, |urgent| *urgent > 0);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        let mut urgent = self.0.urgent.lock().unwrap_or_else(PoisonError::into_inner);
        *urgent -= 1;
        if *urgent == 0 {
            self.0.eased.notify_all();
        }
    }
}

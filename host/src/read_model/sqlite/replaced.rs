//! Files that have lost their names to another one. To close the last handle on a large one is to give up
//! all that the system keeps of it in memory, for which nobody is to wait: threads do it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The threads that may not have ended yet.
#[derive(Debug, Default)]
pub(super) struct Replaced(Mutex<Vec<JoinHandle<()>>>);

impl Replaced {
    /// Closes handles by dropping what has them.
    pub(super) fn close(&self, handles: impl Send + 'static) {
        let thread = std::thread::Builder::new().name("retell-closer".to_owned());
        let mut threads = self.threads();
        threads.retain(|it| !it.is_finished());
        // Where there is no thread to be had, they are closed here.
        threads.extend(thread.spawn(move || drop(handles)));
    }

    /// Until all of them are closed, and what they took of the disk is free.
    pub(super) fn wait(&self) {
        for thread in self.threads().drain(..) {
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Replaced {
    /// Nothing is open once the read model is closed.
    fn drop(&mut self) {
        self.wait();
    }
}

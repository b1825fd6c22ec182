//! Waiting for what other processes and threads do, and never for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What anything may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `look` is true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Ends the threads of a test that fails, which would be waited for for ever.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

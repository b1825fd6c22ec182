//! Waking up followers: at once for what this process appends, by polling for other processes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::LogError;
use crate::event::Position;

/// Between two looks at the log while events keep coming …
const POLL_ACTIVE: Duration = Duration::from_millis(2);
/// … and when nothing came for a while.
const POLL_IDLE: Duration = Duration::from_millis(10);
/// How long after the last event a follower counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);

/// The head as this process knows it; whoever appends moves it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    head: Mutex<Position>,
    moved: Condvar,
}

impl Signal {
    pub(super) fn announce(&self, head: Position) {
        let mut known = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if head > *known {
            *known = head;
            self.moved.notify_all();
        }
    }

    /// Waits until the known head exceeds `seen`, or for `timeout`.
    pub(super) fn wait(&self, seen: Position, timeout: Duration) -> Position {
        let known = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, _) = self
            .moved
            .wait_timeout_while(known, timeout, |known| *known <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        *known
    }
}

/// How often one follower looks.
#[derive(Debug)]
pub(super) struct Pace {
    last_event: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last_event: Instant::now(),
        }
    }

    /// Waits for the head to exceed `seen`: `look` returns the head of the log, or `None` where
    /// nothing changed since the last look.
    pub(super) fn wait(
        &mut self,
        signal: &Signal,
        seen: Position,
        timeout: Duration,
        mut look: impl FnMut() -> Result<Option<Position>, LogError>,
    ) -> Result<Position, LogError> {
        let began = Instant::now();
        let mut head = 0;
        loop {
            if let Some(found) = look()? {
                head = head.max(found);
                signal.announce(found);
            }
            if head > seen {
                self.last_event = Instant::now();
                return Ok(head);
            }
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(head);
            }
            let poll = if self.last_event.elapsed() < ACTIVE_FOR {
                POLL_ACTIVE
            } else {
                POLL_IDLE
            };
            head = signal.wait(seen, poll.min(left)).max(head);
        }
    }
}

//! The feed: reads the log ahead of the modules that fold it, on threads of its own, and parses what
//! it reads. Versions at the same place share one read.
//!
//! The log is cut into windows. A reader thread claims the next window of the member that needs one
//! most; all members that are at the same place get their batch of it. Windows are delivered in
//! order, however many threads read them. What the feed can't deliver whole (an error, an event that
//! does not fit, more bytes than a batch may have) it hands over unread: the member reads that window
//! itself and meets the reason there.
//!
//! Nobody waits for anybody else: a member whose queue is full is left out of the windows that
//! others read on, and goes on by itself from where it is.

mod members;
mod plan;
mod reader;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::parsers::Asks;
use super::priority::Priority;
use crate::event::{Hash, Position};
use crate::limits;
use crate::log::EventLog;
use crate::wasm::EventBatch;
use members::{Members, Next};

/// How a host reads its log.
#[derive(Debug, Clone, Copy)]
pub struct FeedSettings {
    /// Threads that read and parse; 0: every version reads for itself.
    pub threads: usize,
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    /// A version that is closer to its goal, in positions, reads for itself.
    pub distance_min: u64,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            batch_events_max: limits::BATCH_EVENTS_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            distance_min: limits::FEED_DISTANCE_MIN,
        }
    }
}

/// See the module's documentation. One for each host.
pub struct Feed {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) struct Shared {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) settings: FeedSettings,
    pub(super) priority: Arc<Priority>,
    members: Mutex<Members>,
    /// There may be something to read.
    work: Condvar,
}

/// What one member gets of a window.
#[derive(Debug)]
pub(super) struct Window {
    /// The window's last position.
    pub(super) end: Position,
    /// None: read it yourself.
    pub(super) read: Option<Box<Read>>,
}

/// A window that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) batch: EventBatch,
    /// Up to where it is whole; the rest of the window is still to be read.
    pub(super) reached: Position,
    /// Hash of the log up to there.
    pub(super) reached_hash: Hash,
    /// See [`EventChunk::joined_hash`](crate::log::EventChunk::joined_hash).
    pub(super) joined_hash: Option<Hash>,
    /// Memory it takes, roughly.
    bytes: usize,
}

impl Window {
    /// Memory it takes, roughly; also without an event.
    fn bytes(&self) -> usize {
        let read = self.read.as_ref();
        size_of::<Self>() + read.map_or(0, |read| size_of::<Read>() + read.bytes)
    }
}

impl Feed {
    pub fn new(log: Arc<dyn EventLog>, settings: FeedSettings) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                log,
                settings,
                priority: Arc::default(),
                members: Mutex::new(Members::new()),
                work: Condvar::new(),
            }),
            threads: Mutex::default(),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Joins those who read along, from `after` on. `urgent`: somebody waits for this one's events.
    /// None where nobody reads, as there is no thread.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        asks: &Arc<Asks>,
        after: Position,
        urgent: bool,
    ) -> Option<Subscription> {
        if !self.start_threads() {
            return None;
        }
        let ready = Arc::new(Condvar::new());
        let mut members = self.shared.members();
        let member = members.join(asks.clone(), after, urgent, ready.clone());
        drop(members);
        Some(Subscription {
            feed: self.clone(),
            member,
            ready,
        })
    }

    /// Threads start with the first member: most commands never replay. Says whether there are any.
    fn start_threads(&self) -> bool {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while threads.len() < self.shared.settings.threads {
            let shared = self.shared.clone();
            let name = "retell-reader".to_owned();
            let thread = std::thread::Builder::new().name(name);
            match thread.spawn(move || reader::run(&shared)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::warn!("the log is read by fewer threads for now: {error}");
                    break;
                }
            }
        }
        !threads.is_empty()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.members().close();
        self.shared.work.notify_all();
        let threads = self
            .threads
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who read along. Dropping it leaves.
pub(super) struct Subscription {
    feed: Arc<Feed>,
    member: u64,
    /// The first window in the queue was read.
    ready: Arc<Condvar>,
}

impl Subscription {
    /// The next window, waiting for it, or none once everything up to `up_to` was delivered. `up_to`
    /// never goes back from one call to the next.
    pub(super) fn next(&self, up_to: Position) -> Option<Window> {
        let shared = &self.feed.shared;
        let mut members = shared.members();
        loop {
            match members.next(self.member, up_to) {
                Next::Window(window) => {
                    if members.needs_reader() {
                        shared.work.notify_one();
                    }
                    return Some(window);
                }
                Next::Nothing => return None,
                Next::Wait => {
                    shared.work.notify_all();
                    members = self
                        .ready
                        .wait(members)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.shared.members().leave(self.member);
    }
}

#[cfg(test)]
mod tests;

//! Group commit: appends that come while a transaction is being made durable share the next one.
//!
//! What an append waits for is the disk, and that takes as long for one event as for a thousand.
//! Nobody waits for company: who comes while nothing is being written is written at once, alone. Who
//! comes while a group is still being added to its transaction is taken along.
//! This module owns the queue and who gets which answer. It must not know how a group is written.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::check::Admitted;
use super::{Appended, LogError};
use crate::limits::{APPEND_GROUP_BYTES_MAX, APPEND_GROUP_EVENTS_MAX, APPEND_QUEUE_BYTES_MAX};

/// What writes groups. Blocking.
pub(super) trait AppendGroup: Send + Sync + 'static {
    /// Appends the requests in one transaction, durably and in this order; each sees those before
    /// it. A refusal is one request's answer and leaves no trace of it. An error is everybody's:
    /// nothing of the group was appended.
    ///
    /// `latecomers`: those who came meanwhile, if any. Whoever asks for them appends them, too, and
    /// answers them behind the others.
    fn append_group(
        &self,
        group: &[Admitted],
        latecomers: &mut dyn FnMut() -> Vec<Admitted>,
    ) -> Result<Vec<Answer>, LogError>;
}

/// One answer to one request.
pub(super) type Answer = Result<Appended, LogError>;

/// The queue before one writer. Clones share it.
pub(super) struct GroupCommit<W> {
    queue: Arc<Queue<W>>,
}

impl<W> Clone for GroupCommit<W> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
        }
    }
}

struct Queue<W> {
    writer: Arc<W>,
    state: Mutex<State>,
    /// Bytes that may wait: who finds no room waits outside, in order.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Whether a [`Turn`] is on its way, which looks at the queue before it ends.
    is_writing: bool,
}

struct Waiting {
    request: Admitted,
    appender: Appender,
}

/// Who waits for an answer, and the room that its request takes until then.
struct Appender {
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

impl<W: AppendGroup> GroupCommit<W> {
    pub(super) fn new(writer: Arc<W>) -> Self {
        Self {
            queue: Arc::new(Queue {
                writer,
                state: Mutex::default(),
                room: Arc::new(Semaphore::new(APPEND_QUEUE_BYTES_MAX as usize)),
            }),
        }
    }

    /// Appends a request in a group with others. Whoever drops the future before its group is
    /// written has appended nothing; later, all of the request. `None`: the writer panicked, or its
    /// thread went with the runtime, and nobody can say.
    pub(super) async fn append(&self, request: Admitted) -> Option<Answer> {
        let bytes = u32::try_from(request.bytes()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.queue.room)
            .acquire_many_owned(bytes.min(APPEND_QUEUE_BYTES_MAX))
            .await
            .expect("the semaphore is never closed");
        let (answer, outcome) = oneshot::channel();
        let appender = Appender {
            answer,
            _room: room,
        };
        let waiting = Waiting { request, appender };
        if let Some(turn) = Turn::if_idle(&self.queue, waiting) {
            tokio::task::spawn_blocking(move || turn.run());
        }
        outcome.await.ok()
    }
}

/// Who was taken into a group, in order, and how large it is.
#[derive(Default)]
struct Taken {
    appenders: Vec<Appender>,
    events: usize,
    bytes: usize,
}

impl<W> Queue<W> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write, of one thread at a time, until nobody waits any more.
struct Turn<W> {
    queue: Arc<Queue<W>>,
    is_over: bool,
}

impl<W: AppendGroup> Turn<W> {
    /// Queues a request. Gives a turn if none is there that would meet it.
    fn if_idle(queue: &Arc<Queue<W>>, waiting: Waiting) -> Option<Self> {
        let mut state = queue.state();
        state.waiting.push_back(waiting);
        if std::mem::replace(&mut state.is_writing, true) {
            return None;
        }
        Some(Self {
            queue: Arc::clone(queue),
            is_over: false,
        })
    }

    fn run(mut self) {
        while let Some((group, mut taken)) = self.next_group() {
            let queue = &*self.queue;
            let mut latecomers = || queue.state().take(&mut taken);
            // The writer looks after itself when it panicked; nobody else must be harmed.
            let written = catch_unwind(AssertUnwindSafe(|| {
                queue.writer.append_group(&group, &mut latecomers)
            }));
            let outcomes = match written {
                Ok(Ok(outcomes)) => outcomes,
                Ok(Err(error)) => vec![Err(error); taken.appenders.len()],
                // Nobody can say; who waited learns that from the closed channel.
                Err(_) => continue,
            };
            for (appender, outcome) in taken.appenders.into_iter().zip(outcomes) {
                // Who has gone meanwhile does not care.
                let _ = appender.answer.send(outcome);
            }
        }
    }

    /// The beginning of the next group. Ends the turn where nobody waits.
    fn next_group(&mut self) -> Option<(Vec<Admitted>, Taken)> {
        let mut taken = Taken::default();
        let mut state = self.queue.state();
        let group = state.take(&mut taken);
        self.is_over = group.is_empty();
        state.is_writing = !self.is_over;
        (!self.is_over).then_some((group, taken))
    }
}

impl State {
    /// The requests that wait longest, as many as there is room for in their group.
    fn take(&mut self, taken: &mut Taken) -> Vec<Admitted> {
        let mut requests = Vec::new();
        while let Some(Waiting { request, appender }) = self.waiting.pop_front() {
            if appender.answer.is_closed() {
                continue;
            }
            let events = taken.events + request.events.len();
            let bytes = taken.bytes + request.bytes();
            let fits = events <= APPEND_GROUP_EVENTS_MAX && bytes <= APPEND_GROUP_BYTES_MAX;
            if !fits && !taken.appenders.is_empty() {
                self.waiting.push_front(Waiting { request, appender });
                break;
            }
            (taken.events, taken.bytes) = (events, bytes);
            taken.appenders.push(appender);
            requests.push(request);
        }
        requests
    }
}

impl<W> Drop for Turn<W> {
    /// A turn that never began, because its runtime is going, leaves nobody waiting for it.
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.queue.state();
            state.waiting.clear();
            state.is_writing = false;
        }
    }
}

#[cfg(test)]
mod tests;

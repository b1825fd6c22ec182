//! Noticing what others append: one LISTEN for the whole process, with a look now and then behind it
//! for when a notification is lost.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Shared, query};
use crate::event::Position;
use crate::limits;
use crate::log::{LogError, LogWatch};

/// Between two looks that no notification asked for.
const POLL: Duration = Duration::from_millis(500);
/// Between two looks into the inbox that no notification asked for.
const INBOX_POLL: Duration = Duration::from_secs(5);
/// Between two attempts to reach a server that is away.
const RETRY: Duration = Duration::from_millis(250);
/// How long one look may take. A connection whose other end is gone without a word answers never.
const LOOK_TIMEOUT: Duration = limits::POSTGRES_CONNECT_TIMEOUT.saturating_mul(2);
/// How long the server may be away before those who wait are told.
const PATIENCE: Duration = Duration::from_secs(2);

/// The channels that the schema's triggers notify.
const LOG_CHANNEL: &str = "retell_log";
const INBOX_CHANNEL: &str = "retell_inbox";

/// What [`listen`] last heard.
#[derive(Default)]
pub(super) struct Listening {
    /// Whether somebody listens already.
    began: Mutex<bool>,
    inbox: Notify,
    /// Since when the server can't be reached, and why.
    trouble: Mutex<Option<(Instant, LogError)>>,
}

pub(super) struct PgWatch {
    shared: Arc<Shared>,
    runtime: Handle,
    /// Whether the head was looked up once; after that, the listener does it.
    looked: bool,
}

impl PgWatch {
    pub(super) fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        begin(&shared, &runtime);
        Self {
            shared,
            runtime,
            looked: false,
        }
    }
}

impl LogWatch for PgWatch {
    fn wait(&mut self, seen: Position, timeout: Duration) -> Result<Position, LogError> {
        if !self.looked {
            let head = self.runtime.block_on(query::head(&self.shared))?;
            self.shared.signal.announce(head.position);
            self.looked = true;
        }
        let head = self.shared.signal.wait(seen, timeout);
        if head > seen {
            return Ok(head);
        }
        match &*lock(&self.shared.listening.trouble) {
            Some((since, error)) if since.elapsed() > PATIENCE => Err(error.clone()),
            _ => Ok(head),
        }
    }
}

/// Has somebody listen for this process, unless somebody does.
pub(super) fn begin(shared: &Arc<Shared>, runtime: &Handle) {
    let mut began = lock(&shared.listening.began);
    if !std::mem::replace(&mut *began, true) {
        runtime.spawn(listen(Arc::downgrade(shared)));
    }
}

impl Listening {
    /// Returns when something may have come into the inbox.
    pub(super) async fn inbox_filled(&self) {
        // Somebody may have written before anybody listened, or a notification may be lost.
        let _ = timeout(INBOX_POLL, self.inbox.notified()).await;
    }
}

/// Announces the head whenever it moves, as long as anybody has the log open.
async fn listen(log: Weak<Shared>) {
    let mut listener = None;
    while let Some(shared) = log.upgrade() {
        let heard = timeout(LOOK_TIMEOUT, hear(&shared, &mut listener)).await;
        let heard = heard.unwrap_or_else(|_| Err(no_answer()));
        let pause = match heard {
            Ok(()) => {
                *lock(&shared.listening.trouble) = None;
                continue;
            }
            Err(error) => {
                listener = None;
                let error = shared.place.explain("listening for events", error);
                lock(&shared.listening.trouble).get_or_insert_with(|| (Instant::now(), error));
                RETRY
            }
        };
        drop(shared);
        sleep(pause).await;
    }
}

/// Looks at the head, and waits for a reason to do so again.
async fn hear(shared: &Shared, listener: &mut Option<PgListener>) -> Result<(), sqlx::Error> {
    let listener = match listener {
        Some(listener) => listener,
        none => {
            let mut new = PgListener::connect_with(&shared.pool).await?;
            new.listen_all([LOG_CHANNEL, INBOX_CHANNEL]).await?;
            none.insert(new)
        }
    };
    let position: i64 = sqlx::query_scalar("SELECT position FROM retell.log_head")
        .fetch_one(&shared.pool)
        .await?;
    shared.signal.announce(position.cast_unsigned());
    if let Ok(heard) = timeout(POLL, listener.try_recv()).await {
        // None: the connection was lost and is made again by the next call.
        let mut heard = heard?;
        // One look answers all that came meanwhile.
        while let Some(notification) = heard {
            if notification.channel() == INBOX_CHANNEL {
                shared.listening.inbox.notify_one();
            }
            heard = listener.next_buffered();
        }
    }
    Ok(())
}

fn no_answer() -> sqlx::Error {
    let kind = io::ErrorKind::TimedOut;
    sqlx::Error::Io(io::Error::new(kind, "the server does not answer"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

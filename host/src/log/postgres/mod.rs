//! The event log in a PostgreSQL database, in the schema `retell`. Appending and reading run on
//! sessions of their own threads; a small pool gives single answers.

mod adding;
mod copy;
mod errors;
mod group;
mod import;
mod inbox;
mod open;
mod query;
mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod verify;
mod watch;
mod writer;

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sqlx::PgPool;
use tokio::runtime::Handle;

use super::check::admit;
use super::follow::Signal;
use super::group_commit::GroupCommit;
use super::{
    AppendRequest, Appended, ChainCheck, ChainProgress, Drained, EnvelopeParts, EventFilter,
    EventLog, Head, ImportPlan, ImportProgress, LogError, LogImport, LogName, LogReader, LogWatch,
    OpenMode, TypeFilter, chain,
};
use crate::clock::{self, Clock};
use crate::event::{Hash, NewEvent, Position, StoredEvent};
use crate::limits::APPEND_INLINE_BYTES_MAX;
use crate::postgres::{self, ServerUrl};
pub use open::RoleKind;
use watch::Listening;
use writer::Writer;

/// An open log. Clones share it.
#[derive(Clone)]
pub struct PgLog {
    shared: Arc<Shared>,
    appends: GroupCommit<Shared>,
    runtime: Handle,
    /// Whether opening created the log or changed its schema.
    prepared: bool,
}

/// Where a log is, and what it is called in messages.
#[derive(Clone)]
struct Place {
    url: ServerUrl,
    name: LogName,
}

struct Shared {
    place: Place,
    log_id: String,
    first_previous: Hash,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal>,
    listening: Listening,
    pool: PgPool,
    writer: Mutex<Writer>,
}

impl PgLog {
    /// Opens the log in a database, and creates or migrates it as far as the mode allows.
    pub async fn open(url: &ServerUrl, mode: OpenMode) -> Result<Self, LogError> {
        Self::open_with_clock(url, mode, clock::system()).await
    }

    /// [`open`](Self::open) with another source of the recorded times.
    pub async fn open_with_clock(
        url: &ServerUrl,
        mode: OpenMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LogError> {
        let place = Place {
            url: url.clone(),
            name: LogName::of_server(url),
        };
        let pool = postgres::pool(url);
        let (identity, prepared) =
            open::prepare(url, &place.name, &pool, mode, clock.now_us()).await?;
        let shared = Arc::new(Shared {
            first_previous: chain::first_previous(&identity.log_id),
            log_id: identity.log_id,
            writer: Mutex::new(Writer::new(place.clone())),
            place,
            clock,
            signal: Arc::new(Signal::default()),
            listening: Listening::default(),
            pool,
        });
        Ok(Self {
            appends: GroupCommit::new(Arc::clone(&shared)),
            shared,
            runtime: Handle::current(),
            prepared,
        })
    }

    pub fn url(&self) -> &ServerUrl {
        &self.shared.place.url
    }

    /// Whether opening it created the log or changed its schema.
    pub fn was_prepared(&self) -> bool {
        self.prepared
    }

    /// Lets a role use the log, and makes the role where there is none. Takes the rights of the role
    /// that prepared the log. Returns whether the role was made.
    pub async fn admit_role(&self, role: &str, kind: RoleKind) -> Result<bool, LogError> {
        open::admit_role(&self.shared.place.name, &self.shared.pool, role, kind).await
    }

    fn thread_is_gone(&self, doing: &'static str) -> LogError {
        LogError::Storage {
            log: self.shared.place.name.clone(),
            doing,
            source: io::Error::other("the thread that does it is gone").into(),
        }
    }
}

impl Place {
    fn explain(&self, doing: &'static str, error: sqlx::Error) -> LogError {
        errors::explain(&self.name, doing, error)
    }
}

#[async_trait]
impl EventLog for PgLog {
    fn log_id(&self) -> &str {
        &self.shared.log_id
    }

    async fn append(&self, request: AppendRequest) -> Result<Appended, LogError> {
        let bytes: usize = request.events.iter().map(NewEvent::bytes).sum();
        let admitted = if bytes <= APPEND_INLINE_BYTES_MAX {
            admit(request)?
        } else {
            tokio::task::spawn_blocking(move || admit(request))
                .await
                .unwrap_or_else(|_| Err(self.thread_is_gone("checking events")))?
        };
        self.appends
            .append(admitted)
            .await
            .unwrap_or_else(|| Err(self.thread_is_gone("appending")))
    }

    async fn head(&self) -> Result<Head, LogError> {
        query::head(&self.shared).await
    }

    async fn hash_at(&self, position: Position) -> Result<Option<Hash>, LogError> {
        query::hash_at(&self.shared, position).await
    }

    async fn check_chain(&self, progress: ChainProgress) -> Result<ChainCheck, LogError> {
        verify::check_chain(&self.shared, progress)
            .await
            .map_err(|error| self.shared.place.explain("checking the hash chain", error))
    }

    async fn events(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, LogError> {
        query::events(&self.shared, filter, after, limit).await
    }

    fn reader(
        &self,
        types: TypeFilter,
        parts: EnvelopeParts,
    ) -> Result<Box<dyn LogReader>, LogError> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(reader::PgReader::new(shared, types, parts)))
    }

    fn watch(&self) -> Result<Box<dyn LogWatch>, LogError> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(watch::PgWatch::new(shared, self.runtime.clone())))
    }

    async fn drain_inbox(&self) -> Result<Drained, LogError> {
        if !query::has_inbox(&self.shared).await? {
            return Ok(Drained::default());
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || inbox::drain(&shared))
            .await
            .unwrap_or_else(|_| Err(self.thread_is_gone("draining the inbox")))
    }

    async fn inbox_filled(&self) {
        watch::begin(&self.shared, &self.runtime);
        self.shared.listening.inbox_filled().await;
    }

    fn interrupted_imports(&self) -> Result<Vec<ImportProgress>, LogError> {
        self.runtime.block_on(import::interrupted(&self.shared))
    }

    fn import(&self, plan: ImportPlan) -> Result<Box<dyn LogImport>, LogError> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(import::PgImport::new(shared, plan)))
    }
}

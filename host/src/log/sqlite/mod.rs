//! The event log in an SQLite file. Appending and reading step prepared statements on connections
//! of their own; sqlx runs the migrations.

mod adding;
mod connection;
mod copy;
mod errors;
mod group;
mod import;
mod open;
mod pages;
mod query;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod verify;
mod wal;
mod watch;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::Connection;

use super::check::admit;
use super::follow::Signal;
use super::group_commit::GroupCommit;
use super::{
    AppendRequest, Appended, ChainCheck, ChainProgress, EnvelopeParts, EventFilter, EventLog, Head,
    ImportPlan, ImportProgress, LogError, LogImport, LogReader, LogWatch, OpenMode, TypeFilter,
    chain,
};
use crate::clock::{self, Clock};
use crate::event::{Hash, NewEvent, Position, StoredEvent};
use crate::limits::APPEND_INLINE_BYTES_MAX;
use errors::explain;
use writer::Writer;

/// An open log. Clones share it.
#[derive(Clone)]
pub struct SqliteLog {
    shared: Arc<Shared>,
    appends: GroupCommit<Shared>,
    /// Whether opening created the log or changed its schema.
    prepared: bool,
}

struct Shared {
    path: PathBuf,
    log_id: String,
    first_previous: Hash,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal>,
    /// Opened by the first append: a command that only reads never has one.
    writer: Mutex<Option<Writer>>,
    reader: Mutex<Connection>,
}

impl SqliteLog {
    /// Opens the log at `path`, and creates or migrates it as far as the mode allows.
    pub async fn open(path: impl Into<PathBuf>, mode: OpenMode) -> Result<Self, LogError> {
        Self::open_with_clock(path, mode, clock::system()).await
    }

    /// [`open`](Self::open) with another source of the recorded times.
    pub async fn open_with_clock(
        path: impl Into<PathBuf>,
        mode: OpenMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LogError> {
        let path = path.into();
        let (identity, prepared) = open::prepare(&path, mode, clock.now_us()).await?;
        let reader = connection::open_reader(&path)
            .map_err(|error| explain(&path, "opening the database", error))?;
        let shared = Arc::new(Shared {
            first_previous: chain::first_previous(&identity.log_id),
            log_id: identity.log_id,
            path,
            clock,
            signal: Arc::new(Signal::default()),
            writer: Mutex::new(None),
            reader: Mutex::new(reader),
        });
        Ok(Self {
            appends: GroupCommit::new(Arc::clone(&shared)),
            shared,
            prepared,
        })
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether opening it created the log or changed its schema.
    pub fn was_prepared(&self) -> bool {
        self.prepared
    }

    /// Copies the log at `path`, and the catalog in it, as they are at one moment, into a file that must
    /// not exist, durably; blocking.
    pub fn copy(path: &Path, to: &Path) -> Result<(), LogError> {
        copy::copy(path, to)
    }

    /// Walks along the hash chain of a log that may be too damaged to be opened; blocking. See
    /// [`EventLog::check_chain`].
    pub fn check_file(path: &Path, progress: ChainProgress) -> Result<ChainCheck, LogError> {
        verify::check_chain(path, progress)
    }

    /// Runs blocking work off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .unwrap_or_else(|stopped| match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => Err(LogError::Storage {
                    log: self.shared.path.as_path().into(),
                    doing: "waiting for the work's thread",
                    source: cancelled.into(),
                }),
            })
    }
}

impl Shared {
    fn open_writer(&self) -> Result<Writer, LogError> {
        Writer::open(&self.path, self.first_previous)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    fn log_id(&self) -> &str {
        &self.shared.log_id
    }

    async fn append(&self, request: AppendRequest) -> Result<Appended, LogError> {
        let bytes: usize = request.events.iter().map(NewEvent::bytes).sum();
        let admitted = if bytes <= APPEND_INLINE_BYTES_MAX {
            admit(request)?
        } else {
            self.blocking(move |_| admit(request)).await?
        };
        self.appends.append(admitted).await.unwrap_or_else(|| {
            Err(LogError::Storage {
                log: self.shared.path.as_path().into(),
                doing: "appending",
                source: io::Error::other("the thread that appends is gone").into(),
            })
        })
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.blocking(|shared| query::head(shared, &shared.reader()))
            .await
    }

    async fn hash_at(&self, position: Position) -> Result<Option<Hash>, LogError> {
        self.blocking(move |shared| query::hash_at(shared, &shared.reader(), position))
            .await
    }

    async fn check_chain(&self, progress: ChainProgress) -> Result<ChainCheck, LogError> {
        self.blocking(move |shared| verify::check_chain(&shared.path, progress))
            .await
    }

    async fn events(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, LogError> {
        let filter = filter.clone();
        self.blocking(move |shared| query::events(shared, &shared.reader(), &filter, after, limit))
            .await
    }

    fn reader(
        &self,
        types: TypeFilter,
        parts: EnvelopeParts,
    ) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(reader::SqliteReader::open(
            Arc::clone(&self.shared),
            types,
            parts,
        )?))
    }

    fn watch(&self) -> Result<Box<dyn LogWatch>, LogError> {
        Ok(Box::new(watch::SqliteWatch::open(
            &self.shared.path,
            Arc::clone(&self.shared.signal),
        )?))
    }

    fn interrupted_imports(&self) -> Result<Vec<ImportProgress>, LogError> {
        import::interrupted(&self.shared, &self.shared.reader())
    }

    fn import(&self, plan: ImportPlan) -> Result<Box<dyn LogImport>, LogError> {
        Ok(Box::new(import::SqliteImport::start(
            Arc::clone(&self.shared),
            plan,
        )?))
    }
}

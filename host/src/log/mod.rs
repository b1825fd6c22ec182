//! The event log: an append-only sequence of events that is kept forever.
//!
//! What every implementation promises:
//! - **Order.** Positions start at 1, have no gaps, and follow the order of commits: a reader that
//!   has seen position P has seen everything before it and needs no other number.
//! - **Durability.** When [`EventLog::append`] returns, the events survive a crash of the machine.
//! - **Atomicity.** All events of one request are appended, or none.
//! - **Idempotence.** An event whose id is already in the log with the same content is not appended
//!   again; the request gets the position it had the first time.
//! - **Append-only.** Nothing updates or deletes an event; the schema refuses it, from any tool.
//!
//! This module must not know what reads the log.

pub mod chain;
mod check;
mod check_chain;
mod cloudevents;
#[cfg(test)]
mod conformance;
mod error;
mod follow;
mod group_commit;
mod ids;
mod line;
pub mod ndjson;
pub mod postgres;
mod sealed;
mod source;
pub mod sqlite;
mod type_names;

use std::time::Duration;

use async_trait::async_trait;
pub use retell_contract::columns::TextColumn;

pub use crate::event::{Hash, NewEvent, Position, StoredEvent};
pub use check_chain::{ChainCheck, ChainFault, ChainProgress, unwatched};
pub use error::{Cause, LogError, LogName};
pub use postgres::RoleKind;
pub use sealed::SealedEvent;

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 while there is none.
    pub position: Position,
    /// Hash of the log up to and including that event.
    pub hash: Hash,
}

/// What opening a log may do to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Nothing: the log must be there, with the schema of this version.
    Existing,
    /// Prepare one where there is none; an older schema is left alone and refused.
    CreateIfMissing,
    /// Prepare one where there is none, or bring an older schema up to date.
    CreateOrMigrate,
}

/// Events to append together, and what must hold for them to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppendRequest {
    pub events: Vec<NewEvent>,
    /// Streams with the revision that each must have before this request; 0: the stream is new.
    pub expected: Vec<(String, u64)>,
}

/// Where the events of a request are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appended {
    /// One position for each event of the request, in the request's order.
    pub positions: Vec<Position>,
    /// How many of them an earlier request had appended.
    pub already_there: u64,
}

impl Appended {
    /// The lowest position of the request's events.
    pub fn first(&self) -> Option<Position> {
        self.positions.iter().copied().min()
    }

    /// The highest position of the request's events.
    pub fn last(&self) -> Option<Position> {
        self.positions.iter().copied().max()
    }
}

/// What became of rows of the inbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Whose events are in the log.
    pub moved: u64,
    /// Which could not be events, with the reason beside them.
    pub rejected: u64,
}

/// Which events [`EventLog::events`] returns; an empty filter lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub stream: Option<String>,
    pub event_type: Option<String>,
}

/// Which events a reader returns, by type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeFilter {
    All,
    Only(Vec<String>),
}

/// Which parts of the envelope a reader copies, beside position and type: every column costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each part is asked for or not, on its own"
)]
pub struct EnvelopeParts {
    pub revision: bool,
    pub occurred_at: bool,
    pub recorded_at: bool,
    pub stream: bool,
    pub id: bool,
    pub metadata: bool,
}

/// The log of one instance. Cheap to share; every method may be called from several tasks.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// The log's own id, a UUID: two logs are the same log only if their ids are equal.
    fn log_id(&self) -> &str;

    /// Appends all events of the request in one transaction, durably, or none.
    ///
    /// Ids are checked first: events that are already there keep their first positions, and a
    /// request of which everything is there succeeds whatever it expected. Expected revisions are
    /// compared with the streams as they were before this request.
    ///
    /// Requests that come at the same time may share a transaction, in the order they came; each is
    /// answered by itself, and a refusal touches no other. Of a request whose future is dropped,
    /// everything is appended or nothing.
    async fn append(&self, request: AppendRequest) -> Result<Appended, LogError>;

    /// The end of the log.
    async fn head(&self) -> Result<Head, LogError>;

    /// The hash of the log up to and including a position (0: before the first event), or `None`
    /// if the log is shorter.
    async fn hash_at(&self, position: Position) -> Result<Option<Hash>, LogError>;

    /// The next events after `after` that pass the filter, in order, at most `limit`, and fewer
    /// where they are large. Empty only where there are no more.
    async fn events(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, LogError>;

    /// Walks along the hash chain from the first event, and says how far everything follows from what
    /// came before. Reads the whole log.
    async fn check_chain(&self, progress: ChainProgress) -> Result<ChainCheck, LogError>;

    /// A reader for replaying: blocking, for a thread of its own.
    fn reader(
        &self,
        types: TypeFilter,
        parts: EnvelopeParts,
    ) -> Result<Box<dyn LogReader>, LogError>;

    /// Something to wait on for new events: blocking, for a thread of its own.
    fn watch(&self) -> Result<Box<dyn LogWatch>, LogError>;

    /// Moves what applications left in the log's inbox into the log, each row exactly once. A log
    /// that has none moves nothing.
    async fn drain_inbox(&self) -> Result<Drained, LogError> {
        Ok(Drained::default())
    }

    /// Returns when it may be time to drain the inbox again; never, where there is none.
    async fn inbox_filled(&self) {
        std::future::pending::<()>().await;
    }

    /// What interrupted imports have left, fewest bytes first. Blocking.
    fn interrupted_imports(&self) -> Result<Vec<ImportProgress>, LogError>;

    /// Starts to append a long input, batch by batch. Blocking, for a thread of its own.
    fn import(&self, plan: ImportPlan) -> Result<Box<dyn LogImport>, LogError>;
}

/// Reads the log in bulk.
pub trait LogReader: Send {
    /// Replaces the chunk's content with the next events after `after`, up to and including
    /// `up_to`, at most as many as the chunk's limits allow (a single event larger than the limit
    /// still comes). Takes a snapshot of its own and ends it before it returns.
    fn read(
        &mut self,
        after: Position,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> Result<(), LogError>;
}

/// Events in columns. Buffers are kept from one read to the next.
#[derive(Debug, Clone)]
pub struct EventChunk {
    pub positions: Vec<Position>,
    /// Indexes into `type_names`.
    pub types: Vec<u16>,
    /// Grows with the types that the reader has met; an index never changes its meaning.
    pub type_names: Vec<String>,
    /// As the log holds them: whoever takes values out of a payload checks what it takes.
    pub payloads: TextColumn,
    /// Empty unless asked for, like everything down to `metadata`.
    pub revisions: Vec<u64>,
    /// Microseconds since the Unix epoch, UTC, like `recorded_at`.
    pub occurred_at: Vec<Option<i64>>,
    pub recorded_at: Vec<i64>,
    pub streams: TextColumn,
    pub ids: TextColumn,
    /// The empty text for an event without metadata.
    pub metadata: TextColumn,
    /// Everything up to here was looked at: the last event's position, or further where the rest
    /// was of other types.
    pub reached: Position,
    /// Hash of the log up to `reached`.
    pub reached_hash: Hash,
    /// Hash of the log up to where this was read from, where the reader connected for it. The log may be
    /// another one by now: whoever applies what was read compares it with what was applied before.
    pub joined_hash: Option<Hash>,
    pub limit_events: usize,
    pub limit_bytes: usize,
}

impl EventChunk {
    pub fn new(limit_events: usize, limit_bytes: usize) -> Self {
        Self {
            positions: Vec::new(),
            types: Vec::new(),
            type_names: Vec::new(),
            payloads: TextColumn::default(),
            revisions: Vec::new(),
            occurred_at: Vec::new(),
            recorded_at: Vec::new(),
            streams: TextColumn::default(),
            ids: TextColumn::default(),
            metadata: TextColumn::default(),
            reached: 0,
            reached_hash: [0; 32],
            joined_hash: None,
            limit_events,
            limit_bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The type of the event at an index of this chunk.
    pub fn type_name(&self, index: usize) -> &str {
        &self.type_names[usize::from(self.types[index])]
    }

    /// Forgets the events and keeps the buffers and the known type names.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.types.clear();
        self.revisions.clear();
        self.occurred_at.clear();
        self.recorded_at.clear();
        self.payloads.clear();
        self.streams.clear();
        self.ids.clear();
        self.metadata.clear();
        self.joined_hash = None;
    }
}

/// Wakes up a follower.
pub trait LogWatch: Send {
    /// Returns the position of the head as soon as it exceeds `seen`, or after `timeout`.
    fn wait(&mut self, seen: Position, timeout: Duration) -> Result<Position, LogError>;
}

/// How a long input is appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportPlan {
    /// One transaction for everything, and thus no progress to resume from.
    pub atomic: bool,
    /// What an interrupted import of the same input left, to go on from there.
    pub resume: Option<ImportProgress>,
}

/// How much of an input is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportProgress {
    /// SHA-256 of the consumed part of the input: how it is recognised again.
    pub digest: Hash,
    pub bytes: u64,
    pub lines: u64,
}

/// One long input on its way into the log. Dropping it rolls back what was not committed.
pub trait LogImport: Send {
    /// Takes the log, to keep it until the next batch is appended, and says which imports are unfinished.
    /// Of the same input another one may be under way.
    fn others(&mut self) -> Result<Vec<ImportProgress>, LogError>;

    /// Appends a batch of events, and records the progress after it in the same transaction, unless
    /// the import is atomic: then nothing is committed before [`finish`](Self::finish). Without a
    /// progress the input can't be recognised again, and nothing is recorded. The events were checked
    /// before they were sealed; only [`EventLog::append`] does that itself.
    fn append(
        &mut self,
        events: Vec<SealedEvent>,
        progress: Option<ImportProgress>,
    ) -> Result<Appended, LogError>;

    /// Appends the last batch, forgets the progress in the same transaction, and commits.
    fn finish(self: Box<Self>, events: Vec<SealedEvent>) -> Result<Appended, LogError>;
}

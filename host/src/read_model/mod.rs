//! The read model: the database that one build writes, seen as rows under keys and a checkpoint.
//!
//! This file owns the trait that every backend implements and the words they share. A backend
//! stores rows and nothing more: it never looks at the log, never decides what a row should be, and
//! keeps no rows in memory beyond what its database does (the row cache is the replay engine's).
//! Keys and rows cross this border in the encodings of the shared contract crate.

#[cfg(test)]
pub(crate) mod conformance;
mod content;
mod error;
pub mod journal;
mod levels;
mod place;
pub mod postgres;
mod provenance;
pub mod publish;
pub mod query;
pub mod sqlite;

pub use content::ContentSink;
pub use error::{ModelName, ReadModelError};
pub use place::{ReadModelPlace, ReadModels};
pub use provenance::Provenance;
pub use retell_contract::manifest::KEY_INDEX;

use crate::event::{Hash, Position};
use journal::JournalEntry;

/// How far a read model is: the last position applied, and the log's hash up to there.
///
/// A fresh read model is at position 0 with a hash of zeros, until the first commit says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub position: Position,
    pub log_hash: Hash,
}

impl Checkpoint {
    /// Before the first event.
    pub const START: Self = Self {
        position: 0,
        log_hash: [0; 32],
    };
}

/// What a read model is to those who query its projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    None,
    Live,
    Previous,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Live => "live",
            Self::Previous => "previous",
        }
    }

    /// The reverse of [`Role::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Live, Self::Previous]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a read model says of itself to anyone who only reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadModelStatus {
    pub provenance: Provenance,
    pub role: Role,
    pub checkpoint: Checkpoint,
    /// Everything up to here was flushed, if not yet committed: at least the checkpoint's position.
    pub flushed: Position,
    /// When the checkpoint was committed, microseconds since the Unix epoch, UTC.
    pub time: i64,
    /// Rate of the replay or of following, as of the last commit.
    pub events_per_s: f64,
    /// The replay is done: indexes exist and the after-replay SQL has run.
    pub ready: bool,
    /// Epoch of the host that may write.
    pub epoch: u64,
    /// Events that are missing from it: waiting, skipped or parked.
    pub dead_letters: u64,
}

/// One row change. `fresh`: the writer may insert without looking (the cache knows that the key is
/// not in the table).
#[derive(Debug, Clone, Copy)]
pub struct RowChange<'a> {
    pub table: u16,
    pub key: &'a [u8],
    /// The whole row, or none to delete it.
    pub row: Option<&'a [u8]>,
    pub fresh: bool,
}

/// Everything that one flush changes.
pub struct Flush<'a> {
    /// By number, each once.
    pub tables: Vec<(u16, Changes<'a>)>,
    /// Entries of the journal, in the place of those of the same positions.
    pub journal: &'a [JournalEntry],
    /// Of all keys and rows.
    pub bytes: usize,
    /// The read model is made ready next.
    pub is_last: bool,
    /// It may be kept aside and committed with a later one, which it may only without a journal: see
    /// [`ReadModel::rewrite`].
    pub may_wait: bool,
    pub checkpoint: Checkpoint,
    pub events_per_s: f64,
}

/// A table's changes, sorted by key and at most one for each key.
pub type Changes<'a> = Box<dyn Iterator<Item = RowChange<'a>> + Send + 'a>;

/// A row with its primary key, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRow {
    pub key: Vec<u8>,
    pub row: Vec<u8>,
}

/// Reads one build's rows, as of the last commit, beside its writer and without waiting for it.
/// Blocking.
pub trait RowReader: Send {
    /// The row under each key, in the order asked.
    fn get_many(
        &mut self,
        table: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, ReadModelError>;

    /// Rows whose columns of `index` ([`KEY_INDEX`]: of the key) begin with the key-encoded
    /// `prefix` (whole columns), in the order of (index columns, key), after the place `after`: the
    /// key-encoded index columns followed by the key of the last row seen, or for [`KEY_INDEX`] the
    /// key alone. At most `limit`. Where the index is still deferred every page reads the whole
    /// table: see [`ReadModel::ensure_index`].
    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<KeyedRow>, ReadModelError>;

    /// The encoded primary key of the row that holds this value of a unique index, if any. Values
    /// with a null in them are held by nobody.
    fn owner(
        &mut self,
        table: u16,
        index: u16,
        index_key: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError>;

    /// Lets go of what flushes have replaced since the last read, so that it need not be kept.
    fn let_go(&mut self) -> Result<(), ReadModelError> {
        Ok(())
    }
}

/// One build's rows and checkpoint. One writer, blocking.
///
/// *Order*: changes take effect in the order of the calls. *Durability*: `commit` makes the writes
/// since the last commit and the checkpoint one atomic step that survives the death of the process;
/// it survives the death of the machine once `prepare_ready` has returned (before, a machine that
/// died loses the build, and opening it says so). *Idempotence*: `write` of the same changes twice
/// leaves what one leaves, except for changes marked `fresh`.
///
/// Every transaction first checks that the writer's epoch is still the one in the read model. After
/// any error the caller calls `rollback` and goes on from the stored checkpoint, or gives up.
pub trait ReadModel: Send {
    /// The stored checkpoint: that of the last commit.
    fn checkpoint(&self) -> Checkpoint;

    /// Whether each question of a reader costs a round trip, so that it pays to ask many at once.
    fn is_remote(&self) -> bool {
        false
    }

    /// Reads what is committed, then and later.
    fn reader(&self) -> Result<Box<dyn RowReader>, ReadModelError>;

    /// Builds an index that was deferred until now, or ([`KEY_INDEX`]) has readers scan by key from now
    /// on. Call it between commits.
    fn ensure_index(&mut self, table: u16, index: u16) -> Result<(), ReadModelError>;

    /// Writes changes, sorted by (table, key) and at most one for each key. Opens the transaction if
    /// none is open and leaves it open.
    fn write(&mut self, changes: &[RowChange<'_>]) -> Result<(), ReadModelError>;

    /// The journal as it is stored, by position.
    fn journal(&mut self) -> Result<Vec<JournalEntry>, ReadModelError>;

    /// Writes entries of the journal in the place of those of the same positions. Opens the
    /// transaction if none is open and leaves it open.
    fn record(&mut self, entries: &[JournalEntry]) -> Result<(), ReadModelError>;

    /// Commits what was written, if anything, together with the checkpoint.
    fn commit(&mut self, checkpoint: Checkpoint, events_per_s: f64) -> Result<(), ReadModelError>;

    /// Whether a flush whose keys and rows take so many bytes may be given to
    /// [`rewrite`](Self::rewrite), and is not better written change by change because of what is
    /// there already. `may_wait`: as of the flush.
    fn is_to_be_rewritten(
        &self,
        flush_bytes: usize,
        may_wait: bool,
    ) -> Result<bool, ReadModelError>;

    /// Lays out all rows anew, those of the flush among them, and puts the result with the flush's
    /// checkpoint in the place of what was there, in one atomic step like a commit. Call it between
    /// commits, and only where [`is_to_be_rewritten`](Self::is_to_be_rewritten) says so. A row that
    /// does not stand under its own key is refused.
    ///
    /// A flush that may wait can be kept aside instead. Readers see its rows, but they are committed
    /// with a later flush, or before whatever else changes the read model: until then the stored
    /// checkpoint stays where it is, and that is where a writer that is cut off goes on from.
    fn rewrite(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError>;

    /// Whether a flush is kept aside: then the next one is rewritten with it, however small it is.
    fn has_flushes_aside(&self) -> bool {
        false
    }

    /// Drops the open transaction, if any, and what was kept aside; the stored checkpoint holds.
    fn rollback(&mut self);

    /// Builds all indexes that were deferred, runs the module's after-replay SQL and marks the read
    /// model ready, in one transaction, and makes everything durable. Call it between commits. Does
    /// nothing when the read model is ready already.
    fn prepare_ready(&mut self) -> Result<(), ReadModelError>;

    /// Whether `prepare_ready` is done.
    fn is_ready(&self) -> bool;

    /// Notes the role for readers. Call it between commits.
    fn set_role(&mut self, role: Role) -> Result<(), ReadModelError>;

    /// Leaves the read model so that it survives the machine, too, and closes it. Dropping it
    /// instead is safe for everything but a loss of power during a replay.
    fn close(self: Box<Self>) -> Result<(), ReadModelError>;
}

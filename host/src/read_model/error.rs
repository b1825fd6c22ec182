//! What can go wrong with a read model, whose fault it is, and what to do about it.

use std::fmt;
use std::path::Path;

use retell_contract::{KeyError, RowError};

use super::postgres::SchemaPlaceError;

/// What a read model is called in messages: its file's path, or its server's URL without a password
/// and its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName(pub(super) String);

impl From<&Path> for ModelName {
    fn from(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error of a read model. The open transaction, if any, is to be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    #[error("where the read model is makes no sense")]
    Place {
        #[source]
        source: SchemaPlaceError,
    },
    #[error("the read model `{model}` exists already")]
    Exists { model: ModelName },
    #[error("there is no read model `{model}`")]
    Missing { model: ModelName },
    #[error("`{model}` is not a read model of retell: {reason}")]
    NotAReadModel { model: ModelName, reason: String },
    #[error("`{model}` is not a read model of retell: it is not an SQLite database")]
    NotADatabase { model: ModelName },
    #[error("the read model `{model}` is another one: its {what} is {found}, not {expected}")]
    Other {
        model: ModelName,
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error(
        "the read model `{model}` is damaged: the machine went down while it was being replayed, before it was synced"
    )]
    Unsynced { model: ModelName },
    #[error("the read model `{model}` is damaged: {message}")]
    Malformed { model: ModelName, message: String },
    #[error(
        "another host took over the read model `{model}`: it has epoch {theirs}, this host {ours}"
    )]
    FencedOff {
        model: ModelName,
        ours: u64,
        theirs: u64,
    },
    #[error("no space left for the read model `{model}`: {message}")]
    Full { model: ModelName, message: String },
    #[error("the read model `{model}` can't be written: {message}")]
    NotWritable { model: ModelName, message: String },
    #[error("the server of the read model `{model}` can't be reached")]
    Unreachable {
        model: ModelName,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The views that readers use can't be replaced.
    #[error("others use what is to change or to go of the read model `{model}`: {message}")]
    InUse { model: ModelName, message: String },
    #[error("the server does not let this role {doing} the read model `{model}`: {message}")]
    Refused {
        model: ModelName,
        doing: &'static str,
        message: String,
    },
    #[error("another process holds the read model `{model}` locked")]
    Locked { model: ModelName },
    #[error("somebody holds a lock on the read model `{model}`, on its server")]
    Busy { model: ModelName },
    #[error("the server of the read model `{model}` takes no writes now: {message}")]
    ReadOnly { model: ModelName, message: String },
    #[error(
        "two rows of table `{table}` of the read model `{model}` would share a key or a unique value: {message}"
    )]
    Conflict {
        model: ModelName,
        table: String,
        message: String,
    },
    #[error("the read model `{model}` does not take a row of table `{table}`: {message}")]
    NotTaken {
        model: ModelName,
        table: String,
        message: String,
    },
    #[error("the module handed over a row that is none of table `{table}`")]
    Row {
        table: String,
        #[source]
        source: RowError,
    },
    #[error("the module handed over a key that is none of table `{table}`")]
    Key {
        table: String,
        #[source]
        source: KeyError,
    },
    #[error("the module asked for {what}, which its manifest does not have")]
    Unknown { what: String },
    #[error("the module's scan of table `{table}` by `{index}` makes no sense: {reason}")]
    Scan {
        table: String,
        index: String,
        reason: String,
    },
    #[error("the module's after-replay SQL failed: {message}")]
    AfterReplay {
        message: String,
        /// The statement at fault, where it is known.
        statement: Option<String>,
    },
    #[error("{doing} while a transaction is open (a defect of retell)")]
    TransactionOpen { doing: &'static str },
    #[error("could not {doing} the read model `{model}`")]
    Storage {
        model: ModelName,
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ReadModelError {
    /// A row of `table` that is put under another key than the one that its columns make.
    pub(crate) fn not_under_its_key(table: &str, key: &[u16]) -> Self {
        Self::Row {
            table: table.to_owned(),
            source: RowError::Malformed {
                column: usize::from(key[0]),
                reason: "the row's key columns are not the key it was put under",
            },
        }
    }

    /// Whether the module broke the contract: another try can't help, another module can.
    pub fn is_the_modules_fault(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::NotTaken { .. }
                | Self::Row { .. }
                | Self::Key { .. }
                | Self::Unknown { .. }
                | Self::Scan { .. }
                | Self::AfterReplay { .. }
        )
    }

    /// Whether the rows are lost and only a new build can help.
    pub fn needs_a_new_build(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::NotAReadModel { .. }
                | Self::NotADatabase { .. }
                | Self::Other { .. }
                | Self::Unsynced { .. }
                | Self::Malformed { .. }
        )
    }

    /// The same, said of another path: the one that the user knows.
    pub(super) fn at(mut self, place: &Path) -> Self {
        match &mut self {
            Self::Full { model, .. }
            | Self::NotWritable { model, .. }
            | Self::Locked { model }
            | Self::Storage { model, .. } => *model = place.into(),
            _ => {}
        }
        self
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. }
            | Self::NotAReadModel { .. }
            | Self::NotADatabase { .. }
            | Self::Other { .. }
            | Self::Unsynced { .. }
            | Self::Malformed { .. } => {
                "build it anew from the log with `retell replay NAME@VERSION`; the log has everything"
            }
            Self::FencedOff { .. } => {
                "`retell status` shows what it does; this host has nothing left to do here"
            }
            Self::Full { .. } => {
                "free some disk space, or drop versions that nobody needs with `retell retire NAME@VERSION`, then run the command again (or `retell resume NAME@VERSION`, if it was halted)"
            }
            Self::Refused { .. } => {
                "let the database's owner run `GRANT CREATE ON DATABASE … TO ROLE` for the host's role, or name another with --read-models"
            }
            Self::NotWritable { .. } => {
                "check who owns the folder and the file, and whether the file system is mounted read-only"
            }
            Self::Unreachable { .. } => {
                "see that the server runs and that this role may connect; `psql URL` says more"
            }
            Self::InUse { .. } => {
                "drop what depends on them, or build it on the lasting schema of a major, which changes less"
            }
            Self::Locked { .. } => "see what has the file open, for example with `fuser FILE`",
            Self::Busy { .. } => {
                "`SELECT pid, query FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0` shows who waits, and `pg_blocking_pids(pid)` for whom"
            }
            Self::ReadOnly { .. } => {
                "it is a standby, or set read-only: name the primary, or wait until it is promoted"
            }
            Self::AfterReplay { .. } => {
                "correct the SQL in the projection; it may create and fill things of its own but not write the manifest's tables"
            }
            Self::NotTaken { .. } => {
                "an index or a trigger of the projection's after-replay SQL may be why: correct that"
            }
            Self::Row { .. } | Self::Key { .. } | Self::Unknown { .. } | Self::Scan { .. } => {
                "the module was not built with a sound SDK: build it again with the newest one"
            }
            Self::Place { .. }
            | Self::Exists { .. }
            | Self::Conflict { .. }
            | Self::TransactionOpen { .. }
            | Self::Storage { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

//! What can go wrong with the log, whose fault it is, and what to do about it.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use super::Position;
use crate::postgres::ServerUrl;

/// A cause of any type: backends keep their driver's errors to themselves. Shared, because several
/// appends can fail for the same one.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl<E: Error + Send + Sync + 'static> From<E> for Cause {
    fn from(error: E) -> Self {
        Self(Arc::new(error))
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// What a log is called in messages: its file's path, or its server's URL without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogName(String);

impl LogName {
    pub(crate) fn of_server(url: &ServerUrl) -> Self {
        Self(url.to_string())
    }
}

impl From<&Path> for LogName {
    fn from(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the log did not do what it was asked to. Unless it says otherwise, nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    #[error(
        "the id `{id}` is already in the log, at position {position}, with another {difference}"
    )]
    IdTaken {
        id: String,
        position: Position,
        /// The part that differs: `stream`, `type`, `data`, `metadata` or `occurred_at`.
        difference: &'static str,
        /// Which event of the request, from 0.
        index: usize,
    },
    #[error("stream `{stream}` is at revision {actual}, not at {expected} as expected")]
    Revision {
        stream: String,
        expected: u64,
        actual: u64,
    },
    #[error("{problem}")]
    BadEvent {
        problem: String,
        /// Which event of the request, from 0.
        index: usize,
    },
    #[error("another process is importing the same input, or has just done so")]
    ImportTaken,

    #[error("there is no event log at {log}")]
    Missing { log: LogName },
    #[error("{log} is not an event log: {problem}")]
    NotALog { log: LogName, problem: String },
    #[error(
        "the event log at {log} has schema {found}, older than {wanted}, which this retell needs"
    )]
    Older {
        log: LogName,
        found: i64,
        wanted: i64,
    },
    #[error(
        "the event log at {log} was written by a newer retell: its schema is {found}, this one knows up to {supported}"
    )]
    Newer {
        log: LogName,
        found: i64,
        supported: i64,
    },

    #[error("can't create the event log at {log}")]
    Create { log: LogName, source: Cause },
    #[error("the event log at {log} can't be written to")]
    ReadOnly { log: LogName, source: Cause },
    #[error("can't write to the event log at {log}: the disk is full, or a quota is reached")]
    Full { log: LogName, source: Cause },
    #[error("the event log at {log} can't be reached")]
    Unreachable { log: LogName, source: Cause },
    #[error(
        "the event log at {log} does not let this role in, or does not let it do this: {doing}"
    )]
    Denied {
        log: LogName,
        doing: &'static str,
        source: Cause,
    },
    #[error(
        "the event log at {log} is behind a pooler that gives each transaction another session"
    )]
    Pooled { log: LogName },
    #[error(
        "the event log at {log} was lost while an append was being committed: whether it is in the log is not known"
    )]
    CommitUnknown { log: LogName, source: Cause },
    #[error("the event log at {log} was in use by another process for {waited_s} seconds")]
    Busy { log: LogName, waited_s: u64 },
    #[error("the event log at {log} is damaged")]
    Corrupt { log: LogName, source: Cause },
    #[error("the event log at {log} ends at position {head}, and {seen} was seen before")]
    Shorter {
        log: LogName,
        head: Position,
        seen: Position,
    },
    #[error(
        "the event log at {log} has more than 65,536 event types, which one reader can't tell apart"
    )]
    TooManyTypes { log: LogName },
    #[error("the event log at {log}: {doing} failed")]
    Storage {
        log: LogName,
        doing: &'static str,
        source: Cause,
    },
}

impl LogError {
    /// Whether the state of the log, and not a failure, forbids it (exit code 3, HTTP 409).
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::IdTaken { .. } | Self::Revision { .. } | Self::ImportTaken
        )
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::IdTaken { .. } => {
                "an id names one event for ever: give the new event an id of its own".to_owned()
            }
            Self::Revision { stream, actual, .. } => format!(
                "look at what was appended since with `retell events --stream {}`, then expect {actual}",
                shell_word(stream)
            ),
            Self::ImportTaken => {
                "wait for it, then run the same command again if anything is left to import"
                    .to_owned()
            }
            Self::Missing { .. } => {
                "create one with `retell init`, or name another folder with --data".to_owned()
            }
            Self::NotALog { .. } => {
                "name the folder of an instance with --data, or another log with --log".to_owned()
            }
            Self::Older { .. } => "bring it up to date with `retell migrate`".to_owned(),
            Self::Newer { .. } => {
                "use the newer retell, `retell --version` says which one this is".to_owned()
            }
            Self::Create { .. } | Self::ReadOnly { .. } => {
                "check the owner and the permissions of the folder, or name another with --data"
                    .to_owned()
            }
            Self::Full { .. } => {
                "nothing of this transaction was kept: make room, then run the same command again"
                    .to_owned()
            }
            Self::Busy { .. } => {
                "a long transaction holds it: find the process with `fuser` or `lsof`, then try again"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "see that the server runs and that the URL given with --log is right; `psql URL` says more"
                    .to_owned()
            }
            Self::Denied { .. } => {
                "let the log's owner run `retell init --host-role ROLE`, or use a role that may do it"
                    .to_owned()
            }
            Self::Pooled { .. } => {
                "name the server itself in the URL, or a pooler that keeps a session for each client"
                    .to_owned()
            }
            Self::CommitUnknown { .. } => {
                "run it again: events that have ids are not appended twice".to_owned()
            }
            Self::Corrupt { .. } => {
                "restore it from a backup; `retell check` says up to which event it is whole"
                    .to_owned()
            }
            Self::Shorter { .. } => {
                "it was restored to an older state: replay what was built from the newer one"
                    .to_owned()
            }
            Self::TooManyTypes { .. } => {
                "a projection that names the types it wants has no such limit".to_owned()
            }
            Self::BadEvent { .. } | Self::Storage { .. } => return None,
        };
        Some(hint)
    }
}

/// A word as one would have to write it in a shell.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,=%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

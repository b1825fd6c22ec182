//! What PostgreSQL's errors mean for a read model.

use crate::postgres::{Failure, ServerError, failure};
use crate::read_model::{ModelName, ReadModelError};

/// What was being done, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doing {
    Create,
    Open,
    Read,
    Write,
    Commit,
    Drop,
    Publish,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Commit => "commit to",
            Self::Drop => "drop",
            Self::Publish => "publish",
        }
    }
}

/// Sorts an error of the server by what the operator has to know.
pub(super) fn fault(model: &ModelName, doing: Doing, error: sqlx::Error) -> ReadModelError {
    let model = model.clone();
    let (kind, error) = (failure(&error), ServerError::from(error));
    let message = error.to_string();
    match kind {
        Failure::Connection | Failure::NoDatabase | Failure::Pooled => {
            ReadModelError::Unreachable {
                model,
                source: error.into(),
            }
        }
        Failure::DiskFull => ReadModelError::Full { model, message },
        Failure::Denied | Failure::ReadOnly => ReadModelError::Refused {
            model,
            doing: doing.verb(),
            message,
        },
        Failure::Busy => ReadModelError::Locked { model },
        // The schema or a table of it was dropped.
        Failure::NoObject if !matches!(doing, Doing::Publish) => ReadModelError::Missing { model },
        Failure::NoObject | Failure::Other => ReadModelError::Storage {
            model,
            doing: doing.verb(),
            source: error.into(),
        },
    }
}

/// An error of a statement that writes rows of a table.
pub(super) fn write_fault(model: &ModelName, table: &str, error: sqlx::Error) -> ReadModelError {
    let is_conflict = error.as_database_error().is_some_and(|database| {
        let code = database.code().unwrap_or_default();
        // Integrity constraints, and data that an index of the module's own SQL can't make a value of.
        code.starts_with("23") || code.starts_with("22")
    });
    if is_conflict {
        return ReadModelError::Conflict {
            model: model.clone(),
            table: table.to_owned(),
            message: ServerError::from(error).to_string(),
        };
    }
    fault(model, Doing::Write, error)
}

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
    // A password or a role that is not let in, other than one that may not do something.
    let is_shut_out = code(&error).starts_with("28");
    let (kind, error) = (failure(&error), ServerError::from(error));
    let message = error.to_string();
    match kind {
        _ if is_shut_out => ReadModelError::Unreachable {
            model,
            source: error.into(),
        },
        Failure::Connection | Failure::NoDatabase | Failure::Pooled => {
            ReadModelError::Unreachable {
                model,
                source: error.into(),
            }
        }
        Failure::DiskFull => ReadModelError::Full { model, message },
        Failure::Denied => ReadModelError::Refused {
            model,
            doing: doing.verb(),
            message,
        },
        Failure::ReadOnly => ReadModelError::ReadOnly { model, message },
        Failure::Busy => ReadModelError::Busy { model },
        // The schema or a table of it was dropped.
        Failure::NoObject if !matches!(doing, Doing::Publish) => ReadModelError::Missing { model },
        Failure::NoObject | Failure::Other => ReadModelError::Storage {
            model,
            doing: doing.verb(),
            source: error.into(),
        },
    }
}

/// An error of a statement that writes rows of a table, or builds an index on them.
pub(super) fn write_fault(model: &ModelName, table: &str, error: sqlx::Error) -> ReadModelError {
    let code = code(&error);
    let (model, table) = (model.clone(), table.to_owned());
    let message = |error| ServerError::from(error).to_string();
    match (code.get(..2), code.as_str()) {
        // Integrity constraints.
        (Some("23"), _) => ReadModelError::Conflict {
            model,
            table,
            message: message(error),
        },
        // The database has an encoding in which not every text has a place.
        (_, "22021" | "22P05") => fault(&model, Doing::Write, error),
        // Data of which an index or a trigger can't make a value, or too large a one. Rows by themselves
        // were checked.
        (Some("22" | "54"), _) => ReadModelError::NotTaken {
            model,
            table,
            message: message(error),
        },
        _ => fault(&model, Doing::Write, error),
    }
}

/// The SQLSTATE of a server's error, of which the first two characters are its class; else nothing.
fn code(error: &sqlx::Error) -> String {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.unwrap_or_default().into_owned()
}

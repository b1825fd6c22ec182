//! What everything that talks to a PostgreSQL server shares: URLs whose passwords stay hidden,
//! sessions for threads that may block, the check for poolers, and times as the server keeps them.
//! It knows nothing of logs, catalogs or read models.

mod pooler;
mod roles;
mod session;
mod time;
mod url;

pub(crate) use pooler::shares_sessions;
pub(crate) use roles::{grant, make_role};
pub(crate) use session::{Session, answered, answered_within, connect, pool};
pub(crate) use time::Timestamp;
pub use url::{ServerUrl, ServerUrlError};

/// A driver's error as people should see it: what the server says, without where in its own source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ServerError {
    message: String,
}

impl From<sqlx::Error> for ServerError {
    fn from(error: sqlx::Error) -> Self {
        let message = match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                format!("{} (SQLSTATE {code})", database.message())
            }
            sqlx::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Self { message }
    }
}

/// What kind of failure a driver's error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, or one that broke.
    Connection,
    /// A role that may not log in or may not do this.
    Denied,
    /// No such database.
    NoDatabase,
    /// No such schema, table, column or function.
    NoObject,
    DiskFull,
    /// A lock that was not to be had in time.
    Busy,
    /// A standby, or a session that may not write.
    ReadOnly,
    /// A pooler that does not let a session be set up.
    Pooled,
    Other,
}

/// Sorts an error by its SQLSTATE, as PostgreSQL's appendix A lists them.
pub(crate) fn failure(error: &sqlx::Error) -> Failure {
    let database = match error {
        sqlx::Error::Database(database) => database,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => return Failure::Connection,
        _ => return Failure::Other,
    };
    if database
        .message()
        .starts_with("unsupported startup parameter")
    {
        return Failure::Pooled;
    }
    match database.code().as_deref().unwrap_or_default() {
        "42501" | "28000" | "28P01" => Failure::Denied,
        "3D000" => Failure::NoDatabase,
        "3F000" | "42P01" | "42703" | "42883" => Failure::NoObject,
        "53100" => Failure::DiskFull,
        "55P03" => Failure::Busy,
        "25006" => Failure::ReadOnly,
        // Shutting down, starting up, too many clients, a connection that broke.
        code if code.starts_with("57P") || code.starts_with("08") || code == "53300" => {
            Failure::Connection
        }
        _ => Failure::Other,
    }
}

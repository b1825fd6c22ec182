//! The driver's errors, turned into what a person can act on.

use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::{LogError, LogName};
use crate::postgres::{Failure, ServerError, failure};

/// What a failed step means for a log.
pub(super) fn explain(log: &LogName, doing: &'static str, error: sqlx::Error) -> LogError {
    let log = log.clone();
    let (kind, error) = (failure(&error), ServerError::from(error));
    match kind {
        Failure::Connection => LogError::Unreachable {
            log,
            source: error.into(),
        },
        Failure::Denied => LogError::Denied {
            log,
            doing,
            source: error.into(),
        },
        Failure::NoDatabase => LogError::NotALog {
            log,
            problem: "there is no such database".to_owned(),
        },
        Failure::DiskFull => LogError::Full {
            log,
            source: error.into(),
        },
        Failure::Busy => LogError::Busy {
            log,
            waited_s: LOG_BUSY_TIMEOUT.as_secs(),
        },
        Failure::ReadOnly => LogError::ReadOnly {
            log,
            source: error.into(),
        },
        Failure::Pooled => LogError::Pooled { log },
        Failure::NoObject | Failure::Other => LogError::Storage {
            log,
            doing,
            source: error.into(),
        },
    }
}

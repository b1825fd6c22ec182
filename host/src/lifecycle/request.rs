//! What can be asked of the holder of a projection's lease, and what comes of it. Requests travel
//! through the catalog as JSON when the holder is another process.

use serde::{Deserialize, Serialize};

use crate::event::Position;

/// Work on one projection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Promote {
        version: semver::Version,
        accept_older: bool,
    },
    /// Only while `from` is live: a rollback that happens twice would be none.
    Rollback {
        from: semver::Version,
        accept_older: bool,
    },
    Retire {
        version: semver::Version,
    },
    Pause {
        version: semver::Version,
    },
    Resume {
        version: semver::Version,
    },
    /// A new build from position 1 beside the current one.
    Replay {
        version: semver::Version,
        until: Option<Position>,
    },
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done(Done),
    Refused {
        message: String,
        hint: String,
    },
    Failed {
        message: String,
        hint: Option<String>,
    },
    /// It was left for a holder of the lease that is gone. Who still waits asks again; a command
    /// that died meanwhile does not, so nothing happens long after its user gave up.
    Lost,
}

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Queries get `to` now, at this position or later.
    Switched {
        from: Option<semver::Version>,
        to: semver::Version,
        position: Position,
    },
    Retired,
    Paused,
    Resumed,
    /// A second build has begun; it takes the current one's place when it is ready.
    ReplayBegun {
        build: i64,
    },
}

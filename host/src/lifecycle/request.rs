//! What can be asked of the holder of a projection's lease, and what comes of it. Requests travel
//! through the catalog as JSON when the holder is another process.

use serde::{Deserialize, Serialize};

use super::state::{Halt, Role, State};
use crate::catalog::VersionRecord;
use crate::event::Position;
use crate::replay::Remedy;

/// Work on one projection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Promote {
        version: semver::Version,
        accept_older: bool,
        /// One that is live already is as it should be, and not refused.
        #[serde(default)]
        may_be_live: bool,
        #[serde(default)]
        accept_dead_letters: bool,
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
    /// What to do about an event that it could not apply.
    Decide {
        version: semver::Version,
        position: Position,
        remedy: Remedy,
    },
    /// A new build from position 1 beside the current one.
    Replay {
        version: semver::Version,
        until: Option<Position>,
        /// Somewhere else: a folder, or the URL of a database.
        #[serde(default)]
        to: Option<String>,
    },
}

impl Request {
    /// What was done, if the difference between `before`, when this was asked for, and `now` says
    /// that it was. The position of a switch is left open.
    pub(super) fn carried_out(
        &self,
        before: &[VersionRecord],
        now: &[VersionRecord],
    ) -> Option<Done> {
        let changed = |version: &semver::Version, is: &dyn Fn(&VersionRecord) -> bool| {
            let find = |versions: &[VersionRecord]| {
                let found = versions.iter().find(|it| it.version == *version);
                found.is_some_and(is)
            };
            !find(before) && find(now)
        };
        let live = |versions: &[VersionRecord]| {
            let found = versions.iter().find(|it| it.status.role == Role::Live);
            found.map(|it| it.version.clone())
        };
        match self {
            Self::Promote { version, .. } => {
                let is_live = |it: &VersionRecord| it.status.role == Role::Live;
                changed(version, &is_live).then(|| Done::Switched {
                    from: live(before),
                    to: version.clone(),
                    position: 0,
                })
            }
            Self::Rollback { from, .. } => {
                let to = live(now)?;
                let was_live = live(before).as_ref() == Some(from);
                (was_live && to != *from).then(|| Done::Switched {
                    from: Some(from.clone()),
                    to,
                    position: 0,
                })
            }
            Self::Retire { version } => {
                changed(version, &|it| it.status.state == State::Retired).then_some(Done::Retired)
            }
            Self::Pause { version } => {
                changed(version, &|it| it.status.halt == Halt::Paused).then_some(Done::Paused)
            }
            Self::Resume { version } => {
                changed(version, &|it| it.status.halt == Halt::None).then_some(Done::Resumed)
            }
            // Asked again, it is refused where it was carried out.
            Self::Decide { .. } => None,
            Self::Replay { version, .. } => {
                let builds = |versions: &[VersionRecord]| {
                    let found = versions.iter().find(|it| it.version == *version);
                    found.map(|it| [it.current.clone(), it.successor.clone()])
                };
                let (before, now) = (builds(before)?, builds(now)?);
                now.into_iter()
                    .flatten()
                    .find(|it| !before.iter().flatten().any(|known| known.id == it.id))
                    .map(|build| Done::ReplayBegun { build: build.id })
            }
        }
    }
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
    /// The version to promote was live, and that was said to be fine.
    LiveAlready,
    Retired,
    Paused,
    Resumed,
    /// A dead letter was decided about.
    Decided {
        /// Events that were applied.
        applied: u64,
        /// Why one of them failed again.
        failed: Option<String>,
    },
    /// A second build has begun; it takes the current one's place when it is ready.
    ReplayBegun {
        build: i64,
    },
}

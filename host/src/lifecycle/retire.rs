//! The end of builds and the names of those that go on: retiring a version, building one anew,
//! giving up a build in the making, and the links and files that follow the catalog.

use std::time::Duration;

use super::LifecycleError;
use super::publish::Unpublished;
use super::refusal::refused;
use super::request::Done;
use super::state::{Change, Halt, Role, State};
use super::supervisor::Supervisor;
use crate::catalog::{Build, VersionRecord};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;
use crate::read_model::ReadModels;
use crate::read_model::sqlite::SqliteReadModel;

/// Names, roles or files that did not follow the catalog are tried again after this long …
const RETRY_MIN: Duration = Duration::from_millis(500);
/// … and after so many times as long as the attempt took, so that a server that does not answer takes
/// little of the time that there is for everything else, …
const RETRY_SHARE: u32 = 4;
/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Names, roles or files do not follow the catalog.
#[derive(Debug)]
pub(super) struct BehindCatalog {
    since: Stopwatch,
    wait: Duration,
}

impl BehindCatalog {
    /// An attempt took so long.
    fn after(took: Duration) -> Self {
        Self {
            since: Stopwatch::start(),
            wait: (took * RETRY_SHARE).clamp(RETRY_MIN, RETRY_MAX),
        }
    }

    pub(super) fn is_to_be_tried_again(&self) -> bool {
        self.since.elapsed() >= self.wait
    }
}

impl Supervisor {
    pub(super) async fn retire(
        &mut self,
        version: &semver::Version,
    ) -> Result<Done, LifecycleError> {
        let retired = self.change(version, Change::Retire).await;
        retired.inspect_err(|error| self.doubt(error))?;
        crash_point::reach(CrashPoint::VersionRetired);
        let versions = self.host.catalog.versions(self.projection()).await?;
        self.stop_strays(&versions).await;
        self.follow_catalog().await;
        Ok(Done::Retired)
    }

    pub(super) async fn replay(
        &mut self,
        version: &semver::Version,
        until: Option<Position>,
        to: Option<&ReadModels>,
    ) -> Result<Done, LifecycleError> {
        let record = self.record(version).await?;
        if record.status.halt == Halt::Paused {
            return Err(LifecycleError::Refused {
                message: format!("{} is paused", record.name()),
                hint: format!("let it go on first: `retell resume {}`", record.name()),
            });
        }
        let read_models = match (to, &record.latest_location) {
            (Some(to), _) => to.clone(),
            // A version remembers where it is.
            (None, Some(location)) => ReadModels::beside(location, self.host.log.log_id())?,
            (None, None) => self.host.places.read_models.clone(),
        };
        // The same again, after it was interrupted: it goes on.
        let is_the_same = |build: &Build| {
            let there = read_models.location(&build.projection, &build.version, build.id);
            build.until == until && build.location == there
        };
        if let Some(build) = record.successor.clone().filter(is_the_same) {
            self.include(version);
            return Ok(Done::ReplayBegun { build: build.id });
        }
        // One on its way to another place, which may turn out to be none, is in no other one's way.
        if let (Some(build), Some(_)) = (&record.successor, to) {
            self.give_up(build).await?;
        }
        let catalog = &self.host.catalog;
        let (projection, now_us) = (self.projection(), self.host.clock.now_us());
        if record.status.state == State::Retired {
            let revived = catalog
                .revive(projection, version, &read_models, until, now_us)
                .await;
            self.include(version);
            return revived
                .map(|build| Done::ReplayBegun { build: build.id })
                .map_err(refused);
        }
        if let (Some(until), Role::Live) = (until, record.status.role) {
            return Err(LifecycleError::Refused {
                message: format!(
                    "{} is live, and a build that stops at {until} would take readers back, or leave \
                     them there",
                    record.name()
                ),
                hint: format!(
                    "promote another version first: `retell promote {}@VERSION`",
                    record.projection
                ),
            });
        }
        let added = catalog
            .add_successor(projection, version, &read_models, until, now_us)
            .await;
        self.include(version);
        match added {
            Ok(build) => Ok(Done::ReplayBegun { build: build.id }),
            Err(error) => Err(refused(error)),
        }
    }

    /// Forgets a build in the making, and removes its files.
    pub(super) async fn give_up(&mut self, build: &Build) -> Result<(), LifecycleError> {
        if let Some(worker) = self.workers.remove(&build.id) {
            worker.stop().await;
        }
        self.goals.remove(&build.id);
        self.host.catalog.discard_build(build.id).await?;
        self.follow_catalog().await;
        Ok(())
    }

    /// Makes links, roles and files follow the catalog, which is the truth. What does not follow now
    /// is tried again later: what was decided is done all the same.
    pub(super) async fn follow_catalog(&mut self) {
        if let Err(error) = self.follow().await {
            let projection = self.projection();
            tracing::warn!(
                "{projection}: {}; it is tried again",
                crate::error_chain(&error)
            );
        }
    }

    /// The catalog did not say that a change was made. Where that is no refusal it may be made all the
    /// same, as the answer may be lost: then there is something to follow.
    pub(super) fn doubt(&mut self, error: &LifecycleError) {
        if !matches!(error, LifecycleError::Refused { .. }) {
            self.behind_catalog = Some(BehindCatalog::after(Duration::ZERO));
        }
    }

    /// See [`follow_catalog`](Self::follow_catalog), which most want.
    pub(super) async fn follow(&mut self) -> Result<(), LifecycleError> {
        let took = Stopwatch::start();
        let followed = self.follow_where_possible().await;
        self.behind_catalog = match &followed {
            Ok(()) => None,
            Err(_) => Some(BehindCatalog::after(took.elapsed())),
        };
        followed
    }

    /// What is in one's way does not stop the others. The first error is returned.
    async fn follow_where_possible(&self) -> Result<(), LifecycleError> {
        // Names first, so that no link points at a file that is gone.
        let unpublished = self.publish().await?;
        crash_point::reach(CrashPoint::NamesPublished);
        let told = self.tell_roles(&unpublished).await;
        crash_point::reach(CrashPoint::RolesTold);
        let dropped = self.drop_discarded(&unpublished).await;
        unpublished.into_result().and(told).and(dropped)
    }

    /// Removes the files of builds that nothing uses any more.
    async fn drop_discarded(&self, unpublished: &Unpublished) -> Result<(), LifecycleError> {
        let mut fault: Result<(), LifecycleError> = Ok(());
        for build in self.host.catalog.discarded(self.projection()).await? {
            let place = self.host.places.of_build(&build)?;
            if unpublished.may_lead_to(&place) {
                continue;
            }
            let log_id = self.host.log.log_id().to_owned();
            let dropping = move || place.drop_read_model(&log_id);
            let dropped = tokio::task::spawn_blocking(dropping).await;
            if let Err(error) = dropped.expect("dropping does not panic") {
                fault = fault.and(Err(error.into()));
                continue;
            }
            crash_point::reach(CrashPoint::ReadModelDropped);
            self.host.catalog.mark_dropped(build.id).await?;
        }
        fault?;
        let places = &self.host.places;
        if let ReadModels::Folder(folder) = &places.read_models {
            let folder = places.home.join(folder);
            SqliteReadModel::sweep(&folder.join(self.projection()))?;
        }
        Ok(())
    }

    /// Workers whose build is no longer anybody's.
    pub(super) async fn stop_strays(&mut self, versions: &[VersionRecord]) {
        let wanted: Vec<i64> = versions
            .iter()
            .flat_map(|it| [&it.current, &it.successor])
            .flatten()
            .map(|build| build.id)
            .collect();
        let strays: Vec<i64> = self
            .workers
            .keys()
            .filter(|id| !wanted.contains(id))
            .copied()
            .collect();
        for id in strays {
            // A build that was made after the versions were read is no stray.
            if !self.is_known(id).await
                && let Some(worker) = self.workers.remove(&id)
            {
                worker.stop().await;
            }
        }
    }

    async fn is_known(&self, build: i64) -> bool {
        let Ok(versions) = self.host.catalog.versions(self.projection()).await else {
            return true;
        };
        versions
            .iter()
            .flat_map(|it| [&it.current, &it.successor])
            .flatten()
            .any(|it| it.id == build)
    }
}

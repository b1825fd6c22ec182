//! The end of builds and the names of those that go on: retiring a version, building one anew,
//! giving up a build in the making, and the links and files that follow the catalog.

use super::LifecycleError;
use super::refusal::refused;
use super::request::Done;
use super::state::{Change, Role, State};
use super::supervisor::Supervisor;
use crate::catalog::{Build, VersionRecord};
use crate::clock::Stopwatch;
use crate::event::Position;
use crate::read_model::publish::{LinkName, Links};
use crate::read_model::sqlite::SqliteReadModel;

impl Supervisor {
    pub(super) async fn retire(
        &mut self,
        version: &semver::Version,
    ) -> Result<Done, LifecycleError> {
        self.change(version, Change::Retire).await?;
        let versions = self.host.catalog.versions(self.projection()).await?;
        self.stop_strays(&versions).await;
        self.follow_catalog().await;
        Ok(Done::Retired)
    }

    pub(super) async fn replay(
        &mut self,
        version: &semver::Version,
        until: Option<Position>,
    ) -> Result<Done, LifecycleError> {
        let record = self.record(version).await?;
        // The same again, after it was interrupted: it goes on.
        if let Some(build) = record.successor.clone().filter(|it| it.until == until) {
            self.include(version);
            return Ok(Done::ReplayBegun { build: build.id });
        }
        let (catalog, places) = (&self.host.catalog, &self.host.places);
        let (projection, now_us) = (self.projection(), self.host.clock.now_us());
        if record.status.state == State::Retired {
            let revived = catalog
                .revive(projection, version, &places.read_models, until, now_us)
                .await;
            self.include(version);
            return revived
                .map(|build| Done::ReplayBegun { build: build.id })
                .map_err(refused);
        }
        if let (Some(until), Role::Live) = (until, record.status.role) {
            return Err(LifecycleError::Refused {
                message: format!(
                    "{} is live, and a build that stops at {until} would take readers back",
                    record.name()
                ),
                hint: format!(
                    "promote another version first: `retell promote {}@VERSION`",
                    record.projection
                ),
            });
        }
        let added = catalog
            .add_successor(projection, version, &places.read_models, until, now_us)
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
        self.host.catalog.discard_build(build.id).await?;
        self.follow_catalog().await;
        Ok(())
    }

    /// Makes links, roles and files follow the catalog, which is the truth. What does not follow now
    /// is tried again later: what was decided is done all the same.
    pub(super) async fn follow_catalog(&mut self) {
        self.behind_catalog = match self.follow().await {
            Ok(()) => None,
            Err(error) => {
                let projection = self.projection();
                tracing::warn!(
                    "{projection}: {}; it is tried again",
                    crate::error_chain(&error)
                );
                Some(Stopwatch::start())
            }
        };
    }

    /// See [`follow_catalog`](Self::follow_catalog), which most want.
    pub(super) async fn follow(&self) -> Result<(), LifecycleError> {
        // Names first, so that no link points at a file that is gone.
        self.publish().await?;
        self.tell_roles().await?;
        self.drop_discarded().await
    }

    /// Makes the links follow the catalog: `live.db` and one `vN.db` for each major.
    async fn publish(&self) -> Result<(), LifecycleError> {
        let projection = self.projection();
        let versions = self.host.catalog.versions(projection).await?;
        let majors = self.host.catalog.majors(projection).await?;
        let path = |version: &VersionRecord| {
            version
                .current
                .as_ref()
                .map(|build| self.host.places.of_build(build))
        };
        let mut names = Vec::new();
        if let Some(live) = versions.iter().find(|it| it.status.role == Role::Live) {
            names.extend(path(live).map(|path| (LinkName::Live, path)));
        }
        for (major, holder) in majors {
            if let Some(holder) = versions.iter().find(|it| it.version == holder)
                && holder.status.state == State::Ready
            {
                names.extend(path(holder).map(|path| (LinkName::Major(major), path)));
            }
        }
        Links::new(&self.host.places.links, projection).repair(&names)?;
        Ok(())
    }

    /// Removes the files of builds that nothing uses any more.
    async fn drop_discarded(&self) -> Result<(), LifecycleError> {
        for build in self.host.catalog.discarded(self.projection()).await? {
            SqliteReadModel::drop_read_model(&self.host.places.of_build(&build))?;
            self.host.catalog.mark_dropped(build.id).await?;
        }
        let places = &self.host.places;
        let folder = places.home.join(&places.read_models);
        Ok(SqliteReadModel::sweep(&folder.join(self.projection()))?)
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

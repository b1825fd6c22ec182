//! The switch: promote, rollback, and putting a new build in an old one's place. In each the one
//! that readers use stands still at some position, the one that comes has to reach it, and one
//! commit of the catalog decides. Readers see the old or the new, and never an older position.

use std::time::Duration;

use super::LifecycleError;
use super::publish::Unpublished;
use super::refusal::refused;
use super::request::Done;
use super::state::{Change, Role, State};
use super::supervisor::Supervisor;
use crate::catalog::{Build, Switch, SwitchKind, VersionRecord};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;
use crate::read_model::postgres::ServerViews;

/// How often a switch looks at whom it waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Between opening a read model and reading from it.
const LATE_READER_TIME: Duration = Duration::from_millis(250);
/// A version that has not moved for this long will not catch up soon: the switch is refused.
const STANDSTILL_MAX: Duration = Duration::from_secs(20);

/// Builds that were displaced by a switch. They stand still for moments longer: a program that opened
/// one just before the switch and reads just after it must not see it ahead of what it opens next.
#[derive(Debug)]
pub(super) struct Fenced {
    since: Stopwatch,
    builds: Vec<i64>,
}

/// What whoever asks for a switch puts up with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    /// Readers may go back.
    pub(super) older: bool,
    /// Events may be missing.
    pub(super) dead_letters: bool,
}

impl Fenced {
    /// Whether late readers have had their time.
    pub(super) fn is_over(&self) -> bool {
        self.since.elapsed() >= LATE_READER_TIME
    }
}

impl Supervisor {
    /// Makes the version that was live most recently live again, in the place of `from`.
    pub(super) async fn rollback(
        &mut self,
        from: &semver::Version,
        accept_older: bool,
    ) -> Result<Done, LifecycleError> {
        let projection = self.projection().to_owned();
        let versions = self.host.catalog.versions(&projection).await?;
        let holder = |role: Role| versions.iter().find(|it| it.status.role == role);
        if holder(Role::Live).is_none_or(|live| live.version != *from) {
            return Err(LifecycleError::Refused {
                message: format!("{projection}@{from} is not live any more"),
                hint: format!("`retell status {projection}` shows what is"),
            });
        }
        let previous = holder(Role::Previous).ok_or_else(|| LifecycleError::Refused {
            message: format!("{projection} has no previous version to go back to"),
            hint: format!("promote the version you want: `retell promote {projection}@VERSION`"),
        })?;
        let to = previous.version.clone();
        // It was live as it is.
        let accepted = Accepted {
            older: accept_older,
            dead_letters: true,
        };
        self.switch(&to, SwitchKind::Rollback, accepted).await
    }

    /// Makes a version live.
    pub(super) async fn switch(
        &mut self,
        to: &semver::Version,
        kind: SwitchKind,
        accepted: Accepted,
    ) -> Result<Done, LifecycleError> {
        let accept_older = accepted.older;
        let target = self.record(to).await?;
        // Refused early, before anything waits; the catalog judges again in its transaction.
        let go_live = Change::GoLive {
            even_halted: accept_older,
        };
        if let Err(source) = target.status.after(&go_live) {
            return Err(refused(crate::catalog::CatalogError::Refused {
                projection: target.projection.clone(),
                version: target.version.to_string(),
                source,
            }));
        }
        let views = self.views_after(&target).await?;
        // Whoever stands still since the switch before may have to move for this one.
        self.release_fences();
        let displaced = self.displaced_by(to).await?;
        self.include(to);
        let coming = current(&target)?.clone();
        // First without a fence, so that those displaced stand still only for moments.
        let mut position = 0;
        for version in &displaced {
            position = position.max(self.seen_position(version, accept_older).await?);
        }
        self.is_switching = true;
        let caught_up = self
            .catch_up(&target, &coming, accept_older, position)
            .await;
        let switched = match caught_up {
            Ok(()) => {
                self.switch_fenced(&target, &coming, &displaced, kind, accepted, &views)
                    .await
            }
            Err(behind) => Err(behind),
        };
        self.is_switching = false;
        let builds = displaced.iter().filter_map(|it| it.current.as_ref());
        self.fenced = Some(Fenced {
            since: Stopwatch::start(),
            builds: builds.map(|it| it.id).collect(),
        });
        if switched.is_err() {
            self.release_fences();
        }
        switched
    }

    /// Lets those go on that stand still since a switch.
    pub(super) fn release_fences(&mut self) {
        for build in self.fenced.take().into_iter().flat_map(|it| it.builds) {
            if let Some(worker) = self.workers.get(&build) {
                worker.unfence();
            }
        }
    }

    /// The versions whose readers may see `to` from now on: the live one, and the one that has the
    /// lasting name of its major.
    async fn displaced_by(
        &self,
        to: &semver::Version,
    ) -> Result<Vec<VersionRecord>, LifecycleError> {
        let majors = self.host.catalog.majors(self.projection()).await?;
        let holder = majors
            .into_iter()
            .find(|it| it.0 == to.major)
            .map(|it| it.1);
        let mut versions = self.host.catalog.versions(self.projection()).await?;
        versions.retain(|it| {
            let is_read = it.status.role == Role::Live || Some(&it.version) == holder.as_ref();
            is_read && it.version != *to
        });
        Ok(versions)
    }

    async fn switch_fenced(
        &mut self,
        target: &VersionRecord,
        coming: &Build,
        displaced: &[VersionRecord],
        kind: SwitchKind,
        accepted: Accepted,
        views: &[ServerViews],
    ) -> Result<Done, LifecycleError> {
        let accept_older = accepted.older;
        let mut position = 0;
        for version in displaced {
            let going = current(version)?;
            let fenced = match self.workers.get_mut(&going.id) {
                Some(worker) => worker.fence().await,
                None => None,
            };
            let stands = match fenced {
                Some(position) => position,
                None => self.seen_position(version, accept_older).await?,
            };
            position = position.max(stands);
        }
        self.catch_up(target, coming, accept_older, position)
            .await?;
        // On its way it may have met more.
        self.check_dead_letters(&target.version, accepted.dead_letters)
            .await?;
        let switch = Switch {
            projection: self.projection(),
            kind,
            to: &target.version,
            position,
            accept_older,
            epoch: self.epoch(),
            views,
            now_us: self.host.clock.now_us(),
        };
        crash_point::reach(CrashPoint::Fenced);
        if let Err(error) = self.host.catalog.switch(switch).await {
            let error = refused(error);
            self.doubt(&error);
            return Err(error);
        }
        crash_point::reach(CrashPoint::Switched);
        self.follow_catalog().await;
        let live = displaced.iter().find(|it| it.status.role == Role::Live);
        // What is done is done, whether or not it can be asked now.
        let position = self.position(target, coming).await.unwrap_or(position);
        Ok(Done::Switched {
            from: live.map(|it| it.version.clone()),
            to: target.version.clone(),
            position,
        })
    }

    /// Waits until a version has everything up to `position`. Refuses when it can't get there. One that
    /// may be older must be there all the same.
    async fn catch_up(
        &mut self,
        target: &VersionRecord,
        build: &Build,
        accept_older: bool,
        position: Position,
    ) -> Result<(), LifecycleError> {
        if accept_older {
            return self.position(target, build).await.map(drop);
        }
        let behind = |at: Position, why: &str| LifecycleError::Refused {
            message: format!(
                "{} is at position {at}, behind {position}, where readers are, and {why}",
                target.name()
            ),
            hint: "wait for it, or accept that readers go back with --accept-older".into(),
        };
        let mut moved = (Stopwatch::start(), 0);
        loop {
            let at = self.position(target, build).await?;
            if at >= position {
                return Ok(());
            }
            self.go_on()?;
            if at > moved.1 {
                moved = (Stopwatch::start(), at);
            }
            if moved.0.elapsed() > STANDSTILL_MAX {
                return Err(behind(at, "does not get further"));
            }
            if build.until.is_some_and(|until| until < position) {
                return Err(behind(at, "stops where it was told to"));
            }
            match self
                .workers
                .get(&build.id)
                .map(super::worker::Worker::progress)
            {
                Some(progress) if progress.end().is_none() => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                // Not running yet, or ended: the same care as at any time, then look again.
                _ => {
                    Box::pin(self.tick()).await?;
                    let now = self.record(&target.version).await?;
                    if !now.status.runs() {
                        return Err(behind(at, "is halted"));
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    /// How far readers of a version are. One whose read model is lost, or can't be reached, has no
    /// readers to take back, but that is for the operator to say.
    async fn seen_position(
        &self,
        live: &VersionRecord,
        accept_older: bool,
    ) -> Result<Position, LifecycleError> {
        let build = current(live)?;
        match self.position(live, build).await {
            Err(LifecycleError::ReadModel(_)) if accept_older => Ok(0),
            Err(LifecycleError::ReadModel(lost)) if lost.needs_a_new_build() => {
                Err(LifecycleError::Refused {
                    message: format!(
                        "nobody knows how far readers of {} are: {}",
                        live.name(),
                        crate::error_chain(&lost)
                    ),
                    hint: format!(
                        "build it again with `retell replay {}`, or switch all the same with --accept-older",
                        live.name()
                    ),
                })
            }
            known => known,
        }
    }

    /// How far a build's read model is, as readers see it.
    async fn position(
        &self,
        version: &VersionRecord,
        build: &Build,
    ) -> Result<Position, LifecycleError> {
        if let Some(progress) = self.progress(build.id)
            && progress.is_ready()
        {
            return Ok(progress.position);
        }
        let place = self.host.places.of_build(build)?;
        let read = tokio::task::spawn_blocking(move || place.status()).await;
        match read.expect("reading a status does not panic") {
            Ok(status) => Ok(status.checkpoint.position),
            // Nobody ever read from it.
            Err(_) if version.status.state != State::Ready => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the read models say what they are now, where names no longer lead to others.
    pub(super) async fn tell_roles(&self, unpublished: &Unpublished) -> Result<(), LifecycleError> {
        for version in self.host.catalog.versions(self.projection()).await? {
            let Some(build) = &version.current else {
                continue;
            };
            let role = version.status.role;
            let place = self.host.places.of_build(build);
            if place.as_ref().is_ok_and(|it| unpublished.may_lead_to(it)) {
                continue;
            }
            match self.workers.get(&build.id) {
                Some(worker) => worker.set_role(role),
                None if version.status.state != State::Ready => {}
                None => {
                    let epoch = self.epoch();
                    let written = tokio::task::spawn_blocking(move || {
                        let place = place?;
                        if place.status()?.role == role {
                            return Ok(());
                        }
                        place.write_role(role, epoch)
                    });
                    // The catalog is the truth; a read model that is gone has no readers to tell.
                    if let Err(error) = written.await.expect("writing a role does not panic") {
                        tracing::info!("{}: {}", version.name(), crate::error_chain(&error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a successor that is ready in the current build's place.
    pub(super) async fn swap_in(
        &mut self,
        version: &VersionRecord,
        successor: &Build,
    ) -> Result<(), LifecycleError> {
        // One that is still replaying has no readers, and would not stand still.
        if let Some(current) = version
            .current
            .as_ref()
            .filter(|_| version.status.state == State::Ready)
        {
            let fenced = match self.workers.get_mut(&current.id) {
                Some(worker) => worker.fence().await,
                None => None,
            };
            let stands = match fenced {
                Some(position) => Some(position),
                None => self.position(version, current).await.ok(),
            };
            let head = self.host.log.head().await?.position;
            let position = match stands {
                Some(position) => {
                    self.goals.remove(&successor.id);
                    position
                }
                // Nobody builds one on that can't be asked, so its readers are where the log ended at most.
                None => *self.goals.entry(successor.id).or_insert(head),
            };
            // Beyond the head it is of another history, from before the log was restored: there is no
            // getting there any more.
            let position = position.min(head);
            let reached = self.progress(successor.id).map_or(0, |it| it.position);
            let stops_short = successor.until.is_some_and(|until| until < position);
            if stops_short && version.status.role == Role::Live {
                // It was promoted since; its readers must not go back.
                if let Some(worker) = self.workers.get(&current.id) {
                    worker.unfence();
                }
                tracing::warn!(
                    "the new build of {} stops before where it is live, and is given up",
                    version.name()
                );
                return self.give_up(successor).await;
            }
            if reached < position && !stops_short {
                // Not yet; the next look finds it further.
                if let Some(worker) = self.workers.get(&current.id) {
                    worker.unfence();
                }
                return Ok(());
            }
        }
        let swapped = self
            .host
            .catalog
            .swap_in_successor(self.projection(), &version.version, self.epoch())
            .await;
        if let Err(error) = swapped {
            if let Some(worker) = version
                .current
                .as_ref()
                .and_then(|it| self.workers.get(&it.id))
            {
                worker.unfence();
            }
            let error = error.into();
            self.doubt(&error);
            return Err(error);
        }
        self.goals.remove(&successor.id);
        crash_point::reach(CrashPoint::SuccessorSwapped);
        if let Some(worker) = version
            .current
            .as_ref()
            .and_then(|it| self.workers.remove(&it.id))
        {
            worker.stop().await;
        }
        self.follow_catalog().await;
        Ok(())
    }
}

/// The build that a version is served from.
pub(super) fn current(version: &VersionRecord) -> Result<&Build, LifecycleError> {
    version
        .current
        .as_ref()
        .ok_or_else(|| LifecycleError::Refused {
            message: format!("{} has no read model", version.name()),
            hint: format!("build it again: `retell replay {}`", version.name()),
        })
}

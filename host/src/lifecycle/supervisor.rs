//! The supervisor: whoever holds a projection's lease runs one. It keeps a worker on every build
//! that should be worked on, writes what they reached into the catalog, and carries out requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use super::refusal::refused;
use super::request::{Done, Outcome, Request};
use super::retire::BehindCatalog;
use super::state::{Change, Halt, Role, State};
use super::switch::{Accepted, Fenced};
use super::worker::{End, Order, Progress, Task, Worker};
use super::{Host, LifecycleError};
use crate::catalog::lease::Lease;
use crate::catalog::{Build, SwitchKind, VersionRecord};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;

/// After a fault of the host's a worker is started again after this long, doubled each time …
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Outcomes that nobody fetched are kept for an hour, in microseconds.
const OUTCOME_KEPT_US: i64 = 3_600_000_000;

/// Which versions a supervisor works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them: a host that serves.
    All,
    /// Those that a command is about.
    Only(Vec<semver::Version>),
}

/// Works on one projection, as long as it holds the lease.
pub struct Supervisor {
    pub(super) host: Arc<Host>,
    scope: Scope,
    /// By build.
    pub(super) workers: BTreeMap<i64, Worker>,
    /// Behind the workers, since fields are dropped in order: they end before the lease does.
    lease: Lease,
    troubles: BTreeMap<i64, TroubledBuild>,
    /// Faults of the host's end a command, while a server waits for them to pass.
    gives_up: bool,
    /// Says when what takes long shall be broken off.
    stopping: Option<watch::Receiver<bool>>,
    /// Who stands still since a switch.
    pub(super) fenced: Option<Fenced>,
    /// Links, roles or files that did not follow the catalog.
    pub(super) behind_catalog: Option<BehindCatalog>,
    /// A switch waits here for its version.
    pub(super) is_switching: bool,
    /// By successor of a build that nobody can ask how far its readers are: where they may be at most.
    pub(super) goals: BTreeMap<i64, Position>,
}

/// A build whose worker met a fault of the host's.
struct TroubledBuild {
    since: Stopwatch,
    wait: Duration,
    /// Where it stood; once it is further, the fault is over.
    position: Position,
}

impl Supervisor {
    /// Begins to work with a lease that was just taken: whatever a predecessor left half done
    /// between the catalog and the files is finished first.
    pub async fn begin(
        host: Arc<Host>,
        lease: Lease,
        scope: Scope,
        gives_up: bool,
    ) -> Result<Self, LifecycleError> {
        let mut supervisor = Self {
            host,
            lease,
            scope,
            workers: BTreeMap::new(),
            troubles: BTreeMap::new(),
            gives_up,
            stopping: None,
            fenced: None,
            behind_catalog: None,
            is_switching: false,
            goals: BTreeMap::new(),
        };
        supervisor.lose_requests().await?;
        if let Err(error) = supervisor.follow().await {
            // Whoever needs what is in the way now will say so.
            tracing::info!(
                "{}: {}",
                supervisor.projection(),
                crate::error_chain(&error)
            );
        }
        Ok(supervisor)
    }

    /// Requests left for a predecessor: who still waits asks again.
    async fn lose_requests(&self) -> Result<(), LifecycleError> {
        let lost = serde_json::to_string(&Outcome::Lost).expect("an outcome has a JSON form");
        let catalog = &self.host.catalog;
        for record in catalog.open_requests(self.projection()).await? {
            catalog.answer_request(record.id, &lost).await?;
        }
        let forgotten = self.host.clock.now_us() - OUTCOME_KEPT_US;
        Ok(catalog
            .forget_outcomes(self.projection(), forgotten)
            .await?)
    }

    pub fn projection(&self) -> &str {
        self.lease.projection()
    }

    /// What takes long is broken off once this says so.
    pub fn heed(&mut self, stopping: watch::Receiver<bool>) {
        self.stopping = Some(stopping);
    }

    /// An error if what takes long shall be broken off.
    pub(super) fn go_on(&self) -> Result<(), LifecycleError> {
        match &self.stopping {
            Some(stopping) if *stopping.borrow() => Err(LifecycleError::Interrupted),
            _ => Ok(()),
        }
    }

    /// Ends once what takes long shall be broken off.
    pub(super) async fn is_told_to_stop(&self) {
        if let Some(mut stopping) = self.stopping.clone()
            && stopping.wait_for(|it| *it).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Grows with each taking of the lease; only the newest may write.
    pub(super) fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// How far the worker of a build is, if there is one.
    pub fn progress(&self, build: i64) -> Option<Progress> {
        self.workers.get(&build).map(Worker::progress)
    }

    /// Ends when one of the workers becomes ready, or ends: then there is something to look after.
    pub(super) async fn settles(&self) {
        let settling: Vec<_> = self.workers.values().filter_map(Worker::settles).collect();
        if settling.is_empty() {
            return std::future::pending().await;
        }
        select_all(settling.into_iter().map(Box::pin)).await;
    }

    /// Also works on this version from now on.
    pub(super) fn include(&mut self, version: &semver::Version) {
        if let Scope::Only(versions) = &mut self.scope
            && !versions.contains(version)
        {
            versions.push(version.clone());
        }
    }

    /// Looks after everything once: starts and stops workers, and writes down what they reached.
    pub async fn tick(&mut self) -> Result<(), LifecycleError> {
        if self.lease.is_lost() {
            return Err(LifecycleError::LeaseLost {
                projection: self.projection().to_owned(),
            });
        }
        if self.fenced.as_ref().is_some_and(Fenced::is_over) {
            self.release_fences();
        }
        let versions = self.host.catalog.versions(self.projection()).await?;
        // One version's fault keeps nobody from looking after the others.
        let mut fault = Ok(());
        for version in &versions {
            if let Some(build) = &version.current {
                fault = fault.and(self.look_after_current(version, build).await);
            }
            if let Some(build) = &version.successor {
                fault = fault.and(self.look_after_successor(version, build).await);
            }
        }
        self.stop_strays(&versions).await;
        if self
            .behind_catalog
            .as_ref()
            .is_some_and(BehindCatalog::is_to_be_tried_again)
        {
            self.follow_catalog().await;
        }
        fault?;
        // At the end, since it makes what was read of the others' roles out of date; and not while a
        // switch waits here, which has looked at what is live.
        let planned = versions
            .iter()
            .find(|it| !self.is_switching && self.is_to_be_promoted(it));
        match planned {
            Some(version) => self.promote_as_planned(version).await,
            None => Ok(()),
        }
    }

    fn is_to_be_promoted(&self, version: &VersionRecord) -> bool {
        let progress = version.current.as_ref().and_then(|it| self.progress(it.id));
        version.promote_when_ready
            && version.status.state == State::Ready
            && progress.is_some_and(|it| it.is_ready())
    }

    /// Carries out a request. What the state does not allow is an outcome, not an error.
    pub async fn handle(&mut self, request: Request) -> Result<Outcome, LifecycleError> {
        let done = match request {
            Request::Promote {
                version,
                accept_older,
                may_be_live,
                accept_dead_letters,
            } => {
                if may_be_live && self.record(&version).await?.status.role == Role::Live {
                    Ok(Done::LiveAlready)
                } else {
                    let promoted = self
                        .promote(&version, accept_older, accept_dead_letters)
                        .await;
                    // Whoever deployed it is told so, and does not expect it to go live later.
                    if may_be_live && matches!(promoted, Err(LifecycleError::Refused { .. })) {
                        let catalog = &self.host.catalog;
                        catalog
                            .set_promote_when_ready(self.projection(), &version, false)
                            .await?;
                    }
                    promoted
                }
            }
            Request::Rollback { from, accept_older } => self.rollback(&from, accept_older).await,
            Request::Retire { version } => self.retire(&version).await,
            Request::Pause { version } => self
                .change(&version, Change::Pause)
                .await
                .map(|()| Done::Paused),
            Request::Resume { version } => {
                self.troubles.clear();
                self.change(&version, Change::Resume)
                    .await
                    .map(|()| Done::Resumed)
            }
            Request::Decide {
                version,
                position,
                remedy,
            } => self.decide(&version, position, remedy).await,
            Request::Replay { version, until, to } => {
                let to = to
                    .map(|to| self.host.places.read_models_at(&to, self.host.log.log_id()))
                    .transpose()?;
                self.replay(&version, until, to.as_ref()).await
            }
        };
        match done {
            Ok(done) => Ok(Outcome::Done(done)),
            Err(LifecycleError::Refused { message, hint }) => {
                Ok(Outcome::Refused { message, hint })
            }
            Err(error) => Err(error),
        }
    }

    /// Carries out what other processes asked for, and answers them.
    pub async fn handle_requests(&mut self) -> Result<(), LifecycleError> {
        for record in self.host.catalog.open_requests(self.projection()).await? {
            let outcome = match serde_json::from_str::<Request>(&record.request) {
                Ok(request) => match self.handle(request).await {
                    Ok(outcome) => outcome,
                    // Not answered: whoever asked takes it over.
                    Err(error @ LifecycleError::Interrupted) => return Err(error),
                    Err(error) => Outcome::Failed {
                        message: crate::error_chain(&error),
                        hint: None,
                    },
                },
                Err(error) => Outcome::Failed {
                    message: format!("the host does not understand this request: {error}"),
                    hint: Some("restart `retell serve` with this version of retell".into()),
                },
            };
            let outcome = serde_json::to_string(&outcome).expect("an outcome has a JSON form");
            self.host
                .catalog
                .answer_request(record.id, &outcome)
                .await?;
        }
        Ok(())
    }

    /// Stops all workers; what they applied is flushed. The lease ends with this.
    pub async fn stop(mut self) {
        for worker in self.workers.values() {
            worker.tell_to_stop();
        }
        for (_, worker) in std::mem::take(&mut self.workers) {
            worker.stop().await;
        }
        self.lease.release().await;
    }

    fn in_scope(&self, version: &semver::Version) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Only(versions) => versions.contains(version),
        }
    }

    async fn look_after_current(
        &mut self,
        version: &VersionRecord,
        build: &Build,
    ) -> Result<(), LifecycleError> {
        if !version.status.runs() || !self.in_scope(&version.version) {
            if let Some(worker) = self.workers.remove(&build.id) {
                worker.stop().await;
            }
            return Ok(());
        }
        self.stop_with_other_rules(version, build).await;
        let Some(worker) = self.workers.get(&build.id) else {
            if version.status.state == State::Created {
                self.change(&version.version, Change::Start).await?;
            }
            return self.start(version, build).await;
        };
        worker.set_role(version.status.role);
        let progress = worker.progress();
        let met = self.troubles.get(&build.id).map_or(0, |it| it.position);
        if progress.end().is_none() && (progress.is_ready() || progress.position > met) {
            self.troubles.remove(&build.id);
            if build.trouble.is_some() {
                self.host.catalog.set_trouble(build.id, None).await?;
            }
        }
        if progress.is_ready() && version.status.state == State::Replaying {
            self.change(&version.version, Change::BecomeReady).await?;
            crash_point::reach(CrashPoint::StateChanged);
            self.follow_catalog().await;
        }
        match progress.end() {
            Some(End::Failed { reason }) => {
                self.workers.remove(&build.id);
                // A command says so itself when it ends with it.
                if !self.gives_up {
                    tracing::warn!("{} failed: {reason}", version.name());
                }
                // Who met it does not know the name.
                let reason = reason.replace("NAME@VERSION", &version.name());
                self.change(&version.version, Change::Fail { reason }).await
            }
            Some(End::Trouble { error }) => {
                self.workers.remove(&build.id);
                self.meet_trouble(version, build, error.clone(), progress.position)
                    .await
            }
            Some(End::Stopped) => {
                self.workers.remove(&build.id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A worker whose deployer changed the rules begins anew.
    async fn stop_with_other_rules(&mut self, version: &VersionRecord, build: &Build) {
        let is_other = |worker: &Worker| *worker.rules() != version.rules;
        if self.workers.get(&build.id).is_some_and(is_other)
            && let Some(worker) = self.workers.remove(&build.id)
        {
            worker.stop().await;
        }
    }

    async fn look_after_successor(
        &mut self,
        version: &VersionRecord,
        build: &Build,
    ) -> Result<(), LifecycleError> {
        // The build that it takes the place of may have failed; that is no reason not to go on.
        let is_halted =
            version.status.state == State::Retired || version.status.halt == Halt::Paused;
        if is_halted || !self.in_scope(&version.version) {
            if let Some(worker) = self.workers.remove(&build.id) {
                worker.stop().await;
            }
            return Ok(());
        }
        self.stop_with_other_rules(version, build).await;
        let Some(worker) = self.workers.get(&build.id) else {
            return self.start(version, build).await;
        };
        let progress = worker.progress();
        match progress.end() {
            Some(End::Failed { reason }) => {
                self.workers.remove(&build.id);
                tracing::warn!(
                    "the new build of {} failed and is given up: {reason}",
                    version.name()
                );
                self.give_up(build).await
            }
            Some(End::Trouble { error }) => {
                self.workers.remove(&build.id);
                self.meet_trouble(version, build, error.clone(), progress.position)
                    .await
            }
            Some(End::Stopped) => {
                self.workers.remove(&build.id);
                Ok(())
            }
            None if progress.is_ready() => self.swap_in(version, build).await,
            None => Ok(()),
        }
    }

    /// A server waits and tries again; a command ends with the fault.
    async fn meet_trouble(
        &mut self,
        version: &VersionRecord,
        build: &Build,
        source: Arc<crate::replay::ReplayError>,
        position: Position,
    ) -> Result<(), LifecycleError> {
        if self.gives_up {
            return Err(LifecycleError::Trouble {
                name: version.name(),
                source,
            });
        }
        let wait = self
            .troubles
            .get(&build.id)
            .map_or(BACKOFF_MIN, |it| it.wait * 2);
        let wait = wait.min(BACKOFF_MAX);
        let fault = crate::error_chain(&*source);
        tracing::warn!(
            "{} met a fault and goes on in {} ms: {fault}",
            version.name(),
            wait.as_millis(),
        );
        // For those who watch. A full disk may refuse this, too; then the log line has to do.
        if build.trouble.as_ref() != Some(&fault)
            && let Err(error) = self.host.catalog.set_trouble(build.id, Some(&fault)).await
        {
            tracing::info!("{}", crate::error_chain(&error));
        }
        self.troubles.insert(
            build.id,
            TroubledBuild {
                since: Stopwatch::start(),
                wait,
                position,
            },
        );
        Ok(())
    }

    async fn start(
        &mut self,
        version: &VersionRecord,
        build: &Build,
    ) -> Result<(), LifecycleError> {
        if self
            .troubles
            .get(&build.id)
            .is_some_and(|it| it.since.elapsed() < it.wait)
        {
            return Ok(());
        }
        self.start_with(version, build, None).await
    }

    /// Starts a worker, which begins with the order, if there is one.
    pub(super) async fn start_with(
        &mut self,
        version: &VersionRecord,
        build: &Build,
        order: Option<Order>,
    ) -> Result<(), LifecycleError> {
        let module = self.host.catalog.module(&version.digest).await?;
        let module = module.ok_or_else(|| LifecycleError::NoModule {
            digest: version.digest.clone(),
        })?;
        let is_current = version.current.as_ref().is_some_and(|it| it.id == build.id);
        let task = Task {
            build: build.clone(),
            place: self.host.places.of_build(build)?,
            module,
            epoch: self.epoch(),
            role: if is_current {
                version.status.role
            } else {
                Role::None
            },
            must_exist: is_current && version.status.state == State::Ready,
            rules: version.rules.clone(),
        };
        let worker = Worker::start(self.host.clone(), task, order);
        self.workers.insert(build.id, worker);
        Ok(())
    }

    /// Applies one change of status to the catalog.
    pub(super) async fn change(
        &self,
        version: &semver::Version,
        change: Change,
    ) -> Result<(), LifecycleError> {
        match self
            .host
            .catalog
            .change(self.projection(), version, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    async fn promote(
        &mut self,
        version: &semver::Version,
        accept_older: bool,
        accept_dead_letters: bool,
    ) -> Result<Done, LifecycleError> {
        self.check_dead_letters(version, accept_dead_letters)
            .await?;
        let accepted = Accepted {
            older: accept_older,
            dead_letters: accept_dead_letters,
        };
        self.switch(version, SwitchKind::Promote, accepted).await
    }

    /// Promotes a version whose deployer asked for it beforehand.
    async fn promote_as_planned(&mut self, version: &VersionRecord) -> Result<(), LifecycleError> {
        match self.promote(&version.version, false, false).await {
            Ok(_) => Ok(()),
            Err(LifecycleError::Refused { message, .. }) => {
                tracing::warn!("{} is not promoted: {message}", version.name());
                let catalog = &self.host.catalog;
                Ok(catalog
                    .set_promote_when_ready(self.projection(), &version.version, false)
                    .await?)
            }
            Err(error) => Err(error),
        }
    }

    /// One version, as the catalog has it now.
    pub(super) async fn record(
        &self,
        version: &semver::Version,
    ) -> Result<VersionRecord, LifecycleError> {
        let versions = self.host.catalog.versions(self.projection()).await?;
        versions
            .into_iter()
            .find(|it| it.version == *version)
            .ok_or_else(|| LifecycleError::Refused {
                message: format!("there is no {}@{version}", self.projection()),
                hint: format!("`retell status {}` lists its versions", self.projection()),
            })
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

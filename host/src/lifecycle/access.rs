//! How a command gets work done on a projection: it takes the lease and works, or, while another
//! process holds the lease, leaves a request there and watches. When that process ends, the command
//! takes over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::request::{Done, Outcome, Request};
use super::supervisor::{Scope, Supervisor};
use super::worker::{Phase, Progress};
use super::{Host, LifecycleError};
use crate::catalog::{Answer, Build, VersionRecord};
use crate::event::Position;
use crate::read_model::ReadModelError;
use crate::read_model::journal::JournalEntry;

/// How often a command looks at what another process does.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How often it looks after its own work; and at once when a version is ready or stops.
const LOOK_AFTER_INTERVAL: Duration = Duration::from_millis(100);

/// A projection as a command works on it or watches it.
#[derive(Debug)]
pub struct Access {
    host: Arc<Host>,
    projection: String,
    scope: Scope,
    here: Option<Supervisor>,
}

/// What a command sees each time it looks.
#[derive(Debug)]
pub struct View {
    pub versions: Vec<VersionRecord>,
    /// By build.
    pub progress: BTreeMap<i64, Progress>,
    pub head: Position,
    /// This process does the work.
    pub here: bool,
}

impl View {
    /// One version, if the catalog has it.
    pub fn version(&self, version: &semver::Version) -> Option<&VersionRecord> {
        self.versions.iter().find(|it| it.version == *version)
    }
}

impl Access {
    /// Nothing happens before it is used. `scope`: what to work on, if this process does the work.
    pub fn new(host: Arc<Host>, projection: &str, scope: Scope) -> Self {
        Self {
            host,
            projection: projection.to_owned(),
            scope,
            here: None,
        }
    }

    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Whether this process does the work (after the first use).
    pub fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Has a request carried out, here or by whoever holds the lease.
    pub async fn request(&mut self, request: Request) -> Result<Done, LifecycleError> {
        let mut left: Option<i64> = None;
        // How things were when it was first left to another process.
        let mut before: Option<Vec<VersionRecord>> = None;
        let outcome = loop {
            let is_here = self.take_lease().await?;
            if let Some(id) = left {
                let answered = self.host.catalog.outcome(id).await?;
                if is_here || answered != Answer::Open {
                    self.host.catalog.remove_request(id).await?;
                    left = None;
                    let answered = match answered {
                        Answer::Given(outcome) => Some(read_outcome(&outcome)),
                        Answer::Open | Answer::Gone => None,
                    };
                    match answered {
                        // Whom it was left to is gone, and may have come to it all the same: a
                        // promotion would be refused now, a rollback undone.
                        None | Some(Outcome::Lost) => {
                            let before = before.as_deref().unwrap_or_default();
                            if let Some(done) = self.carried_out(&request, before).await? {
                                break Outcome::Done(done);
                            }
                        }
                        Some(outcome) => break outcome,
                    }
                }
            }
            if let Some(supervisor) = &mut self.here {
                break supervisor.handle(request.clone()).await?;
            }
            if left.is_none() {
                if before.is_none() {
                    before = Some(self.host.catalog.versions(&self.projection).await?);
                }
                let text = serde_json::to_string(&request).expect("a request has a JSON form");
                let now = self.host.clock.now_us();
                let catalog = &self.host.catalog;
                left = Some(catalog.add_request(&self.projection, &text, now).await?);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        match outcome {
            Outcome::Done(done) => Ok(done),
            Outcome::Refused { message, hint } => Err(LifecycleError::Refused { message, hint }),
            Outcome::Failed { message, hint } => Err(LifecycleError::Elsewhere { message, hint }),
            Outcome::Lost => {
                unreachable!("asked again above, and never the answer of a supervisor")
            }
        }
    }

    /// What became of a request whose holder is gone, if it carried it out without answering.
    async fn carried_out(
        &self,
        request: &Request,
        before: &[VersionRecord],
    ) -> Result<Option<Done>, LifecycleError> {
        let now = self.host.catalog.versions(&self.projection).await?;
        let Some(mut done) = request.carried_out(before, &now) else {
            return Ok(None);
        };
        if let Done::Switched { to, position, .. } = &mut done
            && let Some(record) = now.iter().find(|it| it.version == *to)
            && let Some(build) = &record.current
        {
            let seen = self.host.observe(build, 0).await;
            *position = seen.map_or(0, |it| it.position);
        }
        Ok(Some(done))
    }

    /// Works or watches until `look` has seen what it waits for.
    pub async fn until<T>(
        &mut self,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T, LifecycleError> {
        loop {
            if self.take_lease().await?
                && let Some(supervisor) = &mut self.here
            {
                supervisor.tick().await?;
                supervisor.handle_requests().await?;
            }
            let view = self.view().await?;
            if let Some(seen) = look(&view) {
                return Ok(seen);
            }
            match &self.here {
                Some(supervisor) => {
                    let _ = tokio::time::timeout(LOOK_AFTER_INTERVAL, supervisor.settles()).await;
                }
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Stops the work, if it is done here; what was applied is flushed.
    pub async fn close(&mut self) {
        if let Some(supervisor) = self.here.take() {
            supervisor.stop().await;
        }
    }

    /// True if this process holds the lease now.
    async fn take_lease(&mut self) -> Result<bool, LifecycleError> {
        if self.here.is_some() {
            return Ok(true);
        }
        let Some(lease) = self.host.catalog.take_lease(&self.projection).await? else {
            return Ok(false);
        };
        let begun = Supervisor::begin(self.host.clone(), lease, self.scope.clone(), true).await?;
        self.here = Some(begun);
        Ok(true)
    }

    async fn view(&self) -> Result<View, LifecycleError> {
        let versions = self.host.catalog.versions(&self.projection).await?;
        let head = self.host.log.head().await?.position;
        let mut progress = BTreeMap::new();
        for build in versions
            .iter()
            .flat_map(|it| [&it.current, &it.successor])
            .flatten()
        {
            let known = self.here.as_ref().and_then(|it| it.progress(build.id));
            let seen = match known {
                Some(progress) => Some(progress),
                None => self.host.observe(build, head).await,
            };
            progress.extend(seen.map(|it| (build.id, it)));
        }
        Ok(View {
            versions,
            progress,
            head,
            here: self.here.is_some(),
        })
    }
}

impl Host {
    /// How far a build is, from its read model alone; none while there is no read model.
    pub async fn observe(&self, build: &Build, head: Position) -> Option<Progress> {
        self.try_observe(build, head).await.ok()
    }

    /// The same, or why nobody knows.
    pub async fn try_observe(
        &self,
        build: &Build,
        head: Position,
    ) -> Result<Progress, ReadModelError> {
        let place = self.places.of_build(build)?;
        let log_id = self.log.log_id().to_owned();
        let status = tokio::task::spawn_blocking(move || place.status_of(&log_id));
        let status = status.await.expect("reading a status does not panic")?;
        Ok(Progress {
            phase: if status.ready {
                Phase::Following
            } else {
                Phase::Replaying
            },
            position: status.checkpoint.position,
            applied: status.flushed,
            head,
            events_per_s: status.events_per_s,
            dead_letters: status.dead_letters,
        })
    }

    /// What was decided about events that a build could not apply, by position.
    pub async fn journal(&self, build: &Build) -> Result<Vec<JournalEntry>, ReadModelError> {
        let place = self.places.of_build(build)?;
        let journal = tokio::task::spawn_blocking(move || place.journal());
        journal.await.expect("reading a journal does not panic")
    }
}

fn read_outcome(text: &str) -> Outcome {
    serde_json::from_str(text).unwrap_or_else(|error| Outcome::Failed {
        message: format!("the host's answer can't be read: {error}"),
        hint: Some("restart `retell serve` with this version of retell".into()),
    })
}

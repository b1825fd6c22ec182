//! Events that a version could not apply, and what an operator decides about them.

use tokio::sync::oneshot;

use super::LifecycleError;
use super::request::Done;
use super::state::{Change, Halt};
use super::supervisor::Supervisor;
use super::switch::current;
use super::worker::{Decision, End, Order};
use crate::catalog::VersionRecord;
use crate::event::Position;
use crate::replay::Remedy;

impl Supervisor {
    /// Carries out a decision about a dead letter; a version that stands before the event goes on.
    pub(super) async fn decide(
        &mut self,
        version: &semver::Version,
        position: Position,
        remedy: Remedy,
    ) -> Result<Done, LifecycleError> {
        let record = self.record(version).await?;
        let name = record.name();
        let build = current(&record)?.clone();
        if record.status.halt == Halt::Paused {
            return Err(LifecycleError::Refused {
                message: format!("{name} is paused"),
                hint: format!("let it go on first: `retell resume {name}`"),
            });
        }
        // Its worker begins anew with the decision.
        if let Some(worker) = self.workers.remove(&build.id) {
            worker.stop().await;
        }
        let (answer, mut answered) = oneshot::channel();
        let order = Order {
            position,
            remedy,
            answer,
        };
        self.include(version);
        self.start_with(&record, &build, Some(order)).await?;
        let answer = tokio::select! {
            answer = &mut answered => answer,
            // What it has applied by then is kept.
            () = self.is_told_to_stop() => {
                if let Some(worker) = self.workers.get(&build.id) {
                    worker.tell_to_stop();
                }
                answered.await
            }
        };
        match answer {
            Ok(Decision::Refused(undecided)) => Err(LifecycleError::Refused {
                message: format!("{name}: {undecided}"),
                hint: format!("`retell dead-letters {name}` lists them"),
            }),
            Ok(Decision::Done {
                applied,
                failed,
                stopped,
            }) => {
                let stands = record.status.halt != Halt::None;
                match (&failed, stopped) {
                    (Some(reason), true) => {
                        let reason = reason.clone();
                        self.change(version, Change::Fail { reason }).await?;
                    }
                    _ if stands => self.change(version, Change::Resume).await?,
                    _ => {}
                }
                Ok(Done::Decided { applied, failed })
            }
            // The worker ended before it came to it.
            Err(_) => Err(self.why_it_ended(&record, build.id).await),
        }
    }

    async fn why_it_ended(&mut self, record: &VersionRecord, build: i64) -> LifecycleError {
        let name = record.name();
        let worker = self.workers.remove(&build);
        let ended = match worker {
            Some(worker) => worker.ended().await,
            None => None,
        };
        match ended {
            Some(End::Trouble { error }) => LifecycleError::Trouble {
                name,
                source: error,
            },
            Some(End::Failed { reason }) => LifecycleError::Refused {
                message: format!("{name} can't go on: {reason}"),
                hint: format!("`retell status {name}` shows where it stands"),
            },
            _ => LifecycleError::Interrupted,
        }
    }

    /// Refuses to make a version live from which events are missing, unless that was accepted.
    pub(super) async fn check_dead_letters(
        &self,
        version: &semver::Version,
        accept: bool,
    ) -> Result<(), LifecycleError> {
        let record = self.record(version).await?;
        let may_go_live = Change::GoLive { even_halted: true };
        let may_go_live = !accept && record.status.after(&may_go_live).is_ok();
        let Some(build) = record.current.as_ref().filter(|_| may_go_live) else {
            return Ok(());
        };
        // What can't be seen is for the switch itself to judge.
        let missing = match self.host.observe(build, 0).await {
            Some(seen) => seen.dead_letters,
            None => 0,
        };
        if missing == 0 {
            return Ok(());
        }
        let events = if missing == 1 { "event" } else { "events" };
        let name = record.name();
        Err(LifecycleError::Refused {
            message: format!("{name} misses {missing} {events} that it could not apply"),
            hint: format!(
                "see them with `retell dead-letters {name}`, or take it as it is with \
                 --accept-dead-letters"
            ),
        })
    }
}

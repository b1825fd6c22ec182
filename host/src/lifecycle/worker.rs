//! A worker: the thread that fills one build. It replays, makes the read model ready, follows the
//! log, and obeys three orders: stop, stand still (the fence), go on. It decides nothing about
//! versions; the supervisor reads its progress and acts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Host, LifecycleError, Verify};
use crate::catalog::{Build, ModuleRecord, Rules};
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;
use crate::read_model::{Provenance, ReadModel, ReadModelError, ReadModelPlace, Role};
use crate::replay::{Remedy, Replay, ReplayError, Undecided};
use crate::wasm::Module;

/// How long an idle worker waits before it looks at its orders again.
const IDLE_WAIT: Duration = Duration::from_millis(10);

/// What a worker is doing.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Compiling the module, opening the read model.
    Opening,
    Replaying,
    /// Folding once more with other cuts, which its deployer made a condition.
    Verifying {
        what: String,
        position: Position,
    },
    /// Building indexes, running the module's SQL.
    Indexing,
    /// Ready, at the head or close to it.
    Following,
    /// Ready, and standing still until it is told to go on. The number is the order's: by it a fence
    /// is told from the one before, which the worker may have left already.
    Fenced(u64),
    Ended(End),
}

impl Phase {
    /// The same to those who wait for a phase.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fenced(one), Self::Fenced(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The module or the log's history is to blame: trying again would change nothing.
    Failed { reason: String },
    /// A fault of the host's: it may pass.
    Trouble { error: Arc<ReplayError> },
}

/// How far a worker is.
#[derive(Debug, Clone)]
pub struct Progress {
    pub phase: Phase,
    /// Everything up to here is in the read model.
    pub position: Position,
    /// Everything up to here is applied, if not yet flushed.
    pub applied: Position,
    pub head: Position,
    pub events_per_s: f64,
    /// Events that are missing from the read model: waiting, skipped or parked.
    pub dead_letters: u64,
}

impl Progress {
    /// Replayed and prepared, whatever it does now.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Following | Phase::Fenced(_))
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Orders {
    stop: AtomicBool,
    /// Number of the order to stand still; 0: go on.
    fence: AtomicU64,
    /// What the read model shall say of its role.
    role: Mutex<Role>,
}

/// A handle on the thread. Dropping it tells the thread to stop, and waits.
#[derive(Debug)]
pub(super) struct Worker {
    orders: Arc<Orders>,
    /// How often it was told to stand still.
    fences: u64,
    progress: watch::Receiver<Progress>,
    rules: Rules,
    thread: Option<JoinHandle<()>>,
}

/// What a worker needs to know of its build.
pub(super) struct Task {
    pub(super) build: Build,
    pub(super) place: ReadModelPlace,
    pub(super) module: ModuleRecord,
    pub(super) epoch: u64,
    pub(super) role: Role,
    /// The catalog says that the read model is complete, so it must be there.
    pub(super) must_exist: bool,
    pub(super) rules: Rules,
}

/// What an operator decided about a dead letter.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) position: Position,
    pub(super) remedy: Remedy,
    pub(super) answer: oneshot::Sender<Decision>,
}

/// What came of an order.
#[derive(Debug)]
pub(super) enum Decision {
    Refused(Undecided),
    Done {
        /// Events that were applied.
        applied: u64,
        /// Why one of them failed again.
        failed: Option<String>,
        /// The build stands before that one.
        stopped: bool,
    },
}

impl Worker {
    /// Begins with the order, if there is one.
    pub(super) fn start(host: Arc<Host>, task: Task, order: Option<Order>) -> Self {
        let orders = Arc::new(Orders {
            stop: AtomicBool::new(false),
            fence: AtomicU64::new(0),
            role: Mutex::new(task.role),
        });
        let first = Progress {
            phase: Phase::Opening,
            position: 0,
            applied: 0,
            head: 0,
            events_per_s: 0.0,
            dead_letters: 0,
        };
        let (report, progress) = watch::channel(first);
        let unstarted = report.clone();
        let runtime = tokio::runtime::Handle::current();
        let name = format!("{}@{}", task.build.projection, task.build.version);
        let obeyed = orders.clone();
        let rules = task.rules.clone();
        let run = move || {
            let filled = catch_unwind(AssertUnwindSafe(|| {
                fill(&host, &runtime, &task, order, &obeyed, &report)
            }));
            let end = match filled {
                Ok(Ok(end)) => end,
                Ok(Err(error)) => judge(error),
                Err(_) => End::Failed {
                    reason: "the host panicked (a defect of retell)".into(),
                },
            };
            report.send_modify(|it| it.phase = Phase::Ended(end));
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread = thread.map_err(|source| {
            let end = judge(ReplayError::Thread { source });
            unstarted.send_modify(|it| it.phase = Phase::Ended(end));
        });
        Self {
            orders,
            fences: 0,
            progress,
            rules,
            thread: thread.ok(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Ends when it becomes ready, or ends. None: it is, or has.
    pub(super) fn settles(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let is_settled = |it: &Progress| it.is_ready() || it.end().is_some();
        let mut progress = self.progress.clone();
        if is_settled(&progress.borrow()) {
            return None;
        }
        Some(async move {
            let _ = progress.wait_for(is_settled).await;
        })
    }

    /// How its deployer wanted it run when it began.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How it ends, once it does; none where it was told to.
    pub(super) async fn ended(mut self) -> Option<End> {
        let ended = self.progress.wait_for(|it| it.end().is_some()).await.ok()?;
        ended.end().cloned()
    }

    /// Stands still after some position and returns it, or none when the worker ended instead.
    pub(super) async fn fence(&mut self) -> Option<Position> {
        self.fences += 1;
        let order = self.fences;
        self.orders.fence.store(order, Ordering::Release);
        let stands = |phase: &Phase| matches!(phase, Phase::Fenced(at) if *at == order);
        let settled = self
            .progress
            .wait_for(|it| stands(&it.phase) || it.end().is_some())
            .await
            .ok()?;
        stands(&settled.phase).then_some(settled.position)
    }

    /// Goes on after a fence.
    pub(super) fn unfence(&self) {
        self.orders.fence.store(0, Ordering::Release);
    }

    /// What the read model shall tell its readers of its role.
    pub(super) fn set_role(&self, role: Role) {
        *self
            .orders
            .role
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = role;
    }

    /// Tells the thread to stop; what it applied is flushed first.
    pub(super) fn tell_to_stop(&self) {
        self.orders.stop.store(true, Ordering::Release);
    }

    /// Tells the thread to stop, and waits until it has.
    pub(super) async fn stop(mut self) {
        self.tell_to_stop();
        let _ = self.progress.wait_for(|it| it.end().is_some()).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Which faults pass, and which do not.
fn judge(error: ReplayError) -> End {
    match &error {
        ReplayError::Module(blame) => End::Failed {
            reason: blame.to_string(),
        },
        ReplayError::LogChanged { .. } => End::Failed {
            reason: format!(
                "{}; build it anew from the log as it is now with `retell replay NAME@VERSION`",
                crate::error_chain(&error)
            ),
        },
        ReplayError::Load { .. } => End::Failed {
            reason: crate::error_chain(&error),
        },
        _ => match lost_read_model(&error) {
            Some(lost) => {
                let hint = lost.hint().unwrap_or_default();
                End::Failed {
                    reason: format!("{}; {hint}", crate::error_chain(lost)),
                }
            }
            None => End::Trouble {
                error: Arc::new(error),
            },
        },
    }
}

/// What is wrong with a read model of which nothing can be made any more, wherever that was met.
fn lost_read_model(error: &ReplayError) -> Option<&ReadModelError> {
    let met = match error {
        ReplayError::ReadModel(met) => Some(met),
        ReplayError::Rows { source } => source.downcast_ref(),
        _ => None,
    };
    met.filter(|it| it.needs_a_new_build())
}

/// A module that is no good stays so; a catalog that can't be read will be.
fn not_loaded(error: LifecycleError) -> ReplayError {
    let its_own = matches!(
        error,
        LifecycleError::Module { .. } | LifecycleError::NoModule { .. }
    );
    let source = Box::new(error);
    if its_own {
        ReplayError::Load { source }
    } else {
        ReplayError::Fetch { source }
    }
}

/// The thread's whole life.
fn fill(
    host: &Arc<Host>,
    runtime: &tokio::runtime::Handle,
    task: &Task,
    order: Option<Order>,
    orders: &Arc<Orders>,
    report: &watch::Sender<Progress>,
) -> Result<End, ReplayError> {
    let module = runtime
        .block_on(host.load_module(&task.module.digest, &task.rules))
        .map_err(not_loaded)?;
    let model = open_model(host, task, &module)?;
    let mut replay = Replay::open(
        host.feed.clone(),
        runtime.clone(),
        &module,
        model,
        host.settings_of(&task.rules),
    )?;
    if replay.flushed() == 0 {
        crash_point::reach(CrashPoint::ReadModelMade);
    }
    if let Some(order) = order
        && !obey(&mut replay, order, &orders.stop)?
    {
        replay.close()?;
        return Ok(End::Stopped);
    }
    let mut watch = host.log.watch()?;
    let mut head = watch.wait(0, Duration::ZERO)?;
    let until = task.build.until.unwrap_or(Position::MAX);
    let tell = |replay: &Replay, head: Position, phase: Phase| {
        report.send_if_modified(|it| {
            // Positions are looked up by those who want them: waking somebody for each costs more.
            let is_news = !it.phase.is_like(&phase);
            *it = Progress {
                phase,
                position: replay.flushed(),
                applied: replay.applied(),
                head,
                events_per_s: replay.events_per_s(),
                dead_letters: replay.dead_letters(),
            };
            is_news
        });
    };
    if !replay.is_ready() {
        tell(&replay, head, Phase::Replaying);
    }
    let mut role = None;
    loop {
        // Before the role: a version that was displaced says so before it gets any further, so that
        // a program can tell that what it opened as the live one is not that any more.
        let fence = orders.fence.load(Ordering::Acquire);
        let wanted = *orders.role.lock().unwrap_or_else(PoisonError::into_inner);
        if role != Some(wanted) {
            replay.set_role(wanted)?;
            role = Some(wanted);
        }
        if orders.stop.load(Ordering::Acquire) {
            replay.flush()?;
            replay.close()?;
            return Ok(End::Stopped);
        }
        if fence != 0 && replay.is_ready() {
            if replay.flushed() < replay.applied() {
                replay.flush()?;
            }
            tell(&replay, head, Phase::Fenced(fence));
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let target = head.min(until);
        if replay.applied() < target {
            Host::check_free_disk(&task.place, replay.is_ready())?;
            replay = advance(replay, target)?;
            if replay.applied() >= target && replay.is_ready() {
                replay.flush()?;
            }
            let phase = if replay.is_ready() {
                Phase::Following
            } else {
                Phase::Replaying
            };
            tell(&replay, head, phase);
            head = watch.wait(head, Duration::ZERO)?;
            continue;
        }
        if !replay.is_ready() {
            if task.rules.verify {
                replay.flush()?;
                match verify(host, runtime, task, &module, orders, report)? {
                    Verified::Yes => {}
                    Verified::Interrupted => continue,
                    Verified::No { reason } => {
                        replay.close()?;
                        return Ok(End::Failed { reason });
                    }
                }
            }
            tell(&replay, head, Phase::Indexing);
            replay.make_ready()?;
        }
        tell(&replay, head, Phase::Following);
        head = if replay.applied() >= until {
            std::thread::sleep(IDLE_WAIT);
            head
        } else {
            watch.wait(head, IDLE_WAIT)?
        };
    }
}

/// Applies the next batch. Where the log fails, what was flushed and waits to be committed is kept: it need
/// not be folded again.
fn advance(mut replay: Replay, target: Position) -> Result<Replay, ReplayError> {
    match replay.advance(target) {
        Ok(()) => Ok(replay),
        Err(error) => {
            if matches!(error, ReplayError::Log(_)) {
                let _ = replay.close();
            }
            Err(error)
        }
    }
}

/// What came of verifying a build before it is ready.
enum Verified {
    Yes,
    No {
        reason: String,
    },
    /// There is an order to stop.
    Interrupted,
}

/// Folds the log once more with other cuts, and compares.
fn verify(
    host: &Arc<Host>,
    runtime: &tokio::runtime::Handle,
    task: &Task,
    module: &Module,
    orders: &Arc<Orders>,
    report: &watch::Sender<Progress>,
) -> Result<Verified, ReplayError> {
    let (told, obeyed) = (report.clone(), orders.clone());
    let verify = Verify {
        host: host.clone(),
        module: module.clone(),
        place: task.place.clone(),
        provenance: provenance(host, task),
        rules: task.rules.clone(),
        seed: u64::from(rand::random::<u32>()),
        progress: Box::new(move |what, position, _| {
            let what = what.to_owned();
            told.send_modify(|it| it.phase = Phase::Verifying { what, position });
            !obeyed.stop.load(Ordering::Acquire)
        }),
    };
    let verified = match verify.run(runtime) {
        Ok(verified) => verified,
        Err(LifecycleError::Interrupted) => return Ok(Verified::Interrupted),
        Err(error) => {
            let source = Box::new(error);
            return Err(ReplayError::Verify { source });
        }
    };
    let name = format!("{}@{}", task.build.projection, task.build.version);
    Ok(match verified.complaint(&name) {
        None => Verified::Yes,
        Some((message, hint)) => Verified::No {
            reason: format!("{message}\n    {hint}"),
        },
    })
}

/// Carries out an order and answers it. True if the build goes on.
fn obey(replay: &mut Replay, order: Order, stop: &AtomicBool) -> Result<bool, ReplayError> {
    let Order {
        position,
        remedy,
        answer,
    } = order;
    let (decision, goes_on) =
        match replay.decide(position, remedy, &|| stop.load(Ordering::Acquire))? {
            Ok(decided) => {
                let failed = decided.failed.as_ref().map(ToString::to_string);
                let (applied, stopped) = (decided.applied, decided.stopped);
                let done = Decision::Done {
                    applied,
                    failed,
                    stopped,
                };
                (done, !stopped)
            }
            Err(undecided) => (Decision::Refused(undecided), false),
        };
    // Whoever asked may be gone.
    let _ = answer.send(decision);
    Ok(goes_on)
}

/// Opens the build's read model, or makes it.
fn open_model(
    host: &Host,
    task: &Task,
    module: &Module,
) -> Result<Box<dyn ReadModel>, ReadModelError> {
    let provenance = provenance(host, task);
    let (place, manifest) = (&task.place, module.manifest());
    let opened = if task.must_exist || place.exists()? {
        place.open(manifest, &provenance, task.epoch)
    } else {
        place.create(manifest, &provenance, task.epoch)
    };
    match opened {
        // Never ready, so nobody reads it; the log has everything to begin again.
        Err(lost @ (ReadModelError::Unsynced { .. } | ReadModelError::Malformed { .. }))
            if !task.must_exist =>
        {
            tracing::warn!("{}; replaying it anew", crate::error_chain(&lost));
            place.drop_read_model(host.log.log_id())?;
            place.create(manifest, &provenance, task.epoch)
        }
        opened => opened,
    }
}

/// What the read model says of where it comes from.
fn provenance(host: &Host, task: &Task) -> Provenance {
    Provenance {
        projection: task.build.projection.clone(),
        version: task.build.version.clone(),
        build: task.build.id,
        module_digest: task.module.digest.clone(),
        sdk: task.module.sdk.clone(),
        contract: task.module.contract.clone(),
        log_id: host.log.log_id().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogError;

    #[test]
    fn damage_that_is_met_while_the_module_runs_does_not_pass() {
        let rows = |error| ReplayError::Rows {
            source: Box::new(error),
        };
        let model = || std::path::Path::new("m.db").into();
        let damaged = ReadModelError::Malformed {
            model: model(),
            message: "a page is torn".to_owned(),
        };
        assert!(matches!(judge(rows(damaged)), End::Failed { .. }));
        let locked = ReadModelError::Locked { model: model() };
        assert!(matches!(judge(rows(locked)), End::Trouble { .. }));
    }

    #[test]
    fn a_catalog_that_is_away_is_waited_for_and_a_module_that_is_gone_is_not() {
        let away = LifecycleError::Catalog(CatalogError::Storage {
            what: "read a module",
            source: sqlx::Error::PoolTimedOut,
        });
        assert!(matches!(judge(not_loaded(away)), End::Trouble { .. }));
        let gone = LifecycleError::NoModule {
            digest: "0".repeat(64),
        };
        assert!(matches!(judge(not_loaded(gone)), End::Failed { .. }));
    }
}

//! `retell serve`: the host. It keeps every version of every projection up to date, and does the
//! work that other commands ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Context;
use super::session;
use crate::clock::Stopwatch;
use crate::lifecycle::{Host, LifecycleError, Scope, Supervisor};
use crate::log::{Drained, EventLog};

/// How often a host looks after each projection. Following the log does not wait for this.
const TICK_INTERVAL: Duration = Duration::from_millis(25);
/// How often it looks for projections that nobody works on.
const LEASE_INTERVAL: Duration = Duration::from_millis(100);
/// After a fault it looks again after this long, doubled each time …
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Run the host: keep all versions up to date until SIGINT or SIGTERM
///
/// Other commands hand their work to it: `retell deploy` and `retell promote` then only watch.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell --data /var/lib/retell serve")]
pub(crate) struct Args {
    /// Where the HTTP API shall listen; there is none in this version
    #[arg(long, value_name = "ADDR", hide = true)]
    listen: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let host = session::open_host(context, session::writing_mode(context)).await?;
    let head = host.log.head().await?.position;
    context.printer.say(format_args!(
        "serving {} at position {head}; stop with Ctrl-C",
        context.config.log
    ));
    if let Some(address) = args.listen {
        context.printer.say(format_args!(
            "there is no HTTP API yet: nothing listens on {address}"
        ));
    }
    let (stop, stopped) = watch::channel(false);
    let mut tasks = BTreeMap::new();
    let draining = tokio::spawn(keep_inbox_empty(host.log.clone()));
    let ended = super::interruptible(find_projections(&host, &mut tasks, &stopped)).await;
    draining.abort();
    stop.send_replace(true);
    let mut clean = Ok(());
    for (projection, task) in tasks {
        let done = task.await;
        clean = clean.and(done.with_context(|| format!("the work on {projection} broke off")));
    }
    clean?;
    context
        .printer
        .say("stopped; everything applied is in the read models");
    match ended {
        Err(error) if error.is::<super::printer::Interrupted>() => Ok(()),
        ended => ended,
    }
}

/// Moves what comes into the log's inbox into the log. Never ends.
async fn keep_inbox_empty(log: Arc<dyn EventLog>) {
    loop {
        match log.drain_inbox().await {
            Ok(Drained { rejected: 0, .. }) => {}
            Ok(Drained { rejected, .. }) => tracing::warn!(
                "{rejected} rows of retell.inbox could not be events: see retell.inbox_rejected"
            ),
            Err(error) => tracing::warn!("{}", crate::error_chain(&error)),
        }
        log.inbox_filled().await;
    }
}

/// Gives each projection a task of its own, so that none waits for another. Never ends.
async fn find_projections(
    host: &Arc<Host>,
    tasks: &mut BTreeMap<String, JoinHandle<()>>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        match host.catalog.projections().await {
            Ok(projections) => {
                for projection in projections {
                    let task = tasks.get(&projection);
                    if task.is_some_and(|it| !it.is_finished()) {
                        continue;
                    }
                    if task.is_some() {
                        tracing::warn!("the work on {projection} broke off; it begins again");
                    }
                    let serve = serve_projection(host.clone(), projection.clone(), stopped.clone());
                    tasks.insert(projection, tokio::spawn(serve));
                }
            }
            Err(error) => tracing::warn!("{}", crate::error_chain(&error)),
        }
        tokio::time::sleep(LEASE_INTERVAL).await;
    }
}

/// Works on one projection whenever nobody else does, until told to stop.
async fn serve_projection(host: Arc<Host>, projection: String, mut stopped: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    while !*stopped.borrow() {
        let wait = match take_lease(&host, &projection).await {
            Ok(Some(supervisor)) => {
                tracing::info!("working on {projection}");
                look_after(supervisor, &stopped).await;
                LEASE_INTERVAL
            }
            // Another process works on it.
            Ok(None) => LEASE_INTERVAL,
            Err(error) => backoff.after(&projection, &error),
        };
        let _ = tokio::time::timeout(wait, stopped.wait_for(|stop| *stop)).await;
    }
}

async fn take_lease(
    host: &Arc<Host>,
    projection: &str,
) -> Result<Option<Supervisor>, LifecycleError> {
    let Some(lease) = host.catalog.take_lease(projection).await? else {
        return Ok(None);
    };
    Ok(Some(
        Supervisor::begin(host.clone(), lease, Scope::All, false).await?,
    ))
}

/// Keeps a supervisor going until told to stop, or until its lease is lost. A fault passes or is
/// seen to again later; requests are answered meanwhile.
async fn look_after(mut supervisor: Supervisor, stopped: &watch::Receiver<bool>) {
    supervisor.heed(stopped.clone());
    let (mut work, mut requests) = (Turns::default(), Turns::default());
    while !*stopped.borrow() {
        if work.is_due() {
            match supervisor.tick().await {
                Err(LifecycleError::Interrupted) => break,
                Err(error @ LifecycleError::LeaseLost { .. }) => {
                    tracing::warn!("{error}; it is taken again as soon as nobody has it");
                    break;
                }
                done => work.note(supervisor.projection(), &done),
            }
        }
        if requests.is_due() {
            let done = supervisor.handle_requests().await;
            if let Err(LifecycleError::Interrupted) = done {
                break;
            }
            if done.is_ok() && requests.is_resting() {
                // The database is back: what waits for it need not wait any longer.
                work = Turns::default();
            }
            requests.note(supervisor.projection(), &done);
        }
        tokio::time::sleep(TICK_INTERVAL).await;
    }
    supervisor.stop().await;
}

/// When something is to be done again: each time, unless it fails.
#[derive(Debug)]
struct Turns {
    backoff: Backoff,
    rested: Stopwatch,
    rest: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            rested: Stopwatch::start(),
            rest: Duration::ZERO,
        }
    }
}

impl Turns {
    fn is_due(&self) -> bool {
        self.rested.elapsed() >= self.rest
    }

    /// Whether it failed the last time.
    fn is_resting(&self) -> bool {
        !self.rest.is_zero()
    }

    fn note(&mut self, projection: &str, done: &Result<(), LifecycleError>) {
        self.rested = Stopwatch::start();
        self.rest = match done {
            Ok(()) => self.backoff.over(),
            Err(error) => self.backoff.after(projection, error),
        };
    }
}

/// How long to wait after a fault: longer each time.
#[derive(Debug, Default)]
struct Backoff {
    last: Duration,
}

impl Backoff {
    fn after(&mut self, projection: &str, error: &LifecycleError) -> Duration {
        self.last = (self.last * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        tracing::warn!(
            "{projection}: {}; tried again in {} ms",
            crate::error_chain(error),
            self.last.as_millis()
        );
        self.last
    }

    fn over(&mut self) -> Duration {
        self.last = Duration::ZERO;
        Duration::ZERO
    }
}

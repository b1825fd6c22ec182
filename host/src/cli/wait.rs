//! `retell wait`: read your own writes.

use std::time::Duration;

use serde::Serialize;

use super::Context;
use super::printer::TimedOut;
use super::session::{self, parse_name};
use crate::catalog::VersionRecord;
use crate::clock::Stopwatch;
use crate::event::Position;
use crate::lifecycle::state::Halt;
use crate::lifecycle::{Host, names};
use crate::log::OpenMode;
use crate::read_model::journal::Decision;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Wait until a read model has everything up to a position
///
/// `retell append` prints the position of what it appended; once this returns, a query sees it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  retell wait articles --position 1042 --timeout-ms 2000\n\n\
    With --json: {\"projection\",\"version\",\"position\",\"missing\"}\nExit code 4: not in time"
)]
pub(crate) struct Args {
    /// The projection (its live version), or a version of it
    name: String,
    /// The position that the read model must have reached
    #[arg(long)]
    position: Position,
    /// Give up after this long, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    timeout_ms: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    projection: String,
    version: String,
    position: Position,
    /// `skipped` or `parked` where the event asked for is missing from the read model.
    missing: Option<&'static str>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    let host = session::open_host(context, OpenMode::Existing).await?;
    let watch = Stopwatch::start();
    loop {
        // Looked up each time: the live version may be switched meanwhile.
        let version = names::resolve(&*host.catalog, &name)
            .await
            .map_err(session::unresolved)?;
        let seen = match &version.current {
            Some(build) => host.observe(build, args.position).await,
            None => None,
        };
        let position = seen.as_ref().map_or(0, |it| it.position);
        if position >= args.position {
            let missing = match seen {
                Some(seen) if seen.dead_letters > 0 => {
                    missing(&host, &version, args.position).await?
                }
                _ => None,
            };
            if let Some(decision) = missing {
                context.printer.say(format_args!(
                    "note: {} could not apply event {}, which is {decision}",
                    version.name(),
                    args.position
                ));
            }
            if context.printer.json {
                let (projection, version) = (version.projection, version.version.to_string());
                return context.printer.json(&Report {
                    projection,
                    version,
                    position,
                    missing,
                });
            }
            return Ok(());
        }
        if watch.elapsed() >= Duration::from_millis(args.timeout_ms) {
            let name = version.name();
            let (halted, hint) = match version.status.halt {
                Halt::None => (
                    "",
                    "is a host running? `retell serve` keeps versions up to date".into(),
                ),
                Halt::Paused => (
                    ", and it is paused",
                    format!("let it go on: `retell resume {name}`"),
                ),
                Halt::Failed { .. } => (
                    ", and it failed",
                    format!("see why: `retell status {name}`"),
                ),
            };
            return Err(TimedOut {
                message: format!(
                    "{} is at position {position}, not at {} after {} ms{halted}",
                    name, args.position, args.timeout_ms
                ),
                hint: Some(hint),
            }
            .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What was decided about the event itself, if it is missing from the read model.
async fn missing(
    host: &Host,
    version: &VersionRecord,
    position: Position,
) -> anyhow::Result<Option<&'static str>> {
    let Some(build) = &version.current else {
        return Ok(None);
    };
    let journal = host
        .journal(build)
        .await
        .map_err(session::explain_read_model)?;
    let entry = journal.iter().find(|it| it.position == position);
    let decision = entry.map(|it| it.decision).filter(|it| it.is_open());
    Ok(decision.map(Decision::word))
}

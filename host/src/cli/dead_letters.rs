//! `retell dead-letters`: events that a version could not apply, and what becomes of them.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::Context;
use super::printer::{Failed, Refused, on_one_line};
use super::session::{self, explain, one_version, parse_name};
use crate::catalog::VersionRecord;
use crate::event::Position;
use crate::lifecycle::state::State;
use crate::lifecycle::{self, Done, Host, Request, Scope};
use crate::log::OpenMode;
use crate::read_model::journal::JournalEntry;
use crate::replay::Remedy;

/// Show the events that a version could not apply, or decide about one of them
///
/// `retry` applies the event now, after everything that was applied already, and then what is parked
/// behind it in its stream. `skip` leaves it out for good, and applies what is parked behind it. A
/// version that stands before the event goes on with either. A new replay decides anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    retell dead-letters articles@2.0.0\n  \
    retell dead-letters articles@2.0.0 skip 1042\n\n\
    With --json a list of {\"position\",\"stream\",\"type\",\"decision\",\"retried_after\",\"reason\",\
    \"backtrace\",\"excerpt\"}; retry and skip give {\"projection\",\"version\",\"position\",\"applied\",\
    \"failed\"}")]
pub(crate) struct Args {
    /// The version, as in articles@2.0.0
    name: String,
    /// What to do about one of them
    #[arg(requires = "position")]
    remedy: Option<RemedyArg>,
    /// The position of that event
    position: Option<Position>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RemedyArg {
    Retry,
    Skip,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    position: Position,
    stream: &'a str,
    r#type: &'a str,
    /// `waiting`, `skipped`, `parked` or `retried`
    decision: &'static str,
    retried_after: Option<Position>,
    /// None for an event that only stands behind another of its stream.
    reason: Option<&'a str>,
    backtrace: &'a [String],
    excerpt: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Report {
    projection: String,
    version: String,
    position: Position,
    /// Events that were applied.
    applied: u64,
    /// Why one of them failed again, if one did.
    failed: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    let host = session::open_host(context, OpenMode::Existing).await?;
    let version = one_version(&*host.catalog, &name).await?;
    match (args.remedy, args.position) {
        (Some(remedy), Some(position)) => {
            let remedy = match remedy {
                RemedyArg::Retry => Remedy::Retry,
                RemedyArg::Skip => Remedy::Skip,
            };
            decide(host, &version, position, remedy, context).await
        }
        _ => list(&host, &version, context).await,
    }
}

async fn list(host: &Host, version: &VersionRecord, context: &Context) -> anyhow::Result<()> {
    let entries = match &version.current {
        Some(build) => host
            .journal(build)
            .await
            .map_err(session::explain_read_model)?,
        None => {
            let name = version.name();
            return Err(Refused {
                message: format!("{name} has no read model"),
                hint: Some(format!("build it again: `retell replay {name}`")),
            }
            .into());
        }
    };
    if context.printer.json {
        let lines: Vec<Line<'_>> = entries.iter().map(line).collect();
        return context.printer.json(&lines);
    }
    if entries.is_empty() {
        let name = version.name();
        context
            .printer
            .say(format_args!("{name} applied every event so far"));
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["position", "decision", "type", "stream", "reason"]);
    for entry in &entries {
        let dead = entry.dead_letter.as_ref();
        let reason = dead.map_or("behind another of its stream", |it| {
            it.reason.lines().next().unwrap_or_default()
        });
        table.add_row([
            &entry.position.to_string(),
            &entry.decision.to_string(),
            &on_one_line(&entry.event_type),
            &on_one_line(&entry.stream),
            &on_one_line(reason),
        ]);
    }
    context.printer.data(table)?;
    context.printer.say(format_args!(
        "with --json: payloads and backtraces, too; decide with `retell dead-letters {} retry|skip \
         POSITION`",
        version.name()
    ));
    Ok(())
}

fn line(entry: &JournalEntry) -> Line<'_> {
    let dead = entry.dead_letter.as_ref();
    Line {
        position: entry.position,
        stream: &entry.stream,
        r#type: &entry.event_type,
        decision: entry.decision.word(),
        retried_after: entry.decision.retried_after(),
        reason: dead.map(|it| it.reason.as_str()),
        backtrace: dead.map_or(&[], |it| &it.backtrace),
        excerpt: dead.map(|it| it.excerpt.as_str()),
    }
}

async fn decide(
    host: std::sync::Arc<Host>,
    version: &VersionRecord,
    position: Position,
    remedy: Remedy,
    context: &Context,
) -> anyhow::Result<()> {
    let request = Request::Decide {
        version: version.version.clone(),
        position,
        remedy,
    };
    let mut access = lifecycle::Access::new(host, &version.projection, Scope::Only(Vec::new()));
    let done = access.request(request).await;
    let works_here = access.is_here();
    access.close().await;
    let (applied, failed) = match done.map_err(explain)? {
        Done::Decided { applied, failed } => (applied, failed),
        other => anyhow::bail!("a decision ended as {other:?} (a defect of retell)"),
    };
    let name = version.name();
    if context.printer.json {
        context.printer.json(&Report {
            projection: version.projection.clone(),
            version: version.version.to_string(),
            position,
            applied,
            failed: failed.clone(),
        })?;
    } else {
        let done = match (remedy, applied) {
            (Remedy::Skip, 0) => format!("event {position} is left out"),
            (Remedy::Skip, applied) => {
                format!("event {position} is left out; {applied} behind it are applied")
            }
            (Remedy::Retry, applied) => format!("{applied} events are applied"),
        };
        if failed.is_none() || applied > 0 || remedy == Remedy::Skip {
            context.printer.say(format_args!("{name}: {done}"));
            if works_here && version.status.state != State::Ready {
                let printer = context.printer;
                printer.say(format_args!("go on with it: `retell catch-up {name}`"));
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(reason) => Err(Failed {
            message: format!("{name} still can't apply it: {reason}"),
            hint: Some(format!(
                "leave it out with `retell dead-letters {name} skip POSITION`, or correct the \
                 projection and deploy a new version"
            )),
        }
        .into()),
    }
}

//! `retell check`: whether the log is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Context;
use super::events::hex;
use super::printer::Failed;
use super::progress::thousands;
use super::session;
use crate::config::LogPlace;
use crate::event::Position;
use crate::log::sqlite::SqliteLog;
use crate::log::{ChainFault, ChainProgress, LogError, OpenMode};

/// Check that the log is whole: walk along its hash chain, event by event
///
/// Every event's hash covers the event and the hash before it, so an event that was changed, removed
/// or damaged shows, and so does a log that was put together from two. Read models are listed that no
/// version uses, as a log leaves behind that is restored to an earlier day. It reads the whole log and
/// changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell check\n\n\
    With --json: {\"whole_up_to\",\"hash\",\"fault\",\"orphans\"}; exit code 1 where there is a fault")]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    /// Everything up to here is whole.
    whole_up_to: Position,
    /// Of the log up to there, hexadecimal.
    hash: String,
    /// The first thing that does not fit.
    fault: Option<String>,
    /// Where read models are that no version uses.
    orphans: Vec<String>,
}

pub(crate) async fn run(_args: Args, context: &Context) -> anyhow::Result<()> {
    let log = match session::open_log(context, OpenMode::Existing).await {
        Ok(opened) => Ok(opened.log),
        Err(error) => match (&context.config.log, error.downcast_ref::<LogError>()) {
            (LogPlace::File(path), Some(LogError::Corrupt { .. })) => Err(path.clone()),
            _ => return Err(error),
        },
    };
    // The end of a damaged log may be out of reach.
    let head = match &log {
        Ok(log) => log.head().await.map_or(0, |head| head.position),
        Err(_) => 0,
    };
    let bar = bar(context, head);
    let stop = Arc::new(AtomicBool::new(false));
    let progress = watched(bar.as_ref(), stop.clone());
    let opens = log.is_ok();
    let log_id = log.as_ref().ok().map(|it| it.log_id().to_owned());
    let checked = super::interruptible(async {
        let checked = match log {
            Ok(log) => log.check_chain(progress).await,
            Err(damaged) => {
                let check = move || SqliteLog::check_file(&damaged, progress);
                tokio::task::spawn_blocking(check).await?
            }
        };
        Ok(checked?)
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let check = checked?;
    let orphans = match log_id {
        Some(log_id) => session::orphans(context, &log_id).await,
        None => Ok(Vec::new()),
    };
    let orphans = orphans.unwrap_or_else(|error| {
        let why = crate::error_chain(error.as_ref());
        context.printer.say(format_args!(
            "it can't be told which read models are used: {why}"
        ));
        Vec::new()
    });
    let report = Report {
        whole_up_to: check.whole.position,
        hash: hex(&check.whole.hash),
        fault: check.fault.as_ref().map(ToString::to_string),
        orphans: orphans.iter().map(ToString::to_string).collect(),
    };
    let whole = report.whole_up_to;
    if context.printer.json {
        context.printer.json(&report)?;
    } else if check.fault.is_none() {
        context
            .printer
            .data(format_args!("{}  the log up to {whole}", report.hash))?;
    }
    for orphan in &report.orphans {
        context.printer.say(format_args!(
            "{orphan} belongs to no version; the catalog is older than it, or another one"
        ));
    }
    if !report.orphans.is_empty() {
        context.printer.say(
            "  what nothing else uses can be dropped: `rm` the files, `DROP SCHEMA … CASCADE`",
        );
    }
    match check.fault {
        None => Ok(()),
        Some(fault) => Err(Failed {
            message: match &fault {
                ChainFault::Storage { .. } | ChainFault::Unguarded { .. } => fault.to_string(),
                _ => format!(
                    "the log is whole up to position {}, and then {fault}",
                    thousands(whole as f64)
                ),
            },
            hint: match &context.config.log {
                LogPlace::Server(_) => hint_on_a_server(&fault),
                LogPlace::File(_) => Some(hint(&fault, whole, opens)),
            },
        }
        .into()),
    }
}

fn hint_on_a_server(fault: &ChainFault) -> Option<String> {
    let hint = match fault {
        // The server says it, or the message does.
        ChainFault::Storage { .. } => return None,
        ChainFault::Unguarded { .. } => {
            "`retell --log postgres://…/NEW init` makes a log that has it, in an empty database: take its \
             statement from `pg_dump --schema-only`"
        }
        _ => "restore it from a backup",
    };
    Some(hint.to_owned())
}

fn hint(fault: &ChainFault, whole: Position, opens: bool) -> String {
    match fault {
        ChainFault::Storage { .. } => {
            "keep a copy; then `sqlite3 FILE REINDEX` makes the indexes anew".to_owned()
        }
        ChainFault::Unguarded { .. } => {
            "`retell --data NEW init` makes a log that has it: take its statement from `sqlite3 \
             NEW/log.db .schema`"
                .to_owned()
        }
        _ if !opens || whole == 0 => "restore it from a backup".to_owned(),
        _ => format!(
            "restore it from a backup; what is whole can be kept with `retell events --limit {whole}`"
        ),
    }
}

fn bar(context: &Context, head: Position) -> Option<ProgressBar> {
    context.printer.shows_progress().then(|| {
        let style = ProgressStyle::with_template(
            "log {wide_bar:.cyan/dim} {percent:>3}%  {human_pos}/{human_len}  {per_sec}, {eta} left",
        )
        .expect("the template is correct");
        let bar = ProgressBar::new(head).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    })
}

fn watched(bar: Option<&ProgressBar>, stop: Arc<AtomicBool>) -> ChainProgress {
    let bar = bar.cloned();
    Arc::new(move |position| {
        if let Some(bar) = &bar {
            bar.set_position(position);
        }
        !stop.load(Ordering::Relaxed)
    })
}

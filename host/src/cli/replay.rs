//! `retell replay`, `retell move` and `retell catch-up`: building again, elsewhere, and building on.

use serde::Serialize;

use super::Context;
use super::printer::{Failed, Refused, Usage};
use super::progress::BuildBar;
use super::session::{self, explain, one_version, parse_name};
use crate::catalog::{Build, VersionRecord};
use crate::event::Position;
use crate::lifecycle::names::Which;
use crate::lifecycle::state::{Halt, Role, State};
use crate::lifecycle::{self, Done, Request, Scope, View};
use crate::log::OpenMode;

/// Build a version again from position 1, beside its read model, and swap it in when it is ready
///
/// Works for a live version too: readers keep the old rows until the new ones are complete.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell replay articles@2.0.0\n\n\
    With --json: {\"projection\",\"version\",\"position\"}")]
pub(crate) struct Replay {
    /// The version, as in articles@2.0.0
    name: String,
    /// Build it as of this position, and no further
    #[arg(long, value_name = "POSITION")]
    until: Option<Position>,
    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Bring versions to the head of the log, then return
///
/// For use without `retell serve`, as in a nightly job. With a host serving, it waits for the host.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  retell catch-up\n  retell catch-up articles\n\n\
    With --json a list of {\"projection\",\"version\",\"position\"}"
)]
pub(crate) struct CatchUp {
    /// A projection (articles), or a version of it (articles@2.0.0); all of them if left out
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Reached {
    projection: String,
    version: String,
    position: Position,
}

/// Bring a version to another server or folder
///
/// A new build is replayed there, beside the old one, and takes its place when it is ready. Readers
/// find it by the same names there: links in a folder, schemas of views on a server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where to is what --read-models says. New versions go there only if they are deployed with it, too.

Examples:
  retell move articles@2.1.0 --read-models postgres://retell@db2.example/shop
  retell move articles@2.1.0 --read-models /srv/retell/read-models

With --json: {\"projection\",\"version\",\"position\"}")]
pub(crate) struct Move {
    /// A version, such as articles@2.1.0
    name: String,
    /// Return at once; a host that serves does the work
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn move_version(args: Move, context: &Context) -> anyhow::Result<()> {
    let Some(to) = context.config.chosen_read_models()? else {
        return Err(Usage {
            message: "where to?".to_owned(),
            hint: Some("name a folder or a server with --read-models".to_owned()),
        }
        .into());
    };
    let again = Again {
        name: args.name,
        until: None,
        to: Some(to),
        no_wait: args.no_wait,
    };
    build_again(again, context).await
}

pub(crate) async fn replay(args: Replay, context: &Context) -> anyhow::Result<()> {
    let again = Again {
        name: args.name,
        until: args.until,
        to: None,
        no_wait: args.no_wait,
    };
    build_again(again, context).await
}

/// A version that is to be built once more.
struct Again {
    name: String,
    until: Option<Position>,
    /// Somewhere else, as `--read-models` has it.
    to: Option<String>,
    no_wait: bool,
}

async fn build_again(args: Again, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    let host = session::open_host(context, OpenMode::Existing).await?;
    let version = one_version(&*host.catalog, &name).await?;
    let (projection, number) = (version.projection.clone(), version.version.clone());
    let scope = Scope::Only(vec![number.clone()]);
    let mut access = lifecycle::Access::new(host.clone(), &projection, scope);
    let request = Request::Replay {
        version: number.clone(),
        until: args.until,
        to: args.to,
    };
    let begun = access.request(request).await.map_err(explain);
    let Done::ReplayBegun { build } = (match begun {
        Ok(begun) => begun,
        Err(error) => {
            access.close().await;
            return Err(error);
        }
    }) else {
        anyhow::bail!("a replay began as something else (a defect of retell)");
    };
    if args.no_wait {
        access.close().await;
        if context.printer.json {
            return context.printer.json(&Reached {
                projection,
                version: number.to_string(),
                position: 0,
            });
        }
        context
            .printer
            .say(format_args!("{} is being replayed", version.name()));
        return Ok(());
    }
    let mut bar = BuildBar::new(context.printer, &version.name());
    let (mut reached, mut missing) = (0, 0);
    let work = access.until(|view| {
        let record = view.version(&number)?;
        let is_it = |it: &&Build| it.id == build;
        let progress = view.progress.get(&build);
        if let (Some(begun), Some(progress)) = (
            record.successor.iter().chain(&record.current).find(is_it),
            progress,
        ) {
            bar.show(
                progress,
                begun.until.unwrap_or(Position::MAX).min(view.head),
            );
        }
        if record.status.halt == Halt::Paused {
            return Some(Err(paused(record)));
        }
        if record.successor.as_ref().is_some_and(|it| it.id == build) {
            return None;
        }
        if record.current.as_ref().is_none_or(|it| it.id != build) {
            let reason = kept(record.current.as_ref());
            return Some(Err(given_up(&version, reason)));
        }
        // It is in its place: as a successor that was ready, or from the start.
        (reached, missing) = progress.map_or((0, 0), |it| (it.position, it.dead_letters));
        match (&record.status.halt, record.status.state) {
            (Halt::Failed { reason }, _) => Some(Err(given_up(&version, reason))),
            (_, State::Ready) => Some(Ok(())),
            _ => None,
        }
    });
    let swapped = super::interruptible(async { work.await.map_err(explain) }).await;
    bar.finish();
    access.close().await;
    swapped??;
    if context.printer.json {
        return context.printer.json(&Reached {
            projection,
            version: number.to_string(),
            position: reached,
        });
    }
    context.printer.say(format_args!(
        "{} is replayed, at position {reached}",
        version.name()
    ));
    if missing > 0 {
        let name = version.name();
        let events = if missing == 1 { "event" } else { "events" };
        context.printer.say(format_args!(
            "{name} misses {missing} {events} that it could not apply: `retell dead-letters {name}`"
        ));
    }
    Ok(())
}

/// What is said of a version that does not go on because somebody paused it.
pub(super) fn paused(version: &VersionRecord) -> anyhow::Error {
    Refused {
        message: format!("{} is paused", version.name()),
        hint: Some(format!("let it go on: `retell resume {}`", version.name())),
    }
    .into()
}

/// What is said of a version whose new build failed.
pub(super) fn given_up(version: &VersionRecord, reason: &str) -> anyhow::Error {
    Failed {
        message: format!("the new build of {} failed: {reason}", version.name()),
        hint: Some(format!(
            "`retell status {}` shows what is there. What was decided about single events counts for the \
             build that met them: `retell deploy FILE --on-error skip` says what a new one does",
            version.projection
        )),
    }
    .into()
}

/// What readers of a version have after its new build failed.
pub(super) fn kept(current: Option<&Build>) -> &'static str {
    match current {
        Some(_) => "the old one stays in its place",
        None => "there is no other",
    }
}

pub(crate) async fn catch_up(args: CatchUp, context: &Context) -> anyhow::Result<()> {
    let host = session::open_host(context, OpenMode::Existing).await?;
    let (projections, only) = match &args.name {
        None => (host.catalog.projections().await?, None),
        Some(name) => {
            let name = parse_name(name)?;
            match name.which {
                Which::Live => {
                    if host.catalog.versions(&name.projection).await?.is_empty() {
                        one_version(&*host.catalog, &name).await?;
                    }
                    (vec![name.projection], None)
                }
                _ => {
                    let version = one_version(&*host.catalog, &name).await?;
                    (vec![name.projection], Some(version.version))
                }
            }
        }
    };
    // What applications left beside the log belongs to what is caught up with.
    host.log.drain_inbox().await?;
    let mut all = Vec::new();
    let mut failed = Vec::new();
    let mut left_out = Vec::new();
    for projection in projections {
        let scope = only
            .clone()
            .map_or(Scope::All, |version| Scope::Only(vec![version]));
        let mut access = lifecycle::Access::new(host.clone(), &projection, scope);
        let mut bar = BuildBar::new(context.printer, &projection);
        let goal = host.log.head().await?.position;
        let work = access.until(|view| {
            let mut builds = view.versions.iter().filter_map(|it| it.current.as_ref());
            bar.tell_trouble(builds.find_map(|it| it.trouble.as_deref()));
            if let Some(slowest) = slowest(view) {
                bar.show(slowest, goal);
            }
            caught_up(view, only.as_ref(), goal)
        });
        let reached = super::interruptible(async { work.await.map_err(explain) }).await;
        bar.finish();
        access.close().await;
        all.extend(reached?);
        for version in host.catalog.versions(&projection).await? {
            let asked = only.as_ref().is_none_or(|it| *it == version.version);
            match &version.status.halt {
                _ if !asked => {}
                Halt::None => {}
                Halt::Paused => left_out.push(version),
                Halt::Failed { reason } => {
                    failed.push(format!("{} failed: {reason}", version.name()));
                }
            }
        }
    }
    if let (Some(_), [version]) = (&only, left_out.as_slice()) {
        return Err(paused(version));
    }
    for version in &left_out {
        let name = version.name();
        context.printer.say(format_args!(
            "{name} is paused and left out; let it go on with `retell resume {name}`"
        ));
    }
    if context.printer.json {
        context.printer.json(&all)?;
        return report_failed(&failed);
    }
    for reached in &all {
        let Reached {
            projection,
            version,
            position,
        } = reached;
        context.printer.say(format_args!(
            "{projection}@{version} is at position {position}"
        ));
    }
    if all.is_empty() && failed.is_empty() && left_out.is_empty() {
        context.printer.say("there is nothing to catch up");
    }
    report_failed(&failed)
}

/// Versions that failed did not catch up, whatever the others did.
fn report_failed(failed: &[String]) -> anyhow::Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    // Some say themselves what helps.
    let says_what_to_do = failed.iter().all(|it| it.contains("`retell "));
    Err(Failed {
        message: failed.join("\n"),
        hint: (!says_what_to_do).then(|| {
            "correct the projection, raise its version and deploy that, or try again with `retell resume`; \
             `retell dead-letters NAME` lists events that can't be applied and can be left out"
                .into()
        }),
    }
    .into())
}

fn slowest(view: &View) -> Option<&lifecycle::Progress> {
    view.progress
        .values()
        .filter(|it| it.end().is_none())
        .min_by_key(|it| it.applied)
}

/// Where all versions are, once each that works has everything up to `goal`.
fn caught_up(view: &View, only: Option<&semver::Version>, goal: Position) -> Option<Vec<Reached>> {
    let mut all = Vec::new();
    for version in &view.versions {
        let skipped = version.status.state == State::Retired
            || version.status.halt != Halt::None
            || only.is_some_and(|it| *it != version.version);
        if skipped {
            continue;
        }
        let Some(build) = &version.current else {
            continue;
        };
        let position = view.progress.get(&build.id)?.position;
        let wanted = build.until.unwrap_or(Position::MAX).min(goal);
        // Whoever deployed it may have asked that it goes live once it is ready.
        let goes_live = version.promote_when_ready && version.status.role != Role::Live;
        let is_ready = version.status.state == State::Ready && version.successor.is_none();
        if position < wanted || !is_ready || goes_live {
            return None;
        }
        all.push(Reached {
            projection: version.projection.clone(),
            version: version.version.to_string(),
            position,
        });
    }
    Some(all)
}

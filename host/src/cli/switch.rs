//! `retell promote`, `rollback`, `retire`, `pause` and `resume`: one request each to whoever works on
//! the projection.

use serde::Serialize;

use super::Context;
use super::printer::Usage;
use super::session::{self, explain, one_version, parse_name};
use crate::event::Position;
use crate::lifecycle::names::{self, Name, Which};
use crate::lifecycle::{self, Done, Request, Scope};
use crate::log::OpenMode;

/// Make a version live: queries get it from now on
///
/// It first catches up; then the live version stands still for a moment, and one commit switches.
/// Readers see the old version or the new one, and never an older position than before.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell promote articles@2.0.0\n\n\
    With --json: {\"projection\",\"from\",\"to\",\"position\"}")]
pub(crate) struct Promote {
    /// The version, as in articles@2.0.0
    name: String,
    /// Accept a version that is behind and can't catch up; readers may go back in time
    #[arg(long)]
    accept_older: bool,
    /// Accept a version from which events are missing that it could not apply
    #[arg(long)]
    accept_dead_letters: bool,
}

/// Make the version live again that was live before
///
/// It was kept up to date, so this is instant. A second rollback undoes the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell rollback articles\n\n\
    With --json: {\"projection\",\"from\",\"to\",\"position\"}")]
pub(crate) struct Rollback {
    /// The projection
    name: String,
    /// Accept a version that is behind and can't catch up; readers may go back in time
    #[arg(long)]
    accept_older: bool,
}

/// Drop a version's read model; the module is kept, so it can be built again
///
/// The live version is never retired. Programs that have its read model open get an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell retire articles@1.0.0\n\n\
    With --json: {\"projection\",\"version\",\"state\",\"halt\"}")]
pub(crate) struct Retire {
    /// The version, as in articles@1.0.0
    name: String,
}

/// Stop working on a version; queries go on with what it has
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell pause articles@2.0.0\n\n\
    With --json: {\"projection\",\"version\",\"state\",\"halt\"}")]
pub(crate) struct Pause {
    /// The version, as in articles@2.0.0
    name: String,
}

/// Let a paused or failed version go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell resume articles@2.0.0\n\n\
    With --json: {\"projection\",\"version\",\"state\",\"halt\"}")]
pub(crate) struct Resume {
    /// The version, as in articles@2.0.0
    name: String,
}

#[derive(Debug, Serialize)]
struct SwitchReport {
    projection: String,
    from: Option<String>,
    to: String,
    position: Position,
}

#[derive(Debug, Serialize)]
struct StateReport {
    projection: String,
    version: String,
    state: &'static str,
    halt: &'static str,
}

/// How a switch reads in one line.
pub(super) fn sentence(
    from: Option<&semver::Version>,
    to: &semver::Version,
    position: Position,
) -> String {
    match from {
        Some(from) => {
            format!("{to} is live at position {position}; {from} is kept up to date for a rollback")
        }
        None => format!("{to} is live at position {position}"),
    }
}

pub(crate) async fn promote(args: Promote, context: &Context) -> anyhow::Result<()> {
    let (accept_older, accept_dead_letters) = (args.accept_older, args.accept_dead_letters);
    ask(&args.name, context, |version| Request::Promote {
        version,
        accept_older,
        may_be_live: false,
        accept_dead_letters,
    })
    .await
}

pub(crate) async fn rollback(args: Rollback, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    if name.which != Which::Live {
        return Err(Usage {
            message: format!("`{}` names a version, and what is live goes back", args.name),
            hint: Some(format!(
                "`retell rollback {projection}` makes the previous version live; another one becomes live with \
                 `retell promote {projection}@VERSION`",
                projection = name.projection
            )),
        }
        .into());
    }
    let host = session::open_host(context, OpenMode::Existing).await?;
    // Also says so where there is no such projection, or nothing live to go back from.
    let live = names::resolve(&*host.catalog, &name)
        .await
        .map_err(session::unresolved)?;
    let scope = Scope::Only(vec![live.version.clone()]);
    let mut access = lifecycle::Access::new(host.clone(), &name.projection, scope);
    let done = access
        .request(Request::Rollback {
            from: live.version,
            accept_older: args.accept_older,
        })
        .await;
    access.close().await;
    match done.map_err(explain)? {
        Done::Switched { from, to, position } => {
            show_switch(context, &name.projection, from.as_ref(), &to, position)
        }
        other => anyhow::bail!("a rollback ended as {other:?} (a defect of retell)"),
    }
}

pub(crate) async fn retire(args: Retire, context: &Context) -> anyhow::Result<()> {
    ask(&args.name, context, |version| Request::Retire { version }).await
}

pub(crate) async fn pause(args: Pause, context: &Context) -> anyhow::Result<()> {
    ask(&args.name, context, |version| Request::Pause { version }).await
}

pub(crate) async fn resume(args: Resume, context: &Context) -> anyhow::Result<()> {
    ask(&args.name, context, |version| Request::Resume { version }).await
}

async fn ask(
    name: &str,
    context: &Context,
    request: impl FnOnce(semver::Version) -> Request,
) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    let host = session::open_host(context, OpenMode::Existing).await?;
    let version = one_version(&*host.catalog, &name).await?;
    let mut access =
        lifecycle::Access::new(host.clone(), &version.projection, Scope::Only(Vec::new()));
    let done = access.request(request(version.version.clone())).await;
    access.close().await;
    let done = done.map_err(explain)?;
    if let Done::Switched { from, to, position } = done {
        return show_switch(context, &version.projection, from.as_ref(), &to, position);
    }
    let after = one_version(
        &*host.catalog,
        &Name {
            which: Which::Exact(version.version.clone()),
            projection: version.projection.clone(),
        },
    )
    .await?;
    if context.printer.json {
        return context.printer.json(&StateReport {
            projection: after.projection.clone(),
            version: after.version.to_string(),
            state: after.status.state.word(),
            halt: after.status.halt.word(),
        });
    }
    let name = after.name();
    context.printer.say(match done {
        Done::Retired => format!("{name} is retired; its read model is gone"),
        Done::Paused => format!("{name} is paused; let it go on with `retell resume {name}`"),
        Done::Resumed => {
            format!("{name} may go on; `retell serve` works on it, or `retell catch-up` once")
        }
        Done::ReplayBegun { .. } => format!("{name} is being replayed"),
        Done::Switched { .. } => unreachable!("shown above"),
        Done::Decided { .. } => unreachable!("asked for by another command"),
        Done::LiveAlready => unreachable!("only said to who asks for it"),
    });
    Ok(())
}

fn show_switch(
    context: &Context,
    projection: &str,
    from: Option<&semver::Version>,
    to: &semver::Version,
    position: Position,
) -> anyhow::Result<()> {
    if context.printer.json {
        return context.printer.json(&SwitchReport {
            projection: projection.to_owned(),
            from: from.map(ToString::to_string),
            to: to.to_string(),
            position,
        });
    }
    context.printer.say(format_args!(
        "{projection}: {}",
        sentence(from, to, position)
    ));
    Ok(())
}

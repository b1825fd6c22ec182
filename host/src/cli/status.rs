//! `retell status`: all versions, how far they are, and what they are to readers.

use std::io::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::Context;
use super::printer::{Stdout, printable};
use super::progress::{duration, thousands};
use super::session::{self, parse_name};
use crate::catalog::{Build, VersionRecord};
use crate::event::Position;
use crate::lifecycle::Host;
use crate::lifecycle::names::Which;
use crate::lifecycle::state::{Role, State};
use crate::log::OpenMode;
use crate::replay::eta_s;

const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Show projections, versions, and how far they are
///
/// Reads only; it works with or without a running host.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  retell status\n  retell status articles --watch\n\n\
    With --json a list of {\"projection\",\"version\",\"state\",\"role\",\"halt\",\"halt_reason\",\"trouble\",\
    \"checkpoint\",\"head\",\"lag\",\"events_per_s\",\"eta_s\",\"dead_letters\",\"location\",\"digest\",\
    \"names\",\"stale_names\",\"successor\"}; with --watch one such list a line"
)]
pub(crate) struct Args {
    /// A projection (articles), or a version of it (articles@2.0.0)
    name: Option<String>,
    /// Show it again and again until interrupted
    #[arg(long)]
    watch: bool,
}

/// One version, as printed.
#[derive(Debug, Serialize)]
struct Line {
    projection: String,
    version: String,
    state: &'static str,
    role: &'static str,
    halt: &'static str,
    halt_reason: Option<String>,
    /// Why the host can't go on for now; it tries again by itself.
    trouble: Option<String>,
    checkpoint: Position,
    head: Position,
    lag: u64,
    events_per_s: f64,
    eta_s: Option<f64>,
    dead_letters: u64,
    location: Option<String>,
    digest: String,
    /// What reads from it: `articles`, `articles@2`.
    names: Vec<String>,
    /// Those of them by which programs that open the read model themselves still come to another one.
    stale_names: Vec<String>,
    successor: Option<SuccessorLine>,
}

/// A second build that will take the first one's place.
#[derive(Debug, Serialize)]
struct SuccessorLine {
    checkpoint: Position,
    location: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let host = session::open_host(context, OpenMode::Existing).await?;
    if !args.watch {
        let lines = lines(&host, args.name.as_deref()).await?;
        return print(context, &lines);
    }
    let watch = async {
        loop {
            let lines = lines(&host, args.name.as_deref()).await?;
            if !context.printer.json && super::printer::Printer::stdout_is_terminal() {
                // Clears the screen and goes home, as `watch` does.
                write!(Stdout::lock(), "\x1b[2J\x1b[H")?;
            }
            print(context, &lines)?;
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    };
    match super::interruptible(watch).await {
        Err(error) if error.is::<super::printer::Interrupted>() => Ok(()),
        ended => ended,
    }
}

async fn lines(host: &Host, name: Option<&str>) -> anyhow::Result<Vec<Line>> {
    let head = host.log.head().await?.position;
    let (projections, exact) = match name {
        None => (host.catalog.projections().await?, None),
        Some(name) => {
            let name = parse_name(name)?;
            let exact = match name.which {
                Which::Live => None,
                _ => Some(session::one_version(&*host.catalog, &name).await?.version),
            };
            if exact.is_none() && host.catalog.versions(&name.projection).await?.is_empty() {
                // The same words as everywhere for a projection that is not there.
                session::one_version(&*host.catalog, &name).await?;
            }
            (vec![name.projection], exact)
        }
    };
    let mut lines = Vec::new();
    for projection in projections {
        let majors = host.catalog.majors(&projection).await?;
        for version in host.catalog.versions(&projection).await? {
            if exact.as_ref().is_none_or(|it| *it == version.version) {
                lines.push(line(host, head, &majors, version).await);
            }
        }
    }
    Ok(lines)
}

async fn line(
    host: &Host,
    head: Position,
    majors: &[(u64, semver::Version)],
    version: VersionRecord,
) -> Line {
    let seen = match &version.current {
        Some(build) => Some(host.try_observe(build, head).await),
        None => None,
    };
    // Before it is ready there may be nothing to see yet.
    let unreadable = match &seen {
        Some(Err(error)) if version.status.state == State::Ready => Some(crate::error_chain(error)),
        _ => None,
    };
    let progress = seen.and_then(Result::ok);
    let of_successor = match &version.successor {
        Some(build) => host.observe(build, head).await,
        None => None,
    };
    let checkpoint = progress.as_ref().map_or(0, |it| it.position);
    let goal = version
        .current
        .as_ref()
        .and_then(|it| it.until)
        .unwrap_or(Position::MAX)
        .min(head);
    let lag = if version.status.state == State::Retired {
        0
    } else {
        goal.saturating_sub(checkpoint)
    };
    let moves = version.status.runs() && lag > 0;
    let events_per_s = progress
        .as_ref()
        .filter(|_| moves)
        .map_or(0.0, |it| it.events_per_s);
    let mut majors_held = Vec::new();
    if version.status.role == Role::Live {
        majors_held.push(None);
    }
    let held = majors.iter().filter(|it| it.1 == version.version);
    majors_held.extend(held.map(|it| Some(it.0)));
    let (mut names, mut stale_names) = (Vec::new(), Vec::new());
    for major in majors_held {
        let name = major.map_or_else(
            || version.projection.clone(),
            |major| format!("{}@{major}", version.projection),
        );
        if let Some(build) = &version.current
            && unreadable.is_none()
            && version.status.state == State::Ready
            && !host.is_published(build, major).await.unwrap_or(false)
        {
            stale_names.push(name.clone());
        }
        names.push(name);
    }
    let location = |build: &Build| {
        let place = host.places.of_build(build);
        place.map_or_else(|_| build.location.clone(), |place| place.to_string())
    };
    Line {
        version: version.version.to_string(),
        state: version.status.state.word(),
        role: version.status.role.as_str(),
        halt: version.status.halt.word(),
        halt_reason: version.status.halt.reason().map(str::to_owned),
        trouble: (version.current.as_ref())
            .and_then(|it| it.trouble.clone())
            .or(unreadable),
        checkpoint,
        head,
        lag,
        events_per_s,
        eta_s: if lag == 0 {
            Some(0.0)
        } else {
            // What is flushed and not committed yet need not be read again.
            let flushed = progress.as_ref().map_or(0, |it| it.applied);
            eta_s(goal.saturating_sub(flushed), events_per_s)
        },
        dead_letters: progress.as_ref().map_or(0, |it| it.dead_letters),
        location: version.current.as_ref().map(location),
        digest: version.digest,
        names,
        stale_names,
        successor: version.successor.as_ref().map(|build| SuccessorLine {
            checkpoint: of_successor.as_ref().map_or(0, |it| it.position),
            location: location(build),
        }),
        projection: version.projection,
    }
}

fn print(context: &Context, lines: &[Line]) -> anyhow::Result<()> {
    if context.printer.json {
        return context.printer.json(&lines);
    }
    if lines.is_empty() {
        context
            .printer
            .say("nothing is deployed yet; begin with `retell deploy FILE.wasm`");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "version",
        "state",
        "role",
        "checkpoint",
        "lag",
        "events/s",
        "left",
        "names",
    ]);
    for column in 3..=5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in lines {
        let state = match (line.halt, line.successor.is_some()) {
            ("none", false) => line.state.to_owned(),
            ("none", true) => format!("{}, replaying anew", line.state),
            (halt, _) => format!("{}, {halt}", line.state),
        };
        let eta = line
            .eta_s
            .filter(|_| line.lag > 0)
            .map_or(String::new(), duration);
        table.add_row([
            format!("{}@{}", line.projection, line.version),
            state,
            line.role.to_owned(),
            thousands(line.checkpoint as f64),
            thousands(line.lag as f64),
            if line.lag > 0 {
                thousands(line.events_per_s)
            } else {
                String::new()
            },
            eta,
            line.names.join(", "),
        ]);
    }
    context.printer.data(table)?;
    for line in lines {
        if let Some(reason) = &line.halt_reason {
            context.printer.data(format_args!(
                "{}@{} failed: {}",
                line.projection,
                line.version,
                printable(reason)
            ))?;
        }
        if line.dead_letters > 0 {
            let events = if line.dead_letters == 1 {
                "event"
            } else {
                "events"
            };
            context.printer.data(format_args!(
                "{0}@{1} misses {2} {events} that it could not apply: `retell dead-letters {0}@{1}`",
                line.projection, line.version, line.dead_letters
            ))?;
        }
        for name in &line.stale_names {
            context.printer.data(format_args!(
                "{name}: programs that open it themselves do not find this build yet; whoever works on \
                 {} next corrects that",
                line.projection
            ))?;
        }
        if let Some(trouble) = &line.trouble {
            context.printer.data(format_args!(
                "{}@{} can't go on for now: {trouble}",
                line.projection, line.version
            ))?;
        }
    }
    Ok(())
}

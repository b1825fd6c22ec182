//! `retell deploy`: registers a module as a version and builds its read model.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::Context;
use super::printer::{Failed, Refused};
use super::progress::{BuildBar, duration, thousands};
use super::replay::{given_up, kept, paused};
use super::session::{self, explain};
use crate::catalog::{CatalogError, ModuleRecord, NewRules, NewVersion, Registered};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;
use crate::lifecycle::state::{Halt, Role, State};
use crate::lifecycle::{self, Done, Host, Request, Scope, View};
use crate::limits;
use crate::read_model::journal::{ErrorPolicy, OnError};
use crate::wasm::{BadLimit, ChangedLimits, Engine, Limits, Module, ModuleError};

/// Deploy a module: register it, replay the log into a fresh read model, and switch if asked to
///
/// The read model is built beside whatever is live; nothing that readers use is touched before the
/// switch. While `retell serve` runs, it does the work and this command watches; otherwise this
/// command does the work itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    retell deploy articles.wasm              build it, and say how to make it live\n  \
    retell deploy articles.wasm --promote    make it live as soon as it is ready\n  \
    retell deploy articles.wasm --no-wait    leave the work to `retell serve`\n\n\
    With --json: {\"projection\",\"version\",\"digest\",\"registered\",\"state\",\"role\",\"position\",\
    \"events\",\"seconds\",\"events_per_s\"}")]
pub(crate) struct Args {
    /// The module, as `retell build` made it
    file: PathBuf,
    /// Make it the live version as soon as it is ready
    #[arg(long)]
    promote: bool,
    /// Return as soon as it is registered
    #[arg(long)]
    no_wait: bool,
    /// Build it as of this position, and no further
    #[arg(long, value_name = "POSITION")]
    until: Option<Position>,
    /// What to do about an event that the module can't apply: stop before it, leave it out, or leave
    /// out everything of its stream from there on [default: pause]
    #[arg(long, value_name = "WHAT")]
    on_error: Option<OnErrorArg>,
    /// Stop after all once so many events are skipped or parked for their own sake [default: 1000]
    #[arg(long, value_name = "N", requires = "on_error")]
    dead_letters_max: Option<u64>,
    /// Change what the module may use, as in memory=512MiB or batch-time=10s; can be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = read_limit)]
    limits: Vec<String>,
    /// Replay it a second time with other cuts into batches, as `retell verify` does, and let it become
    /// ready only where both come to the same rows
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    verify: Option<bool>,
    /// Promote it even if events are missing from it
    #[arg(long, requires = "promote", conflicts_with = "no_wait")]
    accept_dead_letters: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OnErrorArg {
    Pause,
    Skip,
    ParkStream,
}

fn read_limit(text: &str) -> Result<String, BadLimit> {
    ChangedLimits::default().change(text)?;
    Ok(text.to_owned())
}

impl Args {
    /// What the deployer said about how the version is run.
    fn rules(&self) -> NewRules {
        NewRules {
            errors: self.errors(),
            limits: (!self.limits.is_empty()).then(|| self.changed_limits()),
            verify: self.verify,
        }
    }

    fn changed_limits(&self) -> ChangedLimits {
        let mut changed = ChangedLimits::default();
        for text in &self.limits {
            changed.change(text).expect("it was read before");
        }
        changed
    }

    /// What the deployer said about errors, if anything.
    fn errors(&self) -> Option<ErrorPolicy> {
        let on_error = match self.on_error? {
            OnErrorArg::Pause => OnError::Pause,
            OnErrorArg::Skip => OnError::Skip,
            OnErrorArg::ParkStream => OnError::ParkStream,
        };
        let dead_letters_max = self.dead_letters_max.unwrap_or(limits::DEAD_LETTERS_MAX);
        Some(ErrorPolicy {
            on_error,
            dead_letters_max,
        })
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    projection: String,
    version: String,
    digest: String,
    /// `new`, `already_there` or `revived`
    registered: &'static str,
    state: &'static str,
    role: &'static str,
    position: Position,
    /// Positions gone over by this command, in how many seconds.
    events: u64,
    seconds: f64,
    events_per_s: f64,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let bytes = read_module(&args.file)?;
    // Before the log is opened: what is no module must not leave a fresh log behind.
    let engine = Engine::new(&context.config.cache())?;
    let limits = args.changed_limits().over(Limits::default());
    let module = Module::load_within(&engine, &bytes, limits)
        .map_err(|error| bad_module(&args.file, error))?;
    let host = session::open_host_with(context, session::writing_mode(context), engine).await?;
    let registered = register(&host, &module, &bytes, &args).await?;
    crash_point::reach(CrashPoint::VersionRegistered);
    let version = semver::Version::parse(&module.manifest().version)
        .expect("the manifest check wants a semantic version");
    let name = module.name();
    match registered {
        Registered::New => context.printer.say(format_args!("{name} is registered")),
        Registered::AlreadyThere => context
            .printer
            .say(format_args!("{name} is deployed already")),
        Registered::Revived => context
            .printer
            .say(format_args!("{name} was retired and is built again")),
    }
    let mut access = lifecycle::Access::new(
        host.clone(),
        &module.manifest().name,
        Scope::Only(vec![version.clone()]),
    );
    let mut another = None;
    if registered == Registered::AlreadyThere
        && asks_for_another_build(&host, &module, &args).await?
    {
        let replay = Request::Replay {
            version: version.clone(),
            until: args.until,
            to: None,
        };
        match access.request(replay).await {
            Ok(Done::ReplayBegun { build }) => another = Some(build),
            Ok(other) => bail!("a replay began as {other:?} (a defect of retell)"),
            Err(error) => {
                access.close().await;
                return Err(explain(error));
            }
        }
    }
    if registered == Registered::AlreadyThere && !args.no_wait {
        let resumed = resume_with_other_rules(&mut access, &host, &module, &args).await;
        if let Err(error) = resumed {
            access.close().await;
            return Err(error);
        }
    }
    let watch = Stopwatch::start();
    let mut built = None;
    if args.no_wait {
        context
            .printer
            .say("`retell serve` builds it, or `retell catch-up` once");
    } else {
        let work = build(&mut access, context, &version, another, &host);
        let position = match super::interruptible(work).await {
            Ok(position) => position,
            Err(error) => {
                access.close().await;
                return Err(error);
            }
        };
        let seconds = watch.elapsed().as_secs_f64();
        // What was there before this command is not its doing.
        let events = if registered == Registered::AlreadyThere {
            0
        } else {
            position
        };
        built = Some(Built { events, seconds });
        if events > 0 {
            context.printer.say(format_args!(
                "{name} is ready at position {position}: {} events in {} ({} events/s)",
                thousands(events as f64),
                duration(seconds),
                thousands(events as f64 / seconds)
            ));
        } else {
            context
                .printer
                .say(format_args!("{name} is ready at position {position}"));
        }
        if args.promote {
            let work = promote(&mut access, context, &version, args.accept_dead_letters);
            if let Err(error) = super::interruptible(work).await {
                access.close().await;
                return Err(error);
            }
        }
    }
    access.close().await;
    report(&host, context, &module, registered, built).await
}

/// A version that failed goes on where it is deployed again to be run otherwise.
async fn resume_with_other_rules(
    access: &mut lifecycle::Access,
    host: &Host,
    module: &Module,
    args: &Args,
) -> anyhow::Result<()> {
    let (manifest, rules) = (module.manifest(), args.rules());
    let versions = host.catalog.versions(&manifest.name).await?;
    let mut records = versions.iter();
    let record = records.find(|it| it.version.to_string() == manifest.version);
    let has_failed = record.filter(|it| matches!(it.status.halt, Halt::Failed { .. }));
    if let Some(record) = has_failed
        && (rules.errors.is_some() || rules.limits.is_some())
    {
        let version = record.version.clone();
        access
            .request(Request::Resume { version })
            .await
            .map_err(explain)?;
    }
    Ok(())
}

/// Whether `--until` names another end than the build has that is there.
async fn asks_for_another_build(host: &Host, module: &Module, args: &Args) -> anyhow::Result<bool> {
    if args.until.is_none() {
        return Ok(false);
    }
    let manifest = module.manifest();
    let versions = host.catalog.versions(&manifest.name).await?;
    let record = versions
        .iter()
        .find(|it| it.version.to_string() == manifest.version);
    let current = record.and_then(|it| it.current.as_ref());
    Ok(current.is_none_or(|build| build.until != args.until))
}

/// Positions gone over by this command, in how many seconds.
struct Built {
    events: u64,
    seconds: f64,
}

/// The bytes of a module, of which no more are read than it may have.
pub(super) fn read_module(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let limit = crate::limits::MODULE_BYTES_MAX;
    let unreadable = || Failed {
        message: format!("the module {} can't be read", file.display()),
        hint: Some("build one: `retell build PATH`".into()),
    };
    let mut opened = File::open(file).with_context(unreadable)?;
    let mut module = Vec::new();
    let read = (&mut opened)
        .take(limit as u64 + 1)
        .read_to_end(&mut module);
    read.with_context(unreadable)?;
    if module.len() > limit {
        let size = opened.metadata().with_context(unreadable)?.len();
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        return Err(bad_module(
            file,
            ModuleError::TooLarge {
                bytes,
                bytes_max: limit,
            },
        ));
    }
    Ok(module)
}

/// A file that is no module for this host.
pub(super) fn bad_module(file: &std::path::Path, error: ModuleError) -> anyhow::Error {
    let hint = error.hint();
    anyhow::Error::new(error).context(Failed {
        message: format!("{} is not a module that this host can run", file.display()),
        hint: Some(hint.into()),
    })
}

async fn register(
    host: &Host,
    module: &Module,
    bytes: &[u8],
    args: &Args,
) -> anyhow::Result<Registered> {
    let record = ModuleRecord {
        digest: module.digest().to_owned(),
        manifest: module.manifest().clone(),
        contract: module.stamp().contract.clone(),
        sdk: module.stamp().sdk.clone(),
    };
    let new = NewVersion {
        module: &record,
        bytes,
        read_models: &host.places.read_models,
        until: args.until,
        promote_when_ready: args.promote,
        rules: args.rules(),
        now_us: host.clock.now_us(),
    };
    host.catalog
        .register(new)
        .await
        .map_err(|error| match error {
            CatalogError::OtherModule {
                projection,
                version,
                digest,
            } => Refused {
                message: format!(
                    "{projection}@{version} is deployed already, from another module ({}…)",
                    &digest[..12.min(digest.len())]
                ),
                hint: Some(
                    "raise the version in the projection's declaration, build and deploy again"
                        .into(),
                ),
            }
            .into(),
            CatalogError::Unverified {
                projection,
                version,
            } => {
                let name = format!("{projection}@{version}");
                Refused {
                    message: format!("{name} is ready already, and was not verified on the way"),
                    hint: Some(format!(
                        "verify what is there: `retell verify {name}`, then deploy it without --verify"
                    )),
                }
                .into()
            }
            error => error.into(),
        })
}

/// Works or watches until the version is ready, and returns its position. `another`: the build that
/// was asked for, beside one that is there.
async fn build(
    access: &mut lifecycle::Access,
    context: &Context,
    version: &semver::Version,
    another: Option<i64>,
    host: &Host,
) -> anyhow::Result<Position> {
    let name = format!("{}@{version}", access.projection());
    let mut bar = BuildBar::new(context.printer, &name);
    let mut seen = None;
    let ended = access
        .until(|view| {
            let record = view.version(version)?;
            if let Some(build) = record.successor.as_ref().or(record.current.as_ref()) {
                seen = Some(build.clone());
                bar.tell_trouble(build.trouble.as_deref());
                if let Some(progress) = view.progress.get(&build.id) {
                    let goal = build.until.unwrap_or(Position::MAX).min(view.head);
                    bar.show(progress, goal);
                }
            }
            ended(view, version, another)
        })
        .await;
    bar.finish();
    ended.map_err(explain)??;
    // As readers see it: whoever works on a version that is ready may not have begun yet.
    let seen = match seen {
        Some(build) => host.observe(&build, 0).await,
        None => None,
    };
    Ok(seen.map_or(0, |it| it.position))
}

/// Whether a version has come to rest: ready, or halted.
fn ended(
    view: &View,
    version: &semver::Version,
    another: Option<i64>,
) -> Option<anyhow::Result<()>> {
    let record = view.version(version)?;
    if record.successor.is_some() {
        // What is being built now decides, not what became of the build before.
        return (record.status.halt == Halt::Paused).then(|| Err(paused(record)));
    }
    let current = record.current.as_ref();
    if another.is_some_and(|build| current.is_none_or(|it| it.id != build)) {
        return Some(Err(given_up(record, kept(current))));
    }
    match &record.status.halt {
        Halt::None => {}
        Halt::Paused => return Some(Err(paused(record))),
        Halt::Failed { reason } => {
            let name = record.name();
            let mut hint = format!(
                "correct the projection, raise its version and deploy that; what is live was not \
                 touched. To try this version once more: `retell resume {name}`"
            );
            let build = record.current.as_ref();
            let progress = build.and_then(|it| view.progress.get(&it.id));
            // What meets a limit is no event's fault, and can't be left out.
            let is_limit = reason.contains("--limit ");
            if !is_limit && progress.is_some_and(|it| it.dead_letters > 0) {
                let leave_out = format!("; to leave the event out: `retell dead-letters {name}`");
                hint.push_str(&leave_out);
            }
            return Some(Err(Failed {
                message: format!("{name} failed: {reason}"),
                hint: Some(hint),
            }
            .into()));
        }
    }
    match record.status.state {
        State::Ready => Some(Ok(())),
        State::Retired => Some(Err(Refused {
            message: format!("{} was retired meanwhile", record.name()),
            hint: Some("deploy it again".into()),
        }
        .into())),
        _ if record.current.is_none() => Some(Err(Failed {
            message: format!("{} has no build", record.name()),
            hint: Some(format!("make one: `retell replay {}`", record.name())),
        }
        .into())),
        _ => None,
    }
}

/// Promotes it, unless whoever built it did so already, since that was asked for beforehand.
async fn promote(
    access: &mut lifecycle::Access,
    context: &Context,
    version: &semver::Version,
    accept_dead_letters: bool,
) -> anyhow::Result<()> {
    let request = Request::Promote {
        version: version.clone(),
        accept_older: false,
        may_be_live: true,
        accept_dead_letters,
    };
    let projection = access.projection().to_owned();
    match access.request(request).await.map_err(explain)? {
        Done::Switched { from, to, position } => {
            let sentence = super::switch::sentence(from.as_ref(), &to, position);
            context
                .printer
                .say(format_args!("{projection}: {sentence}"));
        }
        _ => {
            let printer = context.printer;
            printer.say(format_args!("{projection}@{version} is live"));
        }
    }
    Ok(())
}

async fn report(
    host: &Host,
    context: &Context,
    module: &Module,
    registered: Registered,
    built: Option<Built>,
) -> anyhow::Result<()> {
    let manifest = module.manifest();
    let versions = host.catalog.versions(&manifest.name).await?;
    let record = versions
        .iter()
        .find(|it| it.version.to_string() == manifest.version)
        .context("the version vanished from the catalog")?;
    if context.printer.json {
        let seen = match &record.current {
            Some(build) => host.observe(build, 0).await,
            None => None,
        };
        let Built { events, seconds } = built.unwrap_or(Built {
            events: 0,
            seconds: 0.0,
        });
        return context.printer.json(&Report {
            projection: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: module.digest().to_owned(),
            registered: match registered {
                Registered::New => "new",
                Registered::AlreadyThere => "already_there",
                Registered::Revived => "revived",
            },
            state: record.status.state.word(),
            role: record.status.role.as_str(),
            position: seen.map_or(0, |it| it.position),
            events,
            seconds,
            events_per_s: if seconds > 0.0 {
                events as f64 / seconds
            } else {
                0.0
            },
        });
    }
    if record.status.state == State::Ready && record.status.role == Role::None {
        let (printer, name) = (context.printer, record.name());
        printer.say(format_args!("look at it:   retell query {name} 'SELECT …'"));
        printer.say(format_args!("make it live: retell promote {name}"));
    }
    Ok(())
}

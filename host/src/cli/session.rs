//! From the configuration to a host: opens the log and the catalog, and turns errors of the library
//! into what a user can act on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use retell_contract::Manifest;

use super::Context;
use super::printer::{Failed, Refused, Usage};
use crate::catalog::postgres::PgCatalog;
use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Catalog, CatalogError, Rules, VersionRecord};
use crate::clock;
use crate::config::{LogPlace, ReadModelsPlace};
use crate::lifecycle::names::{self, Name, Unresolved};
use crate::lifecycle::state::State;
use crate::lifecycle::{Host, LifecycleError, Places};
use crate::log::postgres::PgLog;
use crate::log::sqlite::SqliteLog;
use crate::log::{EventLog, LogError, OpenMode, RoleKind};
use crate::postgres::ServerUrl;
use crate::read_model::{ReadModelError, ReadModelPlace, ReadModels};
use crate::replay::{Feed, FeedSettings, ReplayError, Settings};
use crate::wasm::Engine;

/// Opens everything that a command on projections needs.
pub(crate) async fn open_host(context: &Context, mode: OpenMode) -> anyhow::Result<Arc<Host>> {
    let engine = Engine::new(&context.config.cache())?;
    open_host_with(context, mode, engine).await
}

/// The same with an engine that is there already.
pub(crate) async fn open_host_with(
    context: &Context,
    mode: OpenMode,
    engine: Engine,
) -> anyhow::Result<Arc<Host>> {
    let config = &context.config;
    let OpenLog { log, .. } = open_log(context, mode).await?;
    let catalog = open_catalog(&config.log).await?;
    let reading = FeedSettings::default();
    let reading = FeedSettings {
        threads: config.threads.unwrap_or(reading.threads),
        ..reading
    };
    let places = places(context, log.log_id())?;
    Ok(Arc::new(Host {
        feed: Feed::new(log.clone(), reading),
        log,
        catalog,
        engine,
        clock: clock::system(),
        settings: Settings::default(),
        places,
    }))
}

/// What a command that writes may do: make the log of a fresh folder, but no schema in a database,
/// which is for its owner to say.
pub(crate) fn writing_mode(context: &Context) -> OpenMode {
    match &context.config.log {
        LogPlace::File(_) => OpenMode::CreateIfMissing,
        LogPlace::Server(_) => OpenMode::Existing,
    }
}

/// Whether there is a log, of whatever age.
pub(crate) async fn has_log(context: &Context) -> anyhow::Result<bool> {
    match &context.config.log {
        LogPlace::File(path) => Ok(path.exists()),
        LogPlace::Server(url) => match PgLog::open(url, OpenMode::Existing).await {
            Err(LogError::Missing { .. }) => Ok(false),
            Ok(_) | Err(LogError::Older { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        },
    }
}

/// A log, and whether opening it made or migrated anything.
pub(crate) struct OpenLog {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) changed: bool,
}

/// Opens the log alone. Whoever makes or migrates a log does so with its catalog, too, so that the
/// next command finds both.
pub(crate) async fn open_log(context: &Context, mode: OpenMode) -> anyhow::Result<OpenLog> {
    let place = &context.config.log;
    let (log, log_changed): (Arc<dyn EventLog>, bool) = match place {
        LogPlace::File(path) => {
            let log = SqliteLog::open(path, mode).await?;
            let changed = log.was_prepared();
            (Arc::new(log), changed)
        }
        LogPlace::Server(url) => {
            let log = PgLog::open(url, mode).await?;
            let changed = log.was_prepared();
            (Arc::new(log), changed)
        }
    };
    let prepared = match (mode, place) {
        (OpenMode::Existing, _) => Ok(false),
        (OpenMode::CreateIfMissing, LogPlace::File(path)) => {
            SqliteCatalog::open_or_create(path).await.map(|it| it.1)
        }
        (OpenMode::CreateIfMissing, LogPlace::Server(url)) => {
            PgCatalog::open_or_create(url).await.map(|it| it.1)
        }
        (OpenMode::CreateOrMigrate, LogPlace::File(path)) => {
            SqliteCatalog::migrate(path).await.map(|it| it.1)
        }
        (OpenMode::CreateOrMigrate, LogPlace::Server(url)) => {
            PgCatalog::migrate(url).await.map(|it| it.1)
        }
    };
    let catalog_changed = prepared.map_err(explain_catalog)?;
    Ok(OpenLog {
        log,
        changed: log_changed || catalog_changed,
    })
}

async fn open_catalog(log: &LogPlace) -> anyhow::Result<Arc<dyn Catalog>> {
    Ok(match log {
        LogPlace::File(path) => Arc::new(SqliteCatalog::open(path).await.map_err(explain_catalog)?),
        LogPlace::Server(url) => Arc::new(PgCatalog::open(url).await.map_err(explain_catalog)?),
    })
}

fn explain_catalog(error: CatalogError) -> anyhow::Error {
    let hint = match &error {
        CatalogError::Older | CatalogError::Missing => "bring it up to date: `retell migrate`",
        CatalogError::Newer { .. } => "use that retell, or a newer one",
        _ => return error.into(),
    };
    failed(error, hint)
}

/// Read models of this log that no version uses.
pub(crate) async fn orphans(
    context: &Context,
    log_id: &str,
) -> anyhow::Result<Vec<ReadModelPlace>> {
    let catalog = open_catalog(&context.config.log).await?;
    let places = places(context, log_id)?;
    Ok(crate::lifecycle::orphans(&*catalog, &places, log_id).await?)
}

/// Where things are, seen from the folder of the log, or of the instance where the log is on a server,
/// so that it can be moved whole.
fn places(context: &Context, log_id: &str) -> anyhow::Result<Places> {
    let config = &context.config;
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .with_context(|| format!("the path {} makes no sense", path.display()))
    };
    let home = match &config.log {
        LogPlace::File(path) => absolute(path)?
            .parent()
            .map_or_else(|| PathBuf::from("/"), Path::to_owned),
        LogPlace::Server(_) => absolute(&config.data)?,
    };
    let read_models = match &config.read_models {
        ReadModelsPlace::Folder(folder) => {
            let folder = absolute(folder)?;
            let below = folder.strip_prefix(&home).map(Path::to_owned);
            ReadModels::Folder(below.unwrap_or(folder))
        }
        ReadModelsPlace::Server(url) => ReadModels::Server {
            url: url.clone(),
            log_id: log_id.to_owned(),
        },
    };
    Ok(Places {
        read_models,
        links: absolute(&config.links())?,
        home,
    })
}

/// A read model that a name led to.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) projection: String,
    pub(crate) version: semver::Version,
    pub(crate) place: ReadModelPlace,
    pub(crate) manifest: Manifest,
    /// Of the module.
    pub(crate) digest: String,
    pub(crate) rules: Rules,
}

/// Lets a role use a log on a server. Returns whether the role was made.
pub(crate) async fn admit_role(
    url: &ServerUrl,
    role: &str,
    kind: RoleKind,
) -> anyhow::Result<bool> {
    let made = PgLog::open(url, OpenMode::Existing)
        .await?
        .admit_role(role, kind)
        .await?;
    if kind == RoleKind::Host {
        let catalog = PgCatalog::open(url).await.map_err(explain_catalog)?;
        catalog.admit_host_role(role).await?;
    }
    Ok(made)
}

/// Finds the read model that a name means for reading. Creates and changes nothing.
pub(crate) async fn locate(context: &Context, name: &str) -> anyhow::Result<Located> {
    let name = parse_name(name)?;
    let log = open_log(context, OpenMode::Existing).await?.log;
    let catalog = open_catalog(&context.config.log).await?;
    let mut version = names::resolve(&*catalog, &name).await.map_err(unresolved)?;
    let places = places(context, log.log_id())?;
    let place = loop {
        let Some(build) = &version.current else {
            return Err(Refused {
                message: format!("{} is retired and has no read model", version.name()),
                hint: Some(format!(
                    "build it again: `retell replay {}`",
                    version.name()
                )),
            }
            .into());
        };
        let place = places.of_build(build)?;
        let (looked, log_id) = (place.clone(), log.log_id().to_owned());
        match tokio::task::spawn_blocking(move || looked.status_of(&log_id)).await? {
            Err(ReadModelError::Missing { .. }) => {}
            Err(error @ ReadModelError::Other { .. }) => return Err(explain_read_model(error)),
            // Whoever reads it says what else is wrong.
            _ => break place,
        }
        // A switch may have come between the catalog and the file.
        let now = names::resolve(&*catalog, &name).await.map_err(unresolved)?;
        if now.current == version.current && now.status.state == State::Ready {
            return Err(Failed {
                message: format!(
                    "the read model of {} is gone: there is no {place}",
                    now.name()
                ),
                hint: Some(format!("build it again: `retell replay {}`", now.name())),
            }
            .into());
        }
        if now.current == version.current {
            return Err(Refused {
                message: format!(
                    "{} has no read model yet: it is {}",
                    now.name(),
                    now.status.state
                ),
                hint: Some(format!("build it: `retell catch-up {}`", now.projection)),
            }
            .into());
        }
        version = now;
    };
    let module = catalog.module(&version.digest).await?;
    let module = module.with_context(|| format!("the catalog has no module {}", version.digest))?;
    Ok(Located {
        projection: version.projection,
        version: version.version,
        place,
        manifest: module.manifest,
        digest: module.digest,
        rules: version.rules,
    })
}

/// Reads a name from the command line.
pub(crate) fn parse_name(name: &str) -> anyhow::Result<Name> {
    name.parse::<Name>().map_err(|error| {
        Usage {
            message: error.to_string(),
            hint: Some("`retell status` lists all names".into()),
        }
        .into()
    })
}

/// The one version that a command shall act on.
pub(crate) async fn one_version(
    catalog: &dyn Catalog,
    name: &Name,
) -> anyhow::Result<VersionRecord> {
    names::resolve_one(catalog, name).await.map_err(unresolved)
}

pub(crate) fn unresolved(error: Unresolved) -> anyhow::Error {
    match error {
        Unresolved::Catalog(error) => error.into(),
        error => Refused {
            hint: error.hint(),
            message: error.to_string(),
        }
        .into(),
    }
}

/// A failure with advice.
pub(crate) fn failed(
    error: impl std::error::Error + Send + Sync + 'static,
    hint: impl Into<String>,
) -> anyhow::Error {
    let message = error.to_string();
    anyhow::Error::new(error).context(Failed {
        message,
        hint: Some(hint.into()),
    })
}

/// What the lifecycle could not do, with advice where there is any.
pub(crate) fn explain(error: LifecycleError) -> anyhow::Error {
    match error {
        LifecycleError::Refused { message, hint } => Refused {
            message,
            hint: Some(hint),
        }
        .into(),
        LifecycleError::Elsewhere { message, hint } => Failed { message, hint }.into(),
        LifecycleError::Module { source, digest } => {
            let hint = source.hint();
            failed(LifecycleError::Module { source, digest }, hint)
        }
        LifecycleError::Trouble { name, source } => {
            let hint = match &*source {
                ReplayError::ReadModel(error) => error.hint(),
                ReplayError::Log(error) => error.hint(),
                _ => None,
            };
            let hint =
                hint.unwrap_or_else(|| "go on from where it stopped: `retell catch-up`".into());
            let message = format!("{name} can't go on: {}", crate::error_chain(&*source));
            Failed {
                message,
                hint: Some(hint),
            }
            .into()
        }
        LifecycleError::Catalog(error) => {
            let hint = error.hint();
            with_hint(error, hint)
        }
        LifecycleError::Log(error) => {
            let hint = error.hint();
            with_hint(error, hint)
        }
        LifecycleError::ReadModel(error) => explain_read_model(error),
        LifecycleError::Publish(error) => {
            let hint = error.hint();
            with_hint(error, hint)
        }
        error @ LifecycleError::LeaseLost { .. } => failed(
            error,
            "another process works on it now: run the same command again",
        ),
        LifecycleError::Interrupted => super::printer::Interrupted.into(),
        error => error.into(),
    }
}

/// What a read model could not do, with advice where there is any.
pub(crate) fn explain_read_model(error: ReadModelError) -> anyhow::Error {
    let hint = error.hint();
    with_hint(error, hint)
}

fn with_hint(
    error: impl std::error::Error + Send + Sync + 'static,
    hint: Option<String>,
) -> anyhow::Error {
    let message = error.to_string();
    anyhow::Error::new(error).context(Failed { message, hint })
}

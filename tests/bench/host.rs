//! A host in this process, as `retell serve` has one, with a fresh catalog and the bench's log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use retell::catalog::sqlite::SqliteCatalog;
use retell::catalog::{ModuleRecord, NewRules, NewVersion};
use retell::clock;
use retell::lifecycle::state::{Halt, State};
use retell::lifecycle::{Access, Host, Places, Scope, View};
use retell::log::sqlite::SqliteLog;
use retell::log::{EventLog, OpenMode};
use retell::read_model::{ReadModelPlace, ReadModels};
use retell::replay::{Feed, FeedSettings, Settings};
use retell::wasm::{Engine, Module};
use tempfile::TempDir;

use crate::support;

/// A host and its folder, which goes with it.
pub(crate) struct Instance {
    pub(crate) host: Arc<Host>,
    _folder: TempDir,
}

/// A version that was deployed, and whose supervisor goes on.
pub(crate) struct Deployed {
    pub(crate) place: ReadModelPlace,
    pub(crate) access: Access,
}

/// Compiled code is kept in `folder` from one run to the next, as an instance keeps it.
pub(crate) fn engine(folder: &Path) -> anyhow::Result<Engine> {
    Ok(Engine::new(&folder.join("compiled"))?)
}

/// The bytes of one of the bench's projections, of which the compiled code is cached.
pub(crate) fn module(engine: &Engine, guest: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(support::guest(guest))?;
    Module::load(engine, &bytes)?;
    Ok(bytes)
}

impl Deployed {
    /// The read model's file.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.place {
            ReadModelPlace::File(path) => path.clone(),
            ReadModelPlace::Schema(_) => unreachable!("these instances have files"),
        }
    }
}

impl Instance {
    /// In a folder of its own inside `folder`, so on the same disk.
    pub(crate) async fn new(
        folder: &Path,
        engine: &Engine,
        log: Arc<dyn EventLog>,
    ) -> anyhow::Result<Self> {
        let read_models = ReadModels::Folder("read-models".into());
        Self::with(folder, engine, log, read_models).await
    }

    /// One whose read models are somewhere else.
    pub(crate) async fn with(
        folder: &Path,
        engine: &Engine,
        log: Arc<dyn EventLog>,
        read_models: ReadModels,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        // The catalog gets a file of its own, so that a run leaves the bench's log as it was.
        let path = folder.path().join("catalog.db");
        SqliteLog::open(&path, OpenMode::CreateIfMissing).await?;
        let (catalog, _) = SqliteCatalog::open_or_create(&path).await?;
        let host = Host {
            feed: Feed::new(log.clone(), FeedSettings::default()),
            log,
            catalog: Arc::new(catalog),
            engine: engine.clone(),
            clock: clock::system(),
            settings: Settings::default(),
            places: Places {
                home: folder.path().to_owned(),
                read_models,
                links: folder.path().join("read-models"),
            },
        };
        Ok(Self {
            host: Arc::new(host),
            _folder: folder,
        })
    }

    /// What `retell deploy` does: loads the module, registers it, and works until it is ready.
    pub(crate) async fn deploy(&self, bytes: &[u8]) -> anyhow::Result<Deployed> {
        let host = &self.host;
        let module = Module::load(&host.engine, bytes)?;
        let record = ModuleRecord {
            digest: module.digest().to_owned(),
            manifest: module.manifest().clone(),
            contract: module.stamp().contract.clone(),
            sdk: module.stamp().sdk.clone(),
        };
        host.catalog
            .register(NewVersion {
                module: &record,
                bytes,
                read_models: &host.places.read_models,
                until: None,
                promote_when_ready: false,
                rules: NewRules::default(),
                now_us: host.clock.now_us(),
            })
            .await?;
        let version = semver::Version::parse(&record.manifest.version)?;
        let scope = Scope::Only(vec![version.clone()]);
        let mut access = Access::new(host.clone(), &record.manifest.name, scope);
        let build = access.until(|view| ended(view, &version)).await??;
        Ok(Deployed {
            place: host.places.of_build(&build)?,
            access,
        })
    }
}

/// The build, once the version is ready.
fn ended(view: &View, version: &semver::Version) -> Option<anyhow::Result<retell::catalog::Build>> {
    let record = view.version(version)?;
    if record.status.halt != Halt::None {
        return Some(Err(anyhow::anyhow!(
            "{} stopped: {:?}",
            record.name(),
            record.status.halt
        )));
    }
    let ready = record.status.state == State::Ready;
    ready.then(|| record.current.clone().context("a version without a build"))
}

/// Fails unless the whole log is in the read model.
pub(crate) fn check_complete(place: &ReadModelPlace, head: u64) -> anyhow::Result<()> {
    let position = place.status()?.checkpoint.position;
    if position != head {
        bail!("the read model is at {position}, the log at {head}");
    }
    Ok(())
}

//! The lifecycle of versions: what is deployed, built, promoted, rolled back and retired, and who
//! does it. Every change of status goes through the pure machine in [`state`]; the catalog is the
//! truth, and links follow it.

mod access;
mod backup;
mod dead_letters;
mod diff;
pub mod names;
mod orphans;
mod publish;
mod refusal;
pub mod request;
mod retire;
pub mod state;
mod supervisor;
mod switch;
mod verify;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

pub use access::{Access, View};
pub use backup::{Backup, BackupError, CopiedModel, back_up};
pub use diff::Difference;
pub use orphans::orphans;
pub use request::{Done, Outcome, Request};
pub use supervisor::{Scope, Supervisor};
pub use verify::{Verdict, Verification, Verify, VerifyProgress};
pub use worker::{End, Phase, Progress};

use crate::catalog::{Build, Catalog, CatalogError, Rules};
use crate::clock::Clock;
use crate::limits;
use crate::log::{EventLog, LogError};
use crate::postgres::{ServerUrl, ServerUrlError};
use crate::read_model::publish::PublishError;
use crate::read_model::{ReadModelError, ReadModelPlace, ReadModels};
use crate::replay::{Feed, ReplayError, Settings};
use crate::wasm::{Engine, Module, ModuleError};

/// What the lifecycle could not do.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the module {digest} can't be used")]
    Module { digest: String, source: ModuleError },
    #[error("the catalog has no module {digest}")]
    NoModule { digest: String },
    #[error("{name} can't go on")]
    Trouble {
        name: String,
        source: Arc<ReplayError>,
    },
    /// Nothing was changed: the state things are in does not allow it.
    #[error("{message}")]
    Refused { message: String, hint: String },
    /// The process that works on the projection could not do it.
    #[error("{message}")]
    Elsewhere {
        message: String,
        hint: Option<String>,
    },
    /// It was not renewed in time, and another process may have it.
    #[error("the lease on {projection} was lost")]
    LeaseLost { projection: String },
    #[error("the folder for temporary files can't be used")]
    Scratch { source: std::io::Error },
    #[error("interrupted")]
    Interrupted,
}

/// What a host is made of. Shared by everything it runs.
pub struct Host {
    pub log: Arc<dyn EventLog>,
    /// Reads that log for all builds.
    pub feed: Arc<Feed>,
    pub catalog: Arc<dyn Catalog>,
    pub engine: Engine,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    pub places: Places,
}

/// Where a host keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of the log; locations of builds are relative to it where they can be.
    pub home: PathBuf,
    /// Where new builds go, as the catalog shall remember it.
    pub read_models: ReadModels,
    /// Where programs find the live read models.
    pub links: PathBuf,
}

impl Places {
    /// Where builds go that shall be in a folder, or in a database on a server.
    pub fn read_models_at(&self, place: &str, log_id: &str) -> Result<ReadModels, ReadModelError> {
        if !ServerUrl::is_meant(place) {
            return Ok(ReadModels::Folder(PathBuf::from(place)));
        }
        let url = place
            .parse()
            .map_err(|error: ServerUrlError| ReadModelError::Place {
                source: error.into(),
            })?;
        Ok(ReadModels::Server {
            url,
            log_id: log_id.to_owned(),
        })
    }

    /// Where a build's read model is.
    pub fn of_build(&self, build: &Build) -> Result<ReadModelPlace, ReadModelError> {
        ReadModelPlace::parse(&self.home, &build.location)
    }
}

impl Host {
    /// How a version is replayed whose deployer wanted it so.
    pub fn settings_of(&self, rules: &Rules) -> Settings {
        Settings {
            errors: rules.errors,
            limits: rules.limits.over(self.settings.limits),
            ..self.settings
        }
    }

    /// A module from the catalog, compiled; or the same one that is in use in this process.
    pub async fn load_module(&self, digest: &str, rules: &Rules) -> Result<Module, LifecycleError> {
        if let Some(module) = Module::in_use(&self.engine, digest) {
            return Ok(module);
        }
        let no_module = || LifecycleError::NoModule {
            digest: digest.to_owned(),
        };
        let bytes = self
            .catalog
            .module_bytes(digest)
            .await?
            .ok_or_else(no_module)?;
        let limits = self.settings_of(rules).limits;
        Module::load_within(&self.engine, &bytes, limits).map_err(|source| LifecycleError::Module {
            digest: digest.to_owned(),
            source,
        })
    }

    /// A replay stops while the disk is nearly full, so that appends survive; a ready version's
    /// small flushes go on.
    fn check_free_disk(place: &ReadModelPlace, ready: bool) -> Result<(), ReadModelError> {
        // What a server has left is not to be seen from here.
        let ReadModelPlace::File(path) = place else {
            return Ok(());
        };
        if ready {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(path);
        let Ok(free_bytes) = fs4::available_space(folder) else {
            return Ok(());
        };
        if free_bytes >= limits::FREE_DISK_BYTES_MIN {
            return Ok(());
        }
        Err(ReadModelError::Full {
            model: path.as_path().into(),
            message: format!(
                "{} MiB are free, and a replay keeps {} MiB free for appends",
                free_bytes >> 20,
                limits::FREE_DISK_BYTES_MIN >> 20
            ),
        })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

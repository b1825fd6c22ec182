//! The catalog: which modules there are, which versions of which projections, where their builds
//! are, and which version is live. It is the truth; links and views follow it.
//!
//! Each method is one transaction: it happens whole or not at all, and is durable when it returns.
//! A change of status is decided by [`Status::after`] on the status found in that transaction.

#[cfg(test)]
mod conformance;
pub mod lease;
pub mod postgres;
pub mod sqlite;
mod stored;

use std::path::PathBuf;

use async_trait::async_trait;
use lease::Lease;
use retell_contract::manifest::Manifest;

use crate::event::Position;
use crate::lifecycle::state::{Change, Refusal, Status};
use crate::postgres::{Failure, failure};
use crate::read_model::journal::ErrorPolicy;
use crate::read_model::postgres::ServerViews;
use crate::read_model::{ReadModelError, ReadModels};
use crate::wasm::ChangedLimits;

/// What the catalog could not do.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("the catalog could not {what}")]
    Storage {
        what: &'static str,
        source: sqlx::Error,
    },
    #[error("the catalog was written by a newer retell (catalog migration {found})")]
    Newer { found: i64 },
    #[error("the log has no catalog of projections yet")]
    Missing,
    #[error("the catalog is from an older retell")]
    Older,
    #[error("the catalog's migrations failed")]
    Migration { source: sqlx::migrate::MigrateError },
    #[error("the catalog is damaged: {what}")]
    Damaged { what: String },
    #[error("there is no version {version} of {projection}")]
    NoVersion { projection: String, version: String },
    #[error("{projection}@{version} is another module already: {digest}")]
    OtherModule {
        projection: String,
        version: String,
        digest: String,
    },
    #[error("{projection}@{version} is ready already, and was not verified on the way")]
    Unverified { projection: String, version: String },
    #[error("{projection}@{version} can't be changed so")]
    Refused {
        projection: String,
        version: String,
        source: Refusal,
    },
    #[error("the lease on {projection} is somebody else's by now")]
    LeaseLost { projection: String },
    #[error("the views of {projection} can't follow the switch")]
    Views {
        projection: String,
        source: ReadModelError,
    },
    #[error("the lease file {path} can't be locked")]
    Lease {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{projection}@{version} has a successor in the making already")]
    SuccessorExists { projection: String, version: String },
}

/// SQLite's codes for a full disk, and for a write that the file system refused; PostgreSQL's.
const DISK_CODES: [&str; 3] = ["13", "778", "53100"];

impl CatalogError {
    /// What to do next, where that is not for the command to say.
    pub fn hint(&self) -> Option<String> {
        let source = match self {
            Self::Storage { source, .. } => source,
            Self::Views { source, .. } => return source.hint(),
            Self::LeaseLost { .. } => {
                return Some(
                    "another process works on it now: run the same command again".to_owned(),
                );
            }
            _ => return None,
        };
        if failure(source) == Failure::Connection {
            return Some("see that the server of the log runs; `psql URL` says more".to_owned());
        }
        let code = source.as_database_error()?.code()?;
        DISK_CODES.contains(&code.as_ref()).then(|| {
            "nothing of this was kept: make room on the disk of the log, or lift the quota, then run \
             the same command again"
                .to_owned()
        })
    }
}

/// A module as the catalog keeps it.
#[derive(Debug, Clone)]
pub struct ModuleRecord {
    /// SHA-256 of the bytes, lower-case hex.
    pub digest: String,
    pub manifest: Manifest,
    pub contract: String,
    pub sdk: String,
}

/// What a build is to its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The version's read model.
    Current,
    /// Being built to take its place.
    Successor,
}

/// One read model of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub id: i64,
    pub projection: String,
    pub version: String,
    /// Where its read model is: a file's path, or a server's URL and a schema.
    pub location: String,
    /// Stops at this position; none follows the head for ever.
    pub until: Option<Position>,
    /// Why the host can't go on with it for now; it tries again by itself.
    pub trouble: Option<String>,
}

/// What a deployer said about how a version is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What it does with events that it can't apply.
    pub errors: ErrorPolicy,
    /// What its module may use, where that is not the default.
    pub limits: ChangedLimits,
    /// Whether each of its builds is verified before it is ready.
    pub verify: bool,
}

/// What a deployer says now; none: what was said before, or else the default.
#[derive(Debug, Clone, Default)]
pub struct NewRules {
    pub errors: Option<ErrorPolicy>,
    pub limits: Option<ChangedLimits>,
    pub verify: Option<bool>,
}

/// One version of a projection.
#[derive(Debug, Clone)]
pub struct VersionRecord {
    pub projection: String,
    pub version: semver::Version,
    pub digest: String,
    pub status: Status,
    pub promote_when_ready: bool,
    pub rules: Rules,
    /// Its read model; none once it is retired.
    pub current: Option<Build>,
    /// A read model in the making that will take the current one's place.
    pub successor: Option<Build>,
    /// Where the newest of all its builds is, or was.
    pub latest_location: Option<String>,
}

impl VersionRecord {
    /// `articles@2.1.0`
    pub fn name(&self) -> String {
        format!("{}@{}", self.projection, self.version)
    }
}

/// A version to register.
#[derive(Debug, Clone)]
pub struct NewVersion<'a> {
    pub module: &'a ModuleRecord,
    pub bytes: &'a [u8],
    /// Where the build gets its read model.
    pub read_models: &'a ReadModels,
    pub until: Option<Position>,
    pub promote_when_ready: bool,
    pub rules: NewRules,
    /// Microseconds since the Unix epoch, UTC.
    pub now_us: i64,
}

/// What registering found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    New,
    /// The same module was deployed before, and is not retired.
    AlreadyThere,
    /// It had been retired, and is to be built again.
    Revived,
}

/// A switch of the live version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchKind {
    Promote,
    Rollback,
}

impl SwitchKind {
    /// The word in the catalog.
    pub fn word(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }
}

/// The switch to make.
#[derive(Debug, Clone)]
pub struct Switch<'a> {
    pub projection: &'a str,
    pub kind: SwitchKind,
    pub to: &'a semver::Version,
    /// Where the live version stopped; readers saw nothing later.
    pub position: Position,
    /// The operator accepts a version that is behind, or stands still.
    pub accept_older: bool,
    /// Of the lease under which this is done; a later one forbids it.
    pub epoch: u64,
    /// Views that follow the switch. Those in the catalog's own database do so in its transaction.
    pub views: &'a [ServerViews],
    /// Microseconds since the Unix epoch, UTC.
    pub now_us: i64,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Open,
    Given(String),
    /// It was answered or taken back, and forgotten since.
    Gone,
}

/// A request handed to the holder of a lease, as JSON.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    pub id: i64,
    pub request: String,
}

/// Modules, versions, builds and switches.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Names of all projections, sorted.
    async fn projections(&self) -> Result<Vec<String>, CatalogError>;
    /// All versions of a projection, oldest version first; none where it is unknown.
    async fn versions(&self, projection: &str) -> Result<Vec<VersionRecord>, CatalogError>;
    /// The lasting names of a projection: major, version; sorted.
    async fn majors(&self, projection: &str) -> Result<Vec<(u64, semver::Version)>, CatalogError>;
    async fn module(&self, digest: &str) -> Result<Option<ModuleRecord>, CatalogError>;
    async fn module_bytes(&self, digest: &str) -> Result<Option<Vec<u8>>, CatalogError>;

    /// Registers a version with its first build. The same module twice is no error; the same
    /// version with another module is, and to verify on the way what is ready already.
    async fn register(&self, new: NewVersion<'_>) -> Result<Registered, CatalogError>;
    /// Applies one change of status and returns the status after it. A version that becomes ready
    /// takes its major's name if nobody has it; one that is retired gives its names back and its
    /// builds up.
    async fn change(
        &self,
        projection: &str,
        version: &semver::Version,
        change: Change,
    ) -> Result<Status, CatalogError>;
    /// Whether the version shall be promoted as soon as it is ready.
    async fn set_promote_when_ready(
        &self,
        projection: &str,
        version: &semver::Version,
        promote: bool,
    ) -> Result<(), CatalogError>;
    /// Makes `to` live, the live one previous, the previous one plain, gives `to` its major's
    /// name, and records the switch; views in the same database follow in the same transaction.
    async fn switch(&self, switch: Switch<'_>) -> Result<(), CatalogError>;
    /// Brings a retired version back, with a build of its own, as if it were new.
    async fn revive(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build, CatalogError>;
    /// Plans a second build of a version, beside its current one.
    async fn add_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build, CatalogError>;
    /// Puts the successor in the current build's place; the version is ready and not failed then. One that
    /// is paused stays so.
    /// Refused where the lease has a later epoch.
    async fn swap_in_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        epoch: u64,
    ) -> Result<(), CatalogError>;
    /// Notes why the host can't go on with a build for now, or that it does again.
    async fn set_trouble(&self, build: i64, trouble: Option<&str>) -> Result<(), CatalogError>;
    /// Gives up a build in the making.
    async fn discard_build(&self, build: i64) -> Result<(), CatalogError>;
    /// Builds that nothing uses any more and whose files may still be there.
    async fn discarded(&self, projection: &str) -> Result<Vec<Build>, CatalogError>;
    /// A discarded build's files are gone.
    async fn mark_dropped(&self, build: i64) -> Result<(), CatalogError>;

    /// Takes a projection's lease, or returns none while somebody else holds it. Each taking has a
    /// higher epoch than the ones before.
    async fn take_lease(&self, projection: &str) -> Result<Option<Lease>, CatalogError>;
    /// Leaves a request for the holder of the lease.
    async fn add_request(
        &self,
        projection: &str,
        request: &str,
        now_us: i64,
    ) -> Result<i64, CatalogError>;
    /// Requests without an outcome, oldest first.
    async fn open_requests(&self, projection: &str) -> Result<Vec<RequestRecord>, CatalogError>;
    async fn answer_request(&self, id: i64, outcome: &str) -> Result<(), CatalogError>;
    /// What became of a request.
    async fn outcome(&self, id: i64) -> Result<Answer, CatalogError>;
    /// Removes answered requests that were left before a time (microseconds, UTC).
    async fn forget_outcomes(&self, projection: &str, before_us: i64) -> Result<(), CatalogError>;
    /// Takes a request back, answered or not. False if it was gone or is being answered.
    async fn remove_request(&self, id: i64) -> Result<bool, CatalogError>;
}

//! Where read models are: files in a folder, or schemas on a server.

use std::fmt;
use std::path::{Path, PathBuf};

use retell_contract::manifest::Manifest;

use super::journal::JournalEntry;
use super::postgres::{PgReadModel, SchemaPlace};
use super::query::{QueryError, QueryLimits, RowSink};
use super::sqlite::SqliteReadModel;
use super::{ContentSink, ModelName, Provenance, ReadModel, ReadModelError, ReadModelStatus, Role};
use crate::digest::ContentDigest;
use crate::event::Position;
use crate::postgres::ServerUrl;

/// Bytes of a projection's name in a schema's name, which the server limits to 63, that of the role
/// that reads from it included.
const SCHEMA_PROJECTION_BYTES_MAX: usize = 32;

/// Where new read models go.
#[derive(Debug, Clone)]
pub enum ReadModels {
    /// Each gets a file in a folder of its projection.
    Folder(PathBuf),
    /// Each gets a schema, whose name says of which log it is.
    Server { url: ServerUrl, log_id: String },
}

impl ReadModels {
    /// Where a build gets its read model, as the catalog keeps it. The build is in the name, so no
    /// name is used twice.
    pub fn location(&self, projection: &str, version: &str, build: i64) -> String {
        match self {
            Self::Folder(folder) => folder
                .join(projection)
                .join(format!("build-{build}-{version}.db"))
                .to_string_lossy()
                .into_owned(),
            Self::Server { url, log_id } => {
                // The end of a UUIDv7 is its random part.
                let log = &log_id[log_id.len().saturating_sub(8)..];
                let projection = &projection[..projection.len().min(SCHEMA_PROJECTION_BYTES_MAX)];
                format!("{url}#retell_{log}_b{build}_{projection}")
            }
        }
    }

    /// Where other builds of the same version go, given where one is.
    pub fn beside(location: &str, log_id: &str) -> Result<Self, ReadModelError> {
        match ReadModelPlace::parse(Path::new(""), location)? {
            ReadModelPlace::File(path) => {
                let folder = path.parent().and_then(Path::parent);
                Ok(Self::Folder(folder.unwrap_or(Path::new("")).to_owned()))
            }
            ReadModelPlace::Schema(place) => Ok(Self::Server {
                url: place.server().clone(),
                log_id: log_id.to_owned(),
            }),
        }
    }
}

/// Where one read model is.
#[derive(Debug, Clone)]
pub enum ReadModelPlace {
    File(PathBuf),
    Schema(SchemaPlace),
}

impl ReadModelPlace {
    /// Reads a location from the catalog; a relative path is one under `home`.
    pub fn parse(home: &Path, location: &str) -> Result<Self, ReadModelError> {
        if !ServerUrl::is_meant(location) {
            return Ok(Self::File(home.join(location)));
        }
        location
            .parse()
            .map(Self::Schema)
            .map_err(|source| ReadModelError::Place { source })
    }

    /// Makes a read model where none is.
    pub fn create(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        Ok(match self {
            Self::File(path) => {
                Box::new(SqliteReadModel::create(path, manifest, provenance, epoch)?)
            }
            Self::Schema(place) => {
                Box::new(PgReadModel::create(place, manifest, provenance, epoch)?)
            }
        })
    }

    /// Opens the read model of this build, module and log for writing, and shuts out writers of
    /// earlier epochs.
    pub fn open(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteReadModel::open(path, manifest, provenance, epoch)?),
            Self::Schema(place) => Box::new(PgReadModel::open(place, manifest, provenance, epoch)?),
        })
    }

    /// What the read model says of itself. Changes nothing.
    pub fn status(&self) -> Result<ReadModelStatus, ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::status(path),
            Self::Schema(place) => PgReadModel::status(place),
        }
    }

    /// [`status`](Self::status) of a read model that must be of this log.
    pub fn status_of(&self, log_id: &str) -> Result<ReadModelStatus, ReadModelError> {
        let status = self.status()?;
        status.provenance.check_log(log_id, self.name())?;
        Ok(status)
    }

    fn name(&self) -> ModelName {
        match self {
            Self::File(path) => path.as_path().into(),
            Self::Schema(place) => place.name(),
        }
    }

    /// Notes the role in a read model that has no writer, such as one that is halted.
    pub fn write_role(&self, role: Role, epoch: u64) -> Result<(), ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::write_role(path, role, epoch),
            Self::Schema(place) => PgReadModel::write_role(place, role, epoch),
        }
    }

    /// The read model's journal, by position. Changes nothing.
    pub fn journal(&self) -> Result<Vec<JournalEntry>, ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::journal(path),
            Self::Schema(place) => PgReadModel::journal(place),
        }
    }

    /// The digest of the read model's tables and the position they stand at, in one snapshot.
    pub fn digest(&self, manifest: &Manifest) -> Result<ContentDigest, ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::digest(path, manifest),
            Self::Schema(place) => PgReadModel::digest(place, manifest),
        }
    }

    /// Hands all rows to `sink`, in one snapshot, and returns the position they stand at.
    pub fn content(
        &self,
        manifest: &Manifest,
        sink: &mut dyn ContentSink,
    ) -> Result<Position, ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::content(path, manifest, sink),
            Self::Schema(place) => PgReadModel::content(place, manifest, sink),
        }
    }

    /// Runs a read-only query and hands its rows to `sink`.
    pub fn query(
        &self,
        sql: &str,
        limits: QueryLimits,
        sink: &mut dyn RowSink,
    ) -> Result<(), QueryError> {
        match self {
            Self::File(path) => SqliteReadModel::query(path, sql, limits, sink),
            Self::Schema(place) => PgReadModel::query(place, sql, limits, sink),
        }
    }

    /// Drops the read model for good. Does the rest where an earlier call was cut off, and nothing
    /// where nothing is left, or one of another log: instances that share a folder may have files of one
    /// name.
    pub fn drop_read_model(&self, log_id: &str) -> Result<(), ReadModelError> {
        match self {
            Self::File(path) => SqliteReadModel::drop_read_model(path, log_id),
            Self::Schema(place) => PgReadModel::drop_read_model(place),
        }
    }

    /// Whether there is anything.
    pub fn exists(&self) -> Result<bool, ReadModelError> {
        match self {
            Self::File(path) => Ok(path.exists()),
            Self::Schema(place) => match PgReadModel::status(place) {
                Ok(_) => Ok(true),
                Err(ReadModelError::Missing { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

impl fmt::Display for ReadModelPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Schema(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "018f0000-0000-7000-8000-0123456789ab";

    #[test]
    fn builds_have_names_of_their_own_that_fit() {
        let folder = ReadModels::Folder("read-models".into());
        let location = folder.location("articles", "1.0.0", 7);
        assert_eq!(location, "read-models/articles/build-7-1.0.0.db");
        let url = "postgres://me@db.example/shop?password_env=HOME";
        let server = ReadModels::Server {
            url: url.parse().expect("a URL"),
            log_id: LOG.to_owned(),
        };
        let location = server.location("articles", "1.0.0", 7);
        assert_eq!(location, format!("{url}#retell_456789ab_b7_articles"));
        let longest = server.location(&"a".repeat(40), "1.0.0", 9_999_999_999);
        let (_, schema) = longest.split_once('#').expect("a schema");
        assert!(schema.len() + "_r".len() <= 63, "{schema}");
    }

    #[test]
    fn a_version_stays_where_it_is() {
        for location in [
            "read-models/articles/build-7-1.0.0.db",
            "/elsewhere/articles/build-7-1.0.0.db",
            "postgres://me@db.example/shop#retell_456789ab_b7_articles",
        ] {
            let beside = ReadModels::beside(location, LOG).expect("a place");
            assert_eq!(beside.location("articles", "1.0.0", 7), location);
        }
    }
}

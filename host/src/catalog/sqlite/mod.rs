//! The catalog in the log's SQLite database, through sqlx.

mod builds;
mod lease;
mod majors;
mod open;
mod requests;
mod status;
mod switch;
mod versions;

use std::path::PathBuf;

use async_trait::async_trait;
use sqlx::SqlitePool;

use super::lease::Lease;
use super::{
    Answer, Build, Catalog, CatalogError, ModuleRecord, NewVersion, Registered, RequestRecord,
    Switch, VersionRecord,
};
use crate::event::Position;
use crate::lifecycle::state::{Change, Status};
use crate::read_model::ReadModels;

/// The catalog beside the events, in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    pool: SqlitePool,
    /// The folder of the leases of all projections.
    leases: PathBuf,
}

type Result<T> = std::result::Result<T, CatalogError>;

/// Says what was being done when the database refused.
fn doing(what: &'static str) -> impl Fn(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Storage { what, source }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn projections(&self) -> Result<Vec<String>> {
        versions::projections(self).await
    }

    async fn versions(&self, projection: &str) -> Result<Vec<VersionRecord>> {
        versions::versions(self, projection).await
    }

    async fn majors(&self, projection: &str) -> Result<Vec<(u64, semver::Version)>> {
        majors::majors(self, projection).await
    }

    async fn module(&self, digest: &str) -> Result<Option<ModuleRecord>> {
        versions::module(self, digest).await
    }

    async fn module_bytes(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        versions::module_bytes(self, digest).await
    }

    async fn register(&self, new: NewVersion<'_>) -> Result<Registered> {
        versions::register(self, new).await
    }

    async fn change(
        &self,
        projection: &str,
        version: &semver::Version,
        change: Change,
    ) -> Result<Status> {
        status::change(self, projection, version, change).await
    }

    async fn set_promote_when_ready(
        &self,
        projection: &str,
        version: &semver::Version,
        promote: bool,
    ) -> Result<()> {
        status::set_promote_when_ready(self, projection, version, promote).await
    }

    async fn switch(&self, switch: Switch<'_>) -> Result<()> {
        switch::switch(self, switch).await
    }

    async fn revive(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build> {
        builds::revive(self, projection, version, read_models, until, now_us).await
    }

    async fn add_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build> {
        builds::add_successor(self, projection, version, read_models, until, now_us).await
    }

    async fn swap_in_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        _epoch: u64,
    ) -> Result<()> {
        builds::swap_in_successor(self, projection, version).await
    }

    async fn set_trouble(&self, build: i64, trouble: Option<&str>) -> Result<()> {
        builds::set_trouble(self, build, trouble).await
    }

    async fn discard_build(&self, build: i64) -> Result<()> {
        builds::discard_build(self, build).await
    }

    async fn discarded(&self, projection: &str) -> Result<Vec<Build>> {
        builds::discarded(self, projection).await
    }

    async fn mark_dropped(&self, build: i64) -> Result<()> {
        builds::mark_dropped(self, build).await
    }

    async fn take_lease(&self, projection: &str) -> Result<Option<Lease>> {
        lease::take(self, projection).await
    }

    async fn add_request(&self, projection: &str, request: &str, now_us: i64) -> Result<i64> {
        requests::add_request(self, projection, request, now_us).await
    }

    async fn open_requests(&self, projection: &str) -> Result<Vec<RequestRecord>> {
        requests::open_requests(self, projection).await
    }

    async fn answer_request(&self, id: i64, outcome: &str) -> Result<()> {
        requests::answer_request(self, id, outcome).await
    }

    async fn outcome(&self, id: i64) -> Result<Answer> {
        requests::outcome(self, id).await
    }

    async fn forget_outcomes(&self, projection: &str, before_us: i64) -> Result<()> {
        requests::forget_outcomes(self, projection, before_us).await
    }

    async fn remove_request(&self, id: i64) -> Result<bool> {
        requests::remove_request(self, id).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// An empty database that outlives the catalog on it.
    async fn make(folder: &Path) -> SqliteCatalog {
        let path = folder.join(format!("{}.db", uuid::Uuid::now_v7()));
        std::fs::File::create(&path).expect("a file");
        SqliteCatalog::migrate(&path).await.expect("a catalog").0
    }

    #[tokio::test]
    async fn conforms() {
        let folder = tempfile::tempdir().expect("a folder");
        crate::catalog::conformance::run(|| make(folder.path())).await;
    }

    #[tokio::test]
    async fn an_older_or_newer_catalog_is_named_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.db");
        std::fs::File::create(&path).expect("a file");
        assert!(matches!(
            SqliteCatalog::open(&path).await,
            Err(CatalogError::Missing)
        ));
        let catalog = SqliteCatalog::migrate(&path).await.expect("a catalog").0;
        SqliteCatalog::open(&path).await.expect("up to date");
        sqlx::query(
            "INSERT INTO retell_catalog_migrations
                 (version, description, success, checksum, execution_time)
             VALUES (99, 'of the future', 1, x'', 0)",
        )
        .execute(&catalog.pool)
        .await
        .expect("written");
        let opened = SqliteCatalog::open(&path).await;
        assert!(matches!(opened, Err(CatalogError::Newer { found: 99 })));
        let migrated = SqliteCatalog::migrate(&path).await;
        assert!(matches!(migrated, Err(CatalogError::Newer { found: 99 })));
    }
}

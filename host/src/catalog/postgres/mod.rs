//! The catalog in the log's PostgreSQL database, through sqlx.

mod builds;
mod lease;
mod majors;
mod open;
mod requests;
mod status;
mod switch;
mod versions;

use async_trait::async_trait;
use sqlx::PgPool;

use super::lease::Lease;
use super::{
    Answer, Build, Catalog, CatalogError, ModuleRecord, NewVersion, Registered, RequestRecord,
    Switch, VersionRecord,
};
use crate::event::Position;
use crate::lifecycle::state::{Change, Status};
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::postgres::ServerUrl;
use crate::read_model::ReadModels;

/// The catalog beside the events, in the schema `retell`.
#[derive(Debug, Clone)]
pub struct PgCatalog {
    pool: PgPool,
    url: ServerUrl,
}

type Result<T> = std::result::Result<T, CatalogError>;

/// Says what was being done when the database refused.
fn doing(what: &'static str) -> impl Fn(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Storage { what, source }
}

/// An answer from the catalog, which is not waited for without end.
fn answered<T>(asking: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    crate::postgres::answered(asking, doing("ask the catalog"))
}

#[async_trait]
impl Catalog for PgCatalog {
    async fn projections(&self) -> Result<Vec<String>> {
        answered(versions::projections(self)).await
    }

    async fn versions(&self, projection: &str) -> Result<Vec<VersionRecord>> {
        answered(versions::versions(self, projection)).await
    }

    async fn majors(&self, projection: &str) -> Result<Vec<(u64, semver::Version)>> {
        answered(majors::majors(self, projection)).await
    }

    async fn module(&self, digest: &str) -> Result<Option<ModuleRecord>> {
        answered(versions::module(self, digest)).await
    }

    async fn module_bytes(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let fetching = versions::module_bytes(self, digest);
        let explain = doing("fetch a module");
        crate::postgres::answered_within(POSTGRES_WORK_TIMEOUT, fetching, explain).await
    }

    async fn register(&self, new: NewVersion<'_>) -> Result<Registered> {
        // With the module's bytes, over whatever line.
        let registering = versions::register(self, new);
        let explain = doing("register a version");
        crate::postgres::answered_within(POSTGRES_WORK_TIMEOUT, registering, explain).await
    }

    async fn change(
        &self,
        projection: &str,
        version: &semver::Version,
        change: Change,
    ) -> Result<Status> {
        answered(status::change(self, projection, version, change)).await
    }

    async fn set_promote_when_ready(
        &self,
        projection: &str,
        version: &semver::Version,
        promote: bool,
    ) -> Result<()> {
        answered(status::set_promote_when_ready(
            self, projection, version, promote,
        ))
        .await
    }

    async fn switch(&self, switch: Switch<'_>) -> Result<()> {
        answered(switch::switch(self, switch)).await
    }

    async fn revive(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build> {
        answered(builds::revive(
            self,
            projection,
            version,
            read_models,
            until,
            now_us,
        ))
        .await
    }

    async fn add_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &ReadModels,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build> {
        answered(builds::add_successor(
            self,
            projection,
            version,
            read_models,
            until,
            now_us,
        ))
        .await
    }

    async fn swap_in_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        epoch: u64,
    ) -> Result<()> {
        answered(builds::swap_in_successor(self, projection, version, epoch)).await
    }

    async fn set_trouble(&self, build: i64, trouble: Option<&str>) -> Result<()> {
        answered(builds::set_trouble(self, build, trouble)).await
    }

    async fn discard_build(&self, build: i64) -> Result<()> {
        answered(builds::discard_build(self, build)).await
    }

    async fn discarded(&self, projection: &str) -> Result<Vec<Build>> {
        answered(builds::discarded(self, projection)).await
    }

    async fn mark_dropped(&self, build: i64) -> Result<()> {
        answered(builds::mark_dropped(self, build)).await
    }

    async fn take_lease(&self, projection: &str) -> Result<Option<Lease>> {
        answered(lease::take(self, projection)).await
    }

    async fn add_request(&self, projection: &str, request: &str, now_us: i64) -> Result<i64> {
        answered(requests::add_request(self, projection, request, now_us)).await
    }

    async fn open_requests(&self, projection: &str) -> Result<Vec<RequestRecord>> {
        answered(requests::open_requests(self, projection)).await
    }

    async fn answer_request(&self, id: i64, outcome: &str) -> Result<()> {
        answered(requests::answer_request(self, id, outcome)).await
    }

    async fn outcome(&self, id: i64) -> Result<Answer> {
        answered(requests::outcome(self, id)).await
    }

    async fn forget_outcomes(&self, projection: &str, before_us: i64) -> Result<()> {
        answered(requests::forget_outcomes(self, projection, before_us)).await
    }

    async fn remove_request(&self, id: i64) -> Result<bool> {
        answered(requests::remove_request(self, id)).await
    }
}

#[cfg(test)]
mod tests;

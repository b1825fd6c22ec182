//! Opening, making and migrating the catalog.

use std::sync::LazyLock;

use sqlx::migrate::Migrator;
use sqlx::{Postgres, Transaction};

use super::{PgCatalog, Result, doing};
use crate::catalog::CatalogError;
use crate::postgres::{self, ServerUrl};

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("host/migrations/postgres/catalog");
    migrator.dangerous_set_table_name("retell.catalog_migrations");
    migrator
});

/// What the role that runs the host may do with the catalog.
const HOST_GRANTS: [&str; 2] = [
    "GRANT SELECT ON retell.catalog_migrations TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON retell.modules, retell.projections, retell.versions,
         retell.builds, retell.majors, retell.switches, retell.requests, retell.leases TO {role}",
];

impl PgCatalog {
    /// Opens the catalog in an existing log. Changes no schema.
    pub async fn open(url: &ServerUrl) -> Result<Self> {
        let catalog = Self::connect(url);
        let known = MIGRATOR.iter().map(|it| it.version).max().unwrap_or(0);
        let made: bool =
            sqlx::query_scalar("SELECT to_regclass('retell.catalog_migrations') IS NOT NULL")
                .fetch_one(&catalog.pool)
                .await
                .map_err(doing("look for its tables"))?;
        if !made {
            return Err(CatalogError::Missing);
        }
        let found: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM retell.catalog_migrations")
                .fetch_one(&catalog.pool)
                .await
                .map_err(doing("read its migrations"))?;
        match found {
            Some(found) if found > known => Err(CatalogError::Newer { found }),
            Some(found) if found == known => Ok(catalog),
            // Its making was cut off before the first migration.
            None => Err(CatalogError::Missing),
            Some(_) => Err(CatalogError::Older),
        }
    }

    /// Opens the catalog, or makes it where there is none. An older one is left alone and refused.
    /// Returns whether it was made.
    pub async fn open_or_create(url: &ServerUrl) -> Result<(Self, bool)> {
        match Self::open(url).await {
            Err(CatalogError::Missing) => Self::migrate(url).await,
            opened => opened.map(|catalog| (catalog, false)),
        }
    }

    /// Brings the catalog up to date, or makes it, in an existing log. Several processes may do so
    /// at once: migrations run under a lock. Returns whether anything was to be done.
    pub async fn migrate(url: &ServerUrl) -> Result<(Self, bool)> {
        match Self::open(url).await {
            Err(CatalogError::Older | CatalogError::Missing) => {}
            opened => return opened.map(|catalog| (catalog, false)),
        }
        let catalog = Self::connect(url);
        match MIGRATOR.run(&catalog.pool).await {
            Ok(()) => Ok((catalog, true)),
            Err(sqlx::migrate::MigrateError::VersionMissing(found)) => {
                Err(CatalogError::Newer { found })
            }
            Err(source) => Err(CatalogError::Migration { source }),
        }
    }

    /// Lets a role that runs the host use the catalog. The role must exist.
    pub async fn admit_host_role(&self, role: &str) -> Result<()> {
        postgres::grant(&self.pool, role, &HOST_GRANTS)
            .await
            .map_err(doing("let a role in"))
    }

    fn connect(url: &ServerUrl) -> Self {
        Self {
            pool: postgres::pool(url),
            url: url.clone(),
        }
    }

    /// A writing transaction; it keeps other writers out from its start, so nothing it read can
    /// change.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await.map_err(doing("begin a change"))?;
        sqlx::query("LOCK TABLE retell.versions IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .map_err(doing("begin a change"))?;
        Ok(transaction)
    }
}

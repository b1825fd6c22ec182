//! The conformance suite bound to PostgreSQL.

use super::*;
use crate::log::OpenMode;
use crate::log::postgres::PgLog;
use crate::test_cluster::cluster;

/// A catalog in a log of its own.
async fn make() -> PgCatalog {
    let url: ServerUrl = cluster().new_database().parse().expect("a URL");
    PgLog::open(&url, OpenMode::CreateIfMissing)
        .await
        .expect("a log");
    PgCatalog::migrate(&url).await.expect("a catalog").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    crate::catalog::conformance::run(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_or_newer_catalog_is_named_as_such() {
    let url: ServerUrl = cluster().new_database().parse().expect("a URL");
    PgLog::open(&url, OpenMode::CreateIfMissing)
        .await
        .expect("a log");
    assert!(matches!(
        PgCatalog::open(&url).await,
        Err(CatalogError::Missing)
    ));
    let catalog = PgCatalog::migrate(&url).await.expect("a catalog").0;
    PgCatalog::open(&url).await.expect("up to date");
    sqlx::query(
        "INSERT INTO retell.catalog_migrations
             (version, description, success, checksum, execution_time)
         VALUES (99, 'of the future', true, '', 0)",
    )
    .execute(&catalog.pool)
    .await
    .expect("written");
    let opened = PgCatalog::open(&url).await;
    assert!(matches!(opened, Err(CatalogError::Newer { found: 99 })));
    let migrated = PgCatalog::migrate(&url).await;
    assert!(matches!(migrated, Err(CatalogError::Newer { found: 99 })));
}

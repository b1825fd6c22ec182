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
async fn who_lost_the_lease_decides_nothing_any_more() {
    let catalog = make().await;
    sqlx::raw_sql(
        "INSERT INTO retell.leases VALUES ('articles', 7, 'somebody', false, 'epoch');
         INSERT INTO retell.projections VALUES ('articles')",
    )
    .execute(&catalog.pool)
    .await
    .expect("written");
    let version = semver::Version::new(1, 0, 0);
    let swapped = catalog.swap_in_successor("articles", &version, 6).await;
    assert!(
        matches!(swapped, Err(CatalogError::LeaseLost { .. })),
        "{swapped:?}"
    );
    let swapped = catalog.swap_in_successor("articles", &version, 7).await;
    assert!(
        matches!(swapped, Err(CatalogError::NoVersion { .. })),
        "{swapped:?}"
    );
    let switched = catalog
        .switch(Switch {
            projection: "articles",
            kind: crate::catalog::SwitchKind::Promote,
            to: &version,
            position: 0,
            accept_older: false,
            epoch: 6,
            views: &[],
            now_us: 1,
        })
        .await;
    assert!(
        matches!(switched, Err(CatalogError::LeaseLost { .. })),
        "{switched:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_a_session_that_ended_is_free_at_once() {
    let catalog = make().await;
    let first = catalog.take_lease("articles").await.expect("asked");
    let first = first.expect("nobody has it");
    assert!(
        catalog
            .take_lease("articles")
            .await
            .expect("asked")
            .is_none()
    );
    sqlx::raw_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .execute(&catalog.pool)
    .await
    .expect("cut off");
    let mut second = None;
    while second.is_none() {
        second = catalog.take_lease("articles").await.expect("asked");
    }
    let second = second.expect("taken");
    assert!(second.epoch() > first.epoch());
    // The first finds out when it renews.
    while !first.is_lost() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!second.is_lost());
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

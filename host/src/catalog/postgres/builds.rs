//! Builds: made, put in another's place, given up.

use sqlx::{Postgres, Row, Transaction};

use super::lease;
use super::majors::set_major;
use super::status::{change_status, status};
use super::{PgCatalog, Result, doing};
use crate::catalog::{Build, CatalogError, Stage};
use crate::event::Position;
use crate::lifecycle::state::{Change, Refusal, State};
use crate::postgres::Timestamp;
use crate::read_model::ReadModels;

pub(super) async fn revive(
    catalog: &PgCatalog,
    projection: &str,
    version: &semver::Version,
    read_models: &ReadModels,
    until: Option<Position>,
    now_us: i64,
) -> Result<Build> {
    let text = version.to_string();
    let mut transaction = catalog.begin().await?;
    change_status(&mut transaction, projection, &text, &Change::Revive).await?;
    let stage = Stage::Current;
    let build = insert_build(
        &mut transaction,
        projection,
        &text,
        stage,
        read_models,
        until,
        now_us,
    )
    .await?;
    transaction
        .commit()
        .await
        .map_err(doing("revive a version"))?;
    Ok(build)
}

pub(super) async fn add_successor(
    catalog: &PgCatalog,
    projection: &str,
    version: &semver::Version,
    read_models: &ReadModels,
    until: Option<Position>,
    now_us: i64,
) -> Result<Build> {
    let text = version.to_string();
    let mut transaction = catalog.begin().await?;
    let there: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM retell.builds
         WHERE projection = $1 AND version = $2 AND stage = 'successor'",
    )
    .bind(projection)
    .bind(&text)
    .fetch_one(&mut *transaction)
    .await
    .map_err(doing("look for a successor"))?;
    if there > 0 {
        return Err(CatalogError::SuccessorExists {
            projection: projection.to_owned(),
            version: text,
        });
    }
    let build = insert_build(
        &mut transaction,
        projection,
        &text,
        Stage::Successor,
        read_models,
        until,
        now_us,
    )
    .await?;
    transaction.commit().await.map_err(doing("plan a build"))?;
    Ok(build)
}

pub(super) async fn swap_in_successor(
    catalog: &PgCatalog,
    projection: &str,
    version: &semver::Version,
    epoch: u64,
) -> Result<()> {
    let text = version.to_string();
    let mut transaction = catalog.begin().await?;
    lease::check(&mut transaction, projection, epoch).await?;
    let before = status(&mut transaction, projection, &text).await?;
    if before.state == State::Retired {
        return Err(CatalogError::Refused {
            projection: projection.to_owned(),
            version: text,
            source: Refusal::Retired,
        });
    }
    let mut moved = 0;
    for (from, to) in [("current", "discarded"), ("successor", "current")] {
        let done = sqlx::query(
            "UPDATE retell.builds SET stage = $1 WHERE projection = $2 AND version = $3 AND stage = $4",
        )
        .bind(to)
        .bind(projection)
        .bind(&text)
        .bind(from)
        .execute(&mut *transaction)
        .await
        .map_err(doing("swap builds"))?;
        moved = done.rows_affected();
    }
    if moved == 0 {
        // It is in its place already, and the answer got lost.
        return Ok(());
    }
    sqlx::query(
        "UPDATE retell.versions SET state = 'ready', halt_reason = NULL,
             halt = CASE halt WHEN 'paused' THEN 'paused' ELSE 'none' END
         WHERE projection = $1 AND version = $2",
    )
    .bind(projection)
    .bind(&text)
    .execute(&mut *transaction)
    .await
    .map_err(doing("swap builds"))?;
    set_major(&mut transaction, projection, version, false).await?;
    transaction.commit().await.map_err(doing("swap builds"))
}

pub(super) async fn set_trouble(
    catalog: &PgCatalog,
    build: i64,
    trouble: Option<&str>,
) -> Result<()> {
    sqlx::query("UPDATE retell.builds SET trouble = $1 WHERE id = $2")
        .bind(trouble)
        .bind(build)
        .execute(&catalog.pool)
        .await
        .map_err(doing("note a build's trouble"))?;
    Ok(())
}

pub(super) async fn discard_build(catalog: &PgCatalog, build: i64) -> Result<()> {
    sqlx::query(
        "UPDATE retell.builds SET stage = 'discarded' WHERE id = $1 AND stage = 'successor'",
    )
    .bind(build)
    .execute(&catalog.pool)
    .await
    .map_err(doing("give up a build"))?;
    Ok(())
}

pub(super) async fn discarded(catalog: &PgCatalog, projection: &str) -> Result<Vec<Build>> {
    let rows =
        sqlx::query("SELECT * FROM retell.builds WHERE projection = $1 AND stage = 'discarded'")
            .bind(projection)
            .fetch_all(&catalog.pool)
            .await
            .map_err(doing("list discarded builds"))?;
    Ok(rows.iter().map(build_of).collect())
}

pub(super) async fn mark_dropped(catalog: &PgCatalog, build: i64) -> Result<()> {
    sqlx::query("UPDATE retell.builds SET stage = 'dropped' WHERE id = $1 AND stage = 'discarded'")
        .bind(build)
        .execute(&catalog.pool)
        .await
        .map_err(doing("mark a build as dropped"))?;
    Ok(())
}

/// Adds a build and gives it its place.
pub(super) async fn insert_build(
    transaction: &mut Transaction<'static, Postgres>,
    projection: &str,
    version: &str,
    stage: Stage,
    read_models: &ReadModels,
    until: Option<Position>,
    now_us: i64,
) -> Result<Build> {
    let stage = match stage {
        Stage::Current => "current",
        Stage::Successor => "successor",
    };
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO retell.builds (projection, version, stage, location, until, created_at)
         VALUES ($1, $2, $3, '', $4, $5) RETURNING id",
    )
    .bind(projection)
    .bind(version)
    .bind(stage)
    .bind(until.map(u64::cast_signed))
    .bind(Timestamp(now_us))
    .fetch_one(&mut **transaction)
    .await
    .map_err(doing("add a build"))?;
    let location = read_models.location(projection, version, id);
    sqlx::query("UPDATE retell.builds SET location = $1 WHERE id = $2")
        .bind(&location)
        .bind(id)
        .execute(&mut **transaction)
        .await
        .map_err(doing("add a build"))?;
    Ok(Build {
        id,
        projection: projection.to_owned(),
        version: version.to_owned(),
        location,
        until,
        trouble: None,
    })
}

pub(super) fn build_of(row: &sqlx::postgres::PgRow) -> Build {
    Build {
        id: row.get("id"),
        projection: row.get("projection"),
        version: row.get("version"),
        location: row.get("location"),
        until: row.get::<Option<i64>, _>("until").map(i64::cast_unsigned),
        trouble: row.get("trouble"),
    }
}

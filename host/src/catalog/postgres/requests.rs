//! Requests to whoever holds a lease, and their outcomes.

use sqlx::Row;

use super::{PgCatalog, Result, doing};
use crate::catalog::{Answer, RequestRecord};
use crate::postgres::Timestamp;

pub(super) async fn add_request(
    catalog: &PgCatalog,
    projection: &str,
    request: &str,
    now_us: i64,
) -> Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO retell.requests (projection, request, requested_at) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(projection)
    .bind(request)
    .bind(Timestamp(now_us))
    .fetch_one(&catalog.pool)
    .await
    .map_err(doing("leave a request"))
}

pub(super) async fn open_requests(
    catalog: &PgCatalog,
    projection: &str,
) -> Result<Vec<RequestRecord>> {
    let rows = sqlx::query(
        "SELECT id, request FROM retell.requests WHERE projection = $1 AND outcome IS NULL ORDER BY id",
    )
    .bind(projection)
    .fetch_all(&catalog.pool)
    .await
    .map_err(doing("read requests"))?;
    let record = |row: &sqlx::postgres::PgRow| RequestRecord {
        id: row.get("id"),
        request: row.get("request"),
    };
    Ok(rows.iter().map(record).collect())
}

pub(super) async fn answer_request(catalog: &PgCatalog, id: i64, outcome: &str) -> Result<()> {
    sqlx::query("UPDATE retell.requests SET outcome = $1 WHERE id = $2 AND outcome IS NULL")
        .bind(outcome)
        .bind(id)
        .execute(&catalog.pool)
        .await
        .map_err(doing("answer a request"))?;
    Ok(())
}

pub(super) async fn outcome(catalog: &PgCatalog, id: i64) -> Result<Answer> {
    let outcome: Option<Option<String>> =
        sqlx::query_scalar("SELECT outcome FROM retell.requests WHERE id = $1")
            .bind(id)
            .fetch_optional(&catalog.pool)
            .await
            .map_err(doing("read an outcome"))?;
    Ok(match outcome {
        None => Answer::Gone,
        Some(None) => Answer::Open,
        Some(Some(outcome)) => Answer::Given(outcome),
    })
}

pub(super) async fn remove_request(catalog: &PgCatalog, id: i64) -> Result<bool> {
    let done = sqlx::query("DELETE FROM retell.requests WHERE id = $1")
        .bind(id)
        .execute(&catalog.pool)
        .await
        .map_err(doing("take a request back"))?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn forget_outcomes(
    catalog: &PgCatalog,
    projection: &str,
    before_us: i64,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM retell.requests
         WHERE projection = $1 AND outcome IS NOT NULL AND requested_at < $2",
    )
    .bind(projection)
    .bind(Timestamp(before_us))
    .execute(&catalog.pool)
    .await
    .map_err(doing("forget outcomes"))?;
    Ok(())
}

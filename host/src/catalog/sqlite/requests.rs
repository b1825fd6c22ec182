//! Requests to whoever holds a lease, and their outcomes.

use sqlx::Row;

use super::{Result, SqliteCatalog, doing};
use crate::catalog::{Answer, RequestRecord};

pub(super) async fn add_request(
    catalog: &SqliteCatalog,
    projection: &str,
    request: &str,
    now_us: i64,
) -> Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO requests (projection, request, requested_at) VALUES (?, ?, ?) RETURNING id",
    )
    .bind(projection)
    .bind(request)
    .bind(now_us)
    .fetch_one(&catalog.pool)
    .await
    .map_err(doing("leave a request"))
}

pub(super) async fn open_requests(
    catalog: &SqliteCatalog,
    projection: &str,
) -> Result<Vec<RequestRecord>> {
    let rows = sqlx::query(
        "SELECT id, request FROM requests WHERE projection = ? AND outcome IS NULL ORDER BY id",
    )
    .bind(projection)
    .fetch_all(&catalog.pool)
    .await
    .map_err(doing("read requests"))?;
    let record = |row: &sqlx::sqlite::SqliteRow| RequestRecord {
        id: row.get("id"),
        request: row.get("request"),
    };
    Ok(rows.iter().map(record).collect())
}

pub(super) async fn answer_request(catalog: &SqliteCatalog, id: i64, outcome: &str) -> Result<()> {
    sqlx::query("UPDATE requests SET outcome = ? WHERE id = ? AND outcome IS NULL")
        .bind(outcome)
        .bind(id)
        .execute(&catalog.pool)
        .await
        .map_err(doing("answer a request"))?;
    Ok(())
}

pub(super) async fn outcome(catalog: &SqliteCatalog, id: i64) -> Result<Answer> {
    let outcome: Option<Option<String>> =
        sqlx::query_scalar("SELECT outcome FROM requests WHERE id = ?")
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

pub(super) async fn remove_request(catalog: &SqliteCatalog, id: i64) -> Result<bool> {
    let done = sqlx::query("DELETE FROM requests WHERE id = ?")
        .bind(id)
        .execute(&catalog.pool)
        .await
        .map_err(doing("take a request back"))?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn forget_outcomes(
    catalog: &SqliteCatalog,
    projection: &str,
    before_us: i64,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM requests
         WHERE projection = ? AND outcome IS NOT NULL AND requested_at < ?",
    )
    .bind(projection)
    .bind(before_us)
    .execute(&catalog.pool)
    .await
    .map_err(doing("forget outcomes"))?;
    Ok(())
}

//! The lasting names of majors.

use sqlx::{Row, Sqlite, Transaction};

use super::{Result, SqliteCatalog, doing};
use crate::catalog::stored::{heir, major_of, parse_version};

pub(super) async fn majors(
    catalog: &SqliteCatalog,
    projection: &str,
) -> Result<Vec<(u64, semver::Version)>> {
    let rows = sqlx::query("SELECT major, version FROM majors WHERE projection = ? ORDER BY major")
        .bind(projection)
        .fetch_all(&catalog.pool)
        .await
        .map_err(doing("list majors"))?;
    rows.iter()
        .map(|row| {
            let version = parse_version(&row.get::<String, _>("version"))?;
            Ok((row.get::<i64, _>("major").cast_unsigned(), version))
        })
        .collect()
}

pub(super) async fn set_major(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &semver::Version,
    replace: bool,
) -> Result<()> {
    let sql = if replace {
        "INSERT INTO majors (projection, major, version) VALUES (?, ?, ?)
         ON CONFLICT (projection, major) DO UPDATE SET version = excluded.version"
    } else {
        "INSERT INTO majors (projection, major, version) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    };
    sqlx::query(sql)
        .bind(projection)
        .bind(major_of(version))
        .bind(version.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(doing("name a major"))?;
    Ok(())
}

/// The version that a retired one's lasting name goes to: the newest promoted one of its major
/// that is ready, else the first that is ready, else none.
pub(super) async fn pass_on_major(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    retired: &semver::Version,
) -> Result<()> {
    let major = major_of(retired);
    let held: Option<String> =
        sqlx::query_scalar("SELECT version FROM majors WHERE projection = ? AND major = ?")
            .bind(projection)
            .bind(major)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(doing("read a major"))?;
    if held != Some(retired.to_string()) {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT version,
                (SELECT count(*) FROM switches s
                 WHERE s.projection = v.projection AND s.to_version = v.version) > 0 AS promoted
         FROM versions v WHERE projection = ? AND state = 'ready' ORDER BY created_at",
    )
    .bind(projection)
    .fetch_all(&mut **transaction)
    .await
    .map_err(doing("read versions"))?;
    let ready: Vec<(semver::Version, bool)> = rows
        .iter()
        .map(|row| {
            let version = parse_version(&row.get::<String, _>("version"))?;
            Ok((version, row.get("promoted")))
        })
        .collect::<Result<_>>()?;
    match heir(ready, major) {
        Some(heir) => set_major(transaction, projection, &heir, true).await,
        None => {
            sqlx::query("DELETE FROM majors WHERE projection = ? AND major = ?")
                .bind(projection)
                .bind(major)
                .execute(&mut **transaction)
                .await
                .map_err(doing("give up a major"))?;
            Ok(())
        }
    }
}

/// A promoted version takes its major's name, unless a newer promoted one of that major has it.
pub(super) async fn name_major_after_switch(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    to: &semver::Version,
) -> Result<()> {
    let held: Option<String> =
        sqlx::query_scalar("SELECT version FROM majors WHERE projection = ? AND major = ?")
            .bind(projection)
            .bind(major_of(to))
            .fetch_optional(&mut **transaction)
            .await
            .map_err(doing("read a major"))?;
    if let Some(held) = held {
        let promoted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM switches WHERE projection = ? AND to_version = ?",
        )
        .bind(projection)
        .bind(&held)
        .fetch_one(&mut **transaction)
        .await
        .map_err(doing("read switches"))?;
        if promoted > 0 && parse_version(&held)? > *to {
            return Ok(());
        }
    }
    set_major(transaction, projection, to, true).await
}

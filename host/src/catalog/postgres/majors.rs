//! The lasting names of majors.

use sqlx::{Postgres, Row, Transaction};

use super::{PgCatalog, Result, doing};
use crate::catalog::stored::{heir, major_of, parse_version};

pub(super) async fn majors(
    catalog: &PgCatalog,
    projection: &str,
) -> Result<Vec<(u64, semver::Version)>> {
    let rows = sqlx::query(
        "SELECT major, version FROM retell.majors WHERE projection = $1 ORDER BY major",
    )
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
    transaction: &mut Transaction<'static, Postgres>,
    projection: &str,
    version: &semver::Version,
    replace: bool,
) -> Result<()> {
    let sql = if replace {
        "INSERT INTO retell.majors (projection, major, version) VALUES ($1, $2, $3)
         ON CONFLICT (projection, major) DO UPDATE SET version = excluded.version"
    } else {
        "INSERT INTO retell.majors (projection, major, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
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
    transaction: &mut Transaction<'static, Postgres>,
    projection: &str,
    retired: &semver::Version,
) -> Result<()> {
    let major = major_of(retired);
    let held: Option<String> = sqlx::query_scalar(
        "SELECT version FROM retell.majors WHERE projection = $1 AND major = $2",
    )
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
                (SELECT count(*) FROM retell.switches s
                 WHERE s.projection = v.projection AND s.to_version = v.version) > 0 AS promoted
         FROM retell.versions v WHERE projection = $1 AND state = 'ready' ORDER BY created_at",
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
            sqlx::query("DELETE FROM retell.majors WHERE projection = $1 AND major = $2")
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
    transaction: &mut Transaction<'static, Postgres>,
    projection: &str,
    to: &semver::Version,
) -> Result<()> {
    let held: Option<String> = sqlx::query_scalar(
        "SELECT version FROM retell.majors WHERE projection = $1 AND major = $2",
    )
    .bind(projection)
    .bind(major_of(to))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(doing("read a major"))?;
    if let Some(held) = held {
        let promoted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM retell.switches WHERE projection = $1 AND to_version = $2",
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

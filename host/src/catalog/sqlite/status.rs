//! The status of versions: the pure machine, applied to what is stored.

use sqlx::{Row, Sqlite, Transaction};

use super::majors::{pass_on_major, set_major};
use super::{Result, SqliteCatalog, doing};
use crate::catalog::stored::{parse_status, stored_errors, stored_limits};
use crate::catalog::{CatalogError, NewRules};
use crate::lifecycle::state::{Change, Status};

pub(super) async fn change(
    catalog: &SqliteCatalog,
    projection: &str,
    version: &semver::Version,
    change: Change,
) -> Result<Status> {
    let text = version.to_string();
    let mut transaction = catalog.begin().await?;
    let after = change_status(&mut transaction, projection, &text, &change).await?;
    match change {
        Change::BecomeReady => set_major(&mut transaction, projection, version, false).await?,
        Change::Retire => {
            pass_on_major(&mut transaction, projection, version).await?;
            set_promote(&mut transaction, projection, &text, false).await?;
            sqlx::query(
                "UPDATE builds SET stage = 'discarded'
                 WHERE projection = ? AND version = ? AND stage IN ('current', 'successor')",
            )
            .bind(projection)
            .bind(&text)
            .execute(&mut *transaction)
            .await
            .map_err(doing("give up builds"))?;
        }
        _ => {}
    }
    transaction
        .commit()
        .await
        .map_err(doing("change a version"))?;
    Ok(after)
}

pub(super) async fn set_promote_when_ready(
    catalog: &SqliteCatalog,
    projection: &str,
    version: &semver::Version,
    promote: bool,
) -> Result<()> {
    let mut transaction = catalog.begin().await?;
    set_promote(&mut transaction, projection, &version.to_string(), promote).await?;
    transaction
        .commit()
        .await
        .map_err(doing("note a promotion"))
}

/// The status in the catalog, inside a transaction.
pub(super) async fn status(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
) -> Result<Status> {
    let row = sqlx::query(
        "SELECT state, role, halt, halt_reason FROM versions WHERE projection = ? AND version = ?",
    )
    .bind(projection)
    .bind(version)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(doing("read a version"))?;
    let row = row.ok_or_else(|| CatalogError::NoVersion {
        projection: projection.to_owned(),
        version: version.to_owned(),
    })?;
    status_of(&row)
}

pub(super) fn status_of(row: &sqlx::sqlite::SqliteRow) -> Result<Status> {
    let word = |column: &str| row.get::<String, _>(column);
    parse_status(
        &word("state"),
        &word("role"),
        &word("halt"),
        row.get("halt_reason"),
    )
}

/// Applies the pure machine to what is stored.
pub(super) async fn change_status(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    change: &Change,
) -> Result<Status> {
    let before = status(transaction, projection, version).await?;
    let after = before
        .after(change)
        .map_err(|source| CatalogError::Refused {
            projection: projection.to_owned(),
            version: version.to_owned(),
            source,
        })?;
    sqlx::query(
        "UPDATE versions SET state = ?, role = ?, halt = ?, halt_reason = ?
         WHERE projection = ? AND version = ?",
    )
    .bind(after.state.word())
    .bind(after.role.as_str())
    .bind(after.halt.word())
    .bind(after.halt.reason())
    .bind(projection)
    .bind(version)
    .execute(&mut **transaction)
    .await
    .map_err(doing("change a version's status"))?;
    Ok(after)
}

pub(super) async fn set_promote(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    promote: bool,
) -> Result<()> {
    sqlx::query("UPDATE versions SET promote_when_ready = ? WHERE projection = ? AND version = ?")
        .bind(promote)
        .bind(projection)
        .bind(version)
        .execute(&mut **transaction)
        .await
        .map_err(doing("note a promotion"))?;
    Ok(())
}

/// Changes those rules that are given.
pub(super) async fn set_rules(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    rules: &NewRules,
) -> Result<()> {
    let errors = rules.errors.map(stored_errors);
    sqlx::query(
        "UPDATE versions SET on_error = coalesce(?, on_error),
             dead_letters_max = coalesce(?, dead_letters_max), limits = coalesce(?, limits),
             verify = coalesce(?, verify)
         WHERE projection = ? AND version = ?",
    )
    .bind(errors.map(|(on_error, _)| on_error))
    .bind(errors.map(|(_, dead_letters_max)| dead_letters_max))
    .bind(rules.limits.as_ref().map(stored_limits))
    .bind(rules.verify)
    .bind(projection)
    .bind(version)
    .execute(&mut **transaction)
    .await
    .map_err(doing("note a version's rules"))?;
    Ok(())
}

//! Dropping a read model for good. Readers that have it open get an error with their next statement,
//! and come to the live one by its views.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::fault::{Doing, fault};
use super::open::MARK;
use super::place::SchemaPlace;
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::postgres::{ServerUrl, Session};
use crate::read_model::{ModelName, ReadModelError};

pub(super) fn drop_read_model(place: &SchemaPlace) -> Result<(), ReadModelError> {
    let dropping = |error| fault(&place.name(), Doing::Drop, error);
    let mut session = Session::open(place.server()).map_err(dropping)?;
    let found = session
        .run(async |it| look(it, place).await)
        .map_err(dropping)?;
    match found {
        // Its roles may be left.
        Found::Nothing | Found::Ours => {}
        Found::Foreign => {
            return Err(ReadModelError::NotAReadModel {
                model: place.name(),
                reason: "its schema is not marked as one of retell's".to_owned(),
            });
        }
        Found::Used { by } => {
            return Err(ReadModelError::InUse {
                model: place.name(),
                message: format!("{by} depends on it, and would be dropped with it"),
            });
        }
    }
    session
        .run_within(POSTGRES_WORK_TIMEOUT, async |it| drop_all(it, place).await)
        .map_err(dropping)
}

/// The schemas of a database that are marked as builds of a log.
pub fn schemas_of(server: &ServerUrl, log_id: &str) -> Result<Vec<SchemaPlace>, ReadModelError> {
    let reading = |error| fault(&ModelName(server.to_string()), Doing::Read, error);
    let mut session = Session::open(server).map_err(reading)?;
    let schemas: Vec<String> = session
        .run(async |connection| {
            sqlx::query_scalar(
                "SELECT nspname::text FROM pg_namespace
                 WHERE obj_description(oid, 'pg_namespace') LIKE $1 || '%, build % of the log ' || $2",
            )
            .bind(MARK)
            .bind(log_id)
            .fetch_all(connection)
            .await
        })
        .map_err(reading)?;
    let place = |schema| SchemaPlace::new(server.clone(), schema);
    Ok(schemas.into_iter().map(place).collect())
}

enum Found {
    Nothing,
    Ours,
    Foreign,
    /// Something outside depends on it.
    Used {
        by: String,
    },
}

async fn look(connection: &mut PgConnection, place: &SchemaPlace) -> Result<Found, sqlx::Error> {
    let comment: Option<Option<String>> = sqlx::query_scalar(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1",
    )
    .bind(place.schema())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(comment) = comment else {
        return Ok(Found::Nothing);
    };
    if !comment.is_some_and(|it| it.starts_with(MARK)) {
        return Ok(Found::Foreign);
    }
    let by: Option<String> = sqlx::query_scalar(
        "SELECT 'the view ' || v.oid::regclass
         FROM pg_depend d
         JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         JOIN pg_class v ON v.oid = r.ev_class
         JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
         WHERE t.relnamespace = to_regnamespace(quote_ident($1))
             AND v.relnamespace <> t.relnamespace
         LIMIT 1",
    )
    .bind(place.schema())
    .fetch_optional(connection)
    .await?;
    Ok(by.map_or(Found::Ours, |by| Found::Used { by }))
}

async fn drop_all(connection: &mut PgConnection, place: &SchemaPlace) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let run = async |transaction: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await
    };
    // A reader's open transaction must not make others wait behind this.
    run(&mut transaction, "SET LOCAL lock_timeout = '2s'".to_owned()).await?;
    let schema = format!("DROP SCHEMA IF EXISTS {} CASCADE", place.quoted());
    run(&mut transaction, schema).await?;
    for role in [place.reader(), place.owner()] {
        let is_there: bool = sqlx::query_scalar("SELECT to_regrole($1) IS NOT NULL")
            .bind(&role)
            .fetch_one(&mut *transaction)
            .await?;
        if is_there {
            run(&mut transaction, format!("DROP OWNED BY {role}")).await?;
            // A copy of the database on the same server may need it still.
            let drop_role = format!(
                "DO $role$ BEGIN DROP ROLE {role};
                 EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $role$"
            );
            run(&mut transaction, drop_role).await?;
        }
    }
    transaction.commit().await
}

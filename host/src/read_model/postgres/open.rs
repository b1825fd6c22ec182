//! Making and opening read models: a schema and its roles, and the table that says what they are.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use super::schema::{TableSql, literal};
use super::{provenance, query};
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::postgres::{Failure, Session, failure};
use crate::read_model::{Provenance, ReadModelError, ReadModelStatus};

/// Begins the comment by which a schema is known as one of ours.
pub(super) const MARK: &str = "retell: ";

/// Makes a read model in a schema that must not exist.
pub(super) fn create(
    place: &SchemaPlace,
    tables: &[TableSql],
    provenance: &Provenance,
    epoch: u64,
    now_us: i64,
) -> Result<Session, ReadModelError> {
    let creating = |error| fault(&place.name(), Doing::Create, error);
    let mut session = Session::open(place.server()).map_err(creating)?;
    let made = session
        .run(async |connection| {
            let mut transaction = connection.begin().await?;
            let is_there: bool =
                sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
                    .bind(place.schema())
                    .fetch_one(&mut *transaction)
                    .await?;
            if is_there {
                return Ok(false);
            }
            make_schema(&mut transaction, place, provenance).await?;
            let mut make = vec![provenance::create(place)];
            for table in tables {
                make.push(table.create.clone());
                // The others come when the replay is done, or with the first scan of them.
                let unique = table.indexes.iter().filter(|index| index.unique);
                make.extend(unique.map(|index| index.create.clone()));
            }
            for sql in make {
                sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut *transaction)
                    .await?;
            }
            provenance::insert(&mut transaction, place, provenance, epoch, now_us).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .map_err(creating)?;
    if !made {
        return Err(ReadModelError::Exists {
            model: place.name(),
        });
    }
    replaying_mode(&mut session).map_err(creating)?;
    Ok(session)
}

/// The schema with a role that owns it and one that reads from it, where this role may make roles;
/// the session goes on as the owner.
async fn make_schema(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    provenance: &Provenance,
) -> Result<(), sqlx::Error> {
    let (schema, owner, reader) = (place.quoted(), place.owner(), place.reader());
    let mark = literal(&format!(
        "{MARK}{}@{}, build {} of the log {}",
        provenance.projection, provenance.version, provenance.build, provenance.log_id
    ));
    let with_roles = format!(
        "SAVEPOINT roles;
         DO $roles$ BEGIN
             -- A copy of the database on the same server has the same builds, and shares their roles.
             IF to_regrole('{owner}') IS NULL THEN CREATE ROLE {owner} NOLOGIN; END IF;
             IF to_regrole('{reader}') IS NULL THEN CREATE ROLE {reader} NOLOGIN; END IF;
         END $roles$;
         GRANT {owner}, {reader} TO CURRENT_USER;
         CREATE SCHEMA {schema} AUTHORIZATION {owner};
         COMMENT ON SCHEMA {schema} IS {mark};
         SET ROLE {owner};
         GRANT USAGE ON SCHEMA {schema} TO {reader};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader};
         {}; RESET ROLE; {}; SET ROLE {owner}",
        query::make_runner(place),
        query::give_runner_to_reader(place)
    );
    let made = sqlx::raw_sql(AssertSqlSafe(with_roles))
        .execute(&mut *connection)
        .await;
    match made {
        Err(error) if failure(&error) == Failure::Denied => {
            let without = format!(
                "ROLLBACK TO roles;
                 CREATE SCHEMA {schema};
                 COMMENT ON SCHEMA {schema} IS {mark};
                 {}",
                query::make_runner(place)
            );
            sqlx::raw_sql(AssertSqlSafe(without))
                .execute(connection)
                .await?;
            Ok(())
        }
        made => made.map(drop),
    }
}

/// Opens a read model for writing, after looking whether it is the one expected, and takes it over
/// for `epoch`.
pub(super) fn open(
    place: &SchemaPlace,
    tables: &[TableSql],
    expected: &Provenance,
    epoch: u64,
) -> Result<(Session, ReadModelStatus), ReadModelError> {
    let opening = |error| fault(&place.name(), Doing::Open, error);
    let mut session = place.connect().map_err(opening)?;
    let status = session
        .run(async |it| Ok(provenance::read(it, place).await))
        .map_err(opening)??;
    status.provenance.check(expected, place.name())?;
    let missing = session
        .run(async |it| missing_table(it, tables).await)
        .map_err(opening)?;
    if let Some(table) = missing {
        return Err(ReadModelError::Malformed {
            model: place.name(),
            message: format!("its table `{table}` is missing"),
        });
    }
    take_over(&mut session, place, epoch)?;
    // Whoever was still writing has committed by now, or never will.
    let status = session
        .run(async |it| Ok(provenance::read(it, place).await))
        .map_err(opening)??;
    if !status.ready {
        replaying_mode(&mut session).map_err(opening)?;
    }
    Ok((session, status))
}

async fn missing_table(
    connection: &mut PgConnection,
    tables: &[TableSql],
) -> Result<Option<String>, sqlx::Error> {
    for table in tables {
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&table.qualified)
            .fetch_one(&mut *connection)
            .await?;
        if !is_there {
            return Ok(Some(table.name.clone()));
        }
    }
    Ok(None)
}

/// Writes the epoch, unless a later one is there already. Waits for a flush that is being written.
pub(super) fn take_over(
    session: &mut Session,
    place: &SchemaPlace,
    epoch: u64,
) -> Result<(), ReadModelError> {
    let stored = session
        .run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
            let mut transaction = connection.begin().await?;
            let stored = provenance::lock_epoch(&mut transaction, place).await?;
            if stored < epoch {
                provenance::update_epoch(&mut transaction, place, epoch).await?;
            }
            transaction.commit().await?;
            Ok(stored)
        })
        .map_err(|error| fault(&place.name(), Doing::Open, error))?;
    if stored > epoch {
        return Err(ReadModelError::FencedOff {
            model: place.name(),
            ours: epoch,
            theirs: stored,
        });
    }
    Ok(())
}

/// While replaying, the server need not sync each flush: what a crash takes back is replayed, since
/// the checkpoint went with it. (Tables that are unlogged until then were slower by a quarter: making
/// 920,000 rows logged takes longer than logging them as they come.)
fn replaying_mode(session: &mut Session) -> Result<(), sqlx::Error> {
    session.run(async |connection| {
        sqlx::raw_sql("SET synchronous_commit = off")
            .execute(connection)
            .await
            .map(drop)
    })
}

/// From now on what is committed is durable.
pub(super) fn following_mode(session: &mut Session) -> Result<(), sqlx::Error> {
    session.run(async |connection| {
        sqlx::raw_sql("SET synchronous_commit = on")
            .execute(connection)
            .await
            .map(drop)
    })
}

/// What a read model says of itself.
pub(super) fn status(place: &SchemaPlace) -> Result<ReadModelStatus, ReadModelError> {
    let opening = |error| fault(&place.name(), Doing::Open, error);
    let mut session = Session::open(place.server()).map_err(opening)?;
    session
        .run(async |it| Ok(provenance::read(it, place).await))
        .map_err(opening)?
}

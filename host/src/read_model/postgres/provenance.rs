//! The one-row table `retell_read_model`, by which any program can tell what it reads.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::fault::{Doing, fault};
use super::journal;
use super::place::SchemaPlace;
use crate::postgres::{Failure, Timestamp, failure};
use crate::read_model::{Checkpoint, Provenance, ReadModelError, ReadModelStatus, Role};

pub(super) const TABLE: &str = "retell_read_model";

/// `time` is when the checkpoint was committed.
pub(super) fn create(place: &SchemaPlace) -> String {
    format!(
        "CREATE TABLE {} (
            projection text NOT NULL,
            version text NOT NULL,
            role text NOT NULL CHECK (role IN ('none', 'live', 'previous')),
            position bigint NOT NULL,
            time timestamptz NOT NULL,
            log_id text NOT NULL,
            log_hash bytea NOT NULL,
            module_digest text NOT NULL,
            sdk text NOT NULL,
            contract text NOT NULL,
            build bigint NOT NULL,
            epoch bigint NOT NULL,
            events_per_s double precision NOT NULL,
            ready boolean NOT NULL
        ) WITH (fillfactor = 50)",
        place.own_table()
    )
}

/// Writes the row of a fresh read model.
pub(super) async fn insert(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    provenance: &Provenance,
    epoch: u64,
    now_us: i64,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO {} (projection, version, role, position, time, log_id, log_hash, module_digest,
                         sdk, contract, build, epoch, events_per_s, ready)
         VALUES ($1, $2, 'none', 0, $3, $4, $5, $6, $7, $8, $9, $10, 0, false)",
        place.own_table()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&provenance.projection)
        .bind(&provenance.version)
        .bind(Timestamp(now_us))
        .bind(&provenance.log_id)
        .bind([0_u8; 32])
        .bind(&provenance.module_digest)
        .bind(&provenance.sdk)
        .bind(&provenance.contract)
        .bind(provenance.build)
        .bind(epoch.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the row on to a checkpoint.
pub(super) async fn update_checkpoint(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    checkpoint: Checkpoint,
    now_us: i64,
    events_per_s: f64,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "UPDATE {} SET position = $1, log_hash = $2, time = $3, events_per_s = $4",
        place.own_table()
    );
    let rate = if events_per_s.is_finite() {
        events_per_s
    } else {
        0.0
    };
    sqlx::query(AssertSqlSafe(sql))
        .bind(checkpoint.position.cast_signed())
        .bind(checkpoint.log_hash)
        .bind(Timestamp(now_us))
        .bind(rate)
        .execute(connection)
        .await?;
    Ok(())
}

/// The epoch of the host that may write. Nobody can change it before the transaction ends.
pub(super) async fn lock_epoch(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<u64, sqlx::Error> {
    let sql = format!("SELECT epoch FROM {} FOR UPDATE", place.own_table());
    let epoch: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?;
    Ok(epoch.cast_unsigned())
}

pub(super) async fn update_epoch(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    epoch: u64,
) -> Result<(), sqlx::Error> {
    let sql = format!("UPDATE {} SET epoch = $1", place.own_table());
    sqlx::query(AssertSqlSafe(sql))
        .bind(epoch.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn update_role(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    role: Role,
) -> Result<(), sqlx::Error> {
    let sql = format!("UPDATE {} SET role = $1", place.own_table());
    sqlx::query(AssertSqlSafe(sql))
        .bind(role.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn update_ready(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<(), sqlx::Error> {
    let sql = format!("UPDATE {} SET ready = true", place.own_table());
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Reads the row; the error says why the schema is not a read model.
pub(super) async fn read(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<ReadModelStatus, ReadModelError> {
    let not_ours = |reason: &str| ReadModelError::NotAReadModel {
        model: place.name(),
        reason: reason.to_owned(),
    };
    let opening = |error| fault(&place.name(), Doing::Open, error);
    let has_schema: bool =
        sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
            .bind(place.schema())
            .fetch_one(&mut *connection)
            .await
            .map_err(opening)?;
    if !has_schema {
        return Err(ReadModelError::Missing {
            model: place.name(),
        });
    }
    let sql = format!(
        "SELECT projection, version, role, position, time, log_id, log_hash, module_digest, sdk,
                contract, build, epoch, events_per_s, ready
         FROM {}",
        place.own_table()
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .fetch_optional(&mut *connection)
        .await
        .map_err(|error| match failure(&error) {
            Failure::NoObject => not_ours("it has no table `retell_read_model` of this make"),
            _ => opening(error),
        })?
        .ok_or_else(|| not_ours("its table `retell_read_model` is empty"))?;
    let open_entries = journal::count_open(connection, place)
        .await
        .map_err(opening)?;
    let status = || -> Result<ReadModelStatus, sqlx::Error> {
        let role: String = row.try_get(2)?;
        let position = row.try_get::<i64, _>(3)?.cast_unsigned();
        Ok(ReadModelStatus {
            provenance: Provenance {
                projection: row.try_get(0)?,
                version: row.try_get(1)?,
                log_id: row.try_get(5)?,
                module_digest: row.try_get(7)?,
                sdk: row.try_get(8)?,
                contract: row.try_get(9)?,
                build: row.try_get(10)?,
            },
            role: Role::parse(&role).unwrap_or(Role::None),
            checkpoint: Checkpoint {
                position,
                log_hash: row.try_get(6)?,
            },
            flushed: position,
            time: row.try_get::<Timestamp, _>(4)?.0,
            epoch: row.try_get::<i64, _>(11)?.cast_unsigned(),
            events_per_s: row.try_get(12)?,
            ready: row.try_get(13)?,
            dead_letters: open_entries,
        })
    };
    status().map_err(|error| {
        not_ours(&format!(
            "its table `retell_read_model` is of another make ({error})"
        ))
    })
}

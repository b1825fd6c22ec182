//! Opening a log: what state a database is in, preparing a log in it, bringing an older one up to
//! date, and letting other roles use it.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::errors::explain;
use crate::log::{Cause, LogError, LogName, OpenMode, chain};
use crate::postgres::{ServerUrl, grant, make_role, shares_sessions};

/// What a log says of itself.
pub(super) struct Identity {
    pub(super) log_id: String,
}

/// What is in a database.
enum State {
    /// No schema `retell`.
    Missing,
    /// A log whose schema is older than this version's; 0: its creation was interrupted.
    Older(i64),
    Current(Identity),
}

/// Opens, prepares or migrates as the mode allows. Returns whether anything was changed.
pub(super) async fn prepare(
    url: &ServerUrl,
    log: &LogName,
    pool: &PgPool,
    mode: OpenMode,
    now_us: i64,
) -> Result<(Identity, bool), LogError> {
    let connecting = |error| explain(log, "connecting", error);
    let mut connection = pool.acquire().await.map_err(connecting)?;
    if shares_sessions(url).await.map_err(connecting)? {
        return Err(LogError::Pooled { log: log.clone() });
    }
    match inspect(log, &mut connection).await? {
        State::Current(identity) => return Ok((identity, false)),
        State::Missing if mode == OpenMode::Existing => {
            return Err(LogError::Missing { log: log.clone() });
        }
        State::Older(found) if mode == OpenMode::Existing => return Err(older(log, found)),
        State::Older(found) if found > 0 && mode != OpenMode::CreateOrMigrate => {
            return Err(older(log, found));
        }
        State::Missing | State::Older(_) => {}
    }
    migrate(log, &mut connection, now_us).await?;
    match inspect(log, &mut connection).await? {
        State::Current(identity) => Ok((identity, true)),
        State::Missing | State::Older(_) => Err(older(log, 0)),
    }
}

fn older(log: &LogName, found: i64) -> LogError {
    LogError::Older {
        log: log.clone(),
        found,
        wanted: schema_version(),
    }
}

fn newer(log: &LogName, found: i64, supported: i64) -> LogError {
    LogError::Newer {
        log: log.clone(),
        found,
        supported,
    }
}

/// The log's migrations. The catalog shares the schema and keeps a table of its own.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("host/migrations/postgres/log");
    migrator.dangerous_set_table_name("retell.log_migrations");
    migrator
}

/// The schema that this version writes and reads.
fn schema_version() -> i64 {
    let versions = migrator().iter().map(|it| it.version).collect::<Vec<_>>();
    versions.into_iter().max().unwrap_or(0)
}

/// Looks at a database without changing it.
async fn inspect(log: &LogName, connection: &mut PgConnection) -> Result<State, LogError> {
    let reading = |error| explain(log, "reading its schema", error);
    let found = sqlx::query(
        "SELECT to_regnamespace('retell') IS NOT NULL AS has_schema,
                to_regclass('retell.log_migrations') IS NOT NULL AS has_log,
                EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace('retell'))
                    AS has_tables,
                current_setting('server_encoding') AS encoding,
                current_setting('server_version_num')::int AS server",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(reading)?;
    let not_a_log = |problem: &str| LogError::NotALog {
        log: log.clone(),
        problem: problem.to_owned(),
    };
    if found.get::<String, _>("encoding") != "UTF8" {
        return Err(not_a_log("its encoding is not UTF8"));
    }
    if found.get::<i32, _>("server") < SERVER_VERSION_MIN {
        return Err(not_a_log("its server is older than PostgreSQL 14"));
    }
    if !found.get::<bool, _>("has_log") {
        if found.get("has_tables") {
            return Err(not_a_log(
                "it has a schema `retell` with other tables in it",
            ));
        }
        return Ok(if found.get("has_schema") {
            State::Older(0)
        } else {
            State::Missing
        });
    }
    let found: i64 = sqlx::query_scalar(
        "SELECT coalesce(max(version), 0) FROM retell.log_migrations WHERE success",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(reading)?;
    let supported = schema_version();
    if found > supported {
        return Err(newer(log, found, supported));
    }
    if found < supported {
        return Ok(State::Older(found));
    }
    let head: Option<(String, i16)> = sqlx::query_as("SELECT log_id, format FROM retell.log_head")
        .fetch_optional(connection)
        .await
        .map_err(reading)?;
    match head {
        None => Ok(State::Older(0)),
        Some((_, format)) if format > i16::from(chain::FORMAT) => {
            Err(newer(log, format.into(), chain::FORMAT.into()))
        }
        Some((log_id, _)) => Ok(State::Current(Identity { log_id })),
    }
}

/// The first with all that the log's functions use.
const SERVER_VERSION_MIN: i32 = 140_000;

/// Runs what is missing of the migrations, and gives a new log its id. Another process may do the
/// same at the same time: the migrations are run under a lock.
async fn migrate(
    log: &LogName,
    connection: &mut PgConnection,
    now_us: i64,
) -> Result<(), LogError> {
    let creating = |error| match explain(log, "preparing the log", error) {
        LogError::Storage { log, source, .. } => LogError::Create { log, source },
        other => other,
    };
    sqlx::raw_sql("CREATE SCHEMA IF NOT EXISTS retell")
        .execute(&mut *connection)
        .await
        .map_err(creating)?;
    migrator()
        .run_direct(None, &mut *connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(found) => newer(log, found, schema_version()),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                creating(error)
            }
            other => LogError::Create {
                log: log.clone(),
                source: Cause::from(other),
            },
        })?;
    let millis = u64::try_from(now_us / 1000).unwrap_or(0);
    let log_id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random())
        .into_uuid()
        .hyphenated()
        .encode_lower(&mut Uuid::encode_buffer())
        .to_owned();
    sqlx::query(
        "INSERT INTO retell.log_head (log_id, format, position, hash, recorded_at)
         VALUES ($1, $2, 0, $3, 'epoch') ON CONFLICT DO NOTHING",
    )
    .bind(&log_id)
    .bind(i16::from(chain::FORMAT))
    .bind(chain::first_previous(&log_id))
    .execute(connection)
    .await
    .map_err(creating)?;
    Ok(())
}

/// A role that is let into a log, and what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// Runs the host: appends, reads, and keeps the catalog.
    Host,
    /// An application: appends with `retell.append` and `retell.inbox`, and sees nothing.
    Application,
}

/// What each kind of role is granted.
const HOST_GRANTS: [&str; 7] = [
    "GRANT USAGE ON SCHEMA retell TO {role}",
    "GRANT SELECT ON retell.events, retell.log_head, retell.imports, retell.inbox,
         retell.inbox_rejected, retell.log_migrations TO {role}",
    "GRANT INSERT ON retell.events, retell.inbox_rejected TO {role}",
    "GRANT INSERT, UPDATE, DELETE ON retell.imports TO {role}",
    "GRANT INSERT, DELETE, UPDATE ON retell.inbox TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA retell TO {role}",
    // Read models are schemas of their own. Whoever may not grant this leaves them to other databases.
    "DO $$ BEGIN
         IF has_database_privilege(current_database(), 'CREATE WITH GRANT OPTION') THEN
             EXECUTE format('GRANT CREATE ON DATABASE %I TO %s', current_database(), '{role}');
         END IF;
     END $$",
];
const APPLICATION_GRANTS: [&str; 3] = [
    "GRANT USAGE ON SCHEMA retell TO {role}",
    "GRANT INSERT ON retell.inbox TO {role}",
    "GRANT EXECUTE ON FUNCTION
         retell.append(text, text, json, text, json, timestamptz, bigint) TO {role}",
];

/// Lets a role in, and makes it where there is none and this role may make one. Returns whether it
/// was made: then it can log in, but has no password yet.
pub(super) async fn admit_role(
    log: &LogName,
    pool: &PgPool,
    role: &str,
    kind: RoleKind,
) -> Result<bool, LogError> {
    let made = make_role(pool, role)
        .await
        .map_err(|error| explain(log, "making a role (which takes CREATEROLE)", error))?;
    let grants: &[&str] = match kind {
        RoleKind::Host => &HOST_GRANTS,
        RoleKind::Application => &APPLICATION_GRANTS,
    };
    grant(pool, role, grants)
        .await
        .map_err(|error| explain(log, "letting a role in", error))?;
    Ok(made)
}

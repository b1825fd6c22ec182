//! The names by which programs read from a server: the schema `articles` for the live version, and
//! `articles_v2` for major 2. They hold views of the tables of a build, put in place in one
//! transaction, so that a reader finds the old read model or the new one and never neither.
//!
//! The catalog is the truth; these views follow it. What others built on them is never dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use super::schema::{literal, quote};
use crate::clock::Stopwatch;
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::postgres::{Failure, ServerUrl, Session, failure};
use crate::read_model::{ModelName, ReadModelError};

/// How long a switch waits for a lock at a time: a lock that waits makes all readers wait behind it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two attempts to get the locks …
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// … and how long it is attempted.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(15);
/// Begins the comment by which a schema of views is known as one of ours.
const MARK: &str = "retell views: ";

/// The views of one projection on one server.
#[derive(Debug, Clone)]
pub struct Views {
    server: ServerUrl,
    projection: String,
    log_id: String,
}

/// Schemas of views on one server, each with the build that it is to show.
#[derive(Debug, Clone)]
pub struct ServerViews {
    pub views: Views,
    pub wanted: Vec<(String, SchemaPlace)>,
}

impl ServerViews {
    pub(crate) fn server(&self) -> &ServerUrl {
        &self.views.server
    }

    /// Makes the views exactly those wanted. Blocking.
    pub(crate) fn follow(&self) -> Result<(), ReadModelError> {
        self.views.attempt(&self.wanted, true)
    }

    /// Finds out whether [`follow`](Self::follow) would succeed, and changes nothing. Blocking.
    pub(crate) fn check(&self) -> Result<(), ReadModelError> {
        self.views.attempt(&self.wanted, false)
    }

    /// [`follow`](Self::follow), as part of somebody's transaction, whose other locks are then waited
    /// for as shortly.
    pub(crate) async fn follow_within(
        &self,
        transaction: &mut PgConnection,
    ) -> Result<Result<(), ReadModelError>, sqlx::Error> {
        self.views.in_transaction(transaction, &self.wanted).await
    }
}

/// The build that a schema of views shows now; none where there is no such schema. Blocking.
pub(crate) fn shown_build(server: &ServerUrl, schema: &str) -> Result<Option<i64>, ReadModelError> {
    let name = ModelName(format!("{server}#{schema}"));
    let mut session = Session::open(server).map_err(|error| explain(&name, error))?;
    let sql = format!("SELECT build FROM {}.retell_read_model", quote(schema));
    let shown = session.run(async |connection| {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_optional(connection)
            .await
    });
    match shown {
        Err(error) if failure(&error) == Failure::NoObject => Ok(None),
        shown => shown.map_err(|error| explain(&name, error)),
    }
}

/// The columns of a table or view, with their types.
type Columns = Vec<(String, String)>;

/// What somebody may do with a view: who, what, on which column if on one, and whether they may pass
/// it on.
struct Grant {
    grantee: String,
    privilege: String,
    column: Option<String>,
    grantable: bool,
}

impl Views {
    pub fn new(server: &ServerUrl, projection: &str, log_id: &str) -> Self {
        Self {
            server: server.clone(),
            projection: projection.to_owned(),
            log_id: log_id.to_owned(),
        }
    }

    /// What the schema of the live version, or of a major, is called.
    pub fn schema(projection: &str, major: Option<u64>) -> String {
        major.map_or_else(
            || projection.to_owned(),
            |major| format!("{projection}_v{major}"),
        )
    }

    fn attempt(
        &self,
        wanted: &[(String, SchemaPlace)],
        for_good: bool,
    ) -> Result<(), ReadModelError> {
        let name = ModelName(format!("{}#{}", self.server, self.projection));
        let explain = |error: sqlx::Error| explain(&name, error);
        let mut session = Session::open(&self.server).map_err(explain)?;
        let began = Stopwatch::start();
        loop {
            let done = session.run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
                let mut transaction = connection.begin().await?;
                let done = self.in_transaction(&mut transaction, wanted).await?;
                match (&done, for_good) {
                    (Ok(()), true) => transaction.commit().await?,
                    _ => transaction.rollback().await?,
                }
                Ok(done)
            });
            match done {
                Err(error)
                    if failure(&error) == Failure::Busy && began.elapsed() < LOCK_PATIENCE =>
                {
                    std::thread::sleep(LOCK_PAUSE);
                }
                done => return done.map_err(explain)?,
            }
        }
    }

    async fn in_transaction(
        &self,
        connection: &mut PgConnection,
        wanted: &[(String, SchemaPlace)],
    ) -> Result<Result<(), ReadModelError>, sqlx::Error> {
        let timeout = format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        run(connection, timeout).await?;
        for (schema, build) in wanted {
            if let Err(refused) = self.take_schema(connection, schema).await? {
                return Ok(Err(refused));
            }
            if let Err(refused) = self.show(connection, schema, build).await? {
                return Ok(Err(refused));
            }
        }
        for schema in self.ours(connection).await? {
            if !wanted.iter().any(|(kept, _)| *kept == schema) {
                for view in relations(connection, &schema, OURS).await?.into_keys() {
                    run(connection, drop_view(&schema, &view)).await?;
                }
                // Somebody may keep something of their own there.
                if is_empty(connection, &schema).await? {
                    run(connection, format!("DROP SCHEMA {}", quote(&schema))).await?;
                }
            }
        }
        Ok(Ok(()))
    }

    fn mark(&self) -> String {
        format!("{MARK}{} of the log {}", self.projection, self.log_id)
    }

    /// The schemas of views of this projection that there are.
    async fn ours(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT nspname::text FROM pg_namespace
             WHERE obj_description(oid, 'pg_namespace') = $1 ORDER BY 1",
        )
        .bind(self.mark())
        .fetch_all(connection)
        .await
    }

    /// Makes the schema, or makes sure that it is this projection's.
    async fn take_schema(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> Result<Result<(), ReadModelError>, sqlx::Error> {
        let found: Option<Option<String>> = sqlx::query_scalar(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1",
        )
        .bind(schema)
        .fetch_optional(&mut *connection)
        .await?;
        let reason = match found {
            None => {
                run(connection, format!("CREATE SCHEMA {}", quote(schema))).await?;
                let mark = literal(&self.mark());
                let comment = format!("COMMENT ON SCHEMA {} IS {mark}", quote(schema));
                run(connection, comment).await?;
                return Ok(Ok(()));
            }
            Some(Some(comment)) if comment == self.mark() => return Ok(Ok(())),
            Some(Some(comment)) if comment.starts_with(MARK) => {
                format!("it holds the views of {}", &comment[MARK.len()..])
            }
            Some(_) => "it is not marked as one of retell's".to_owned(),
        };
        Ok(Err(ReadModelError::NotAReadModel {
            model: ModelName(format!("{}#{schema}", self.server)),
            reason,
        }))
    }

    /// Makes the schema's views those of the build's tables and views. What others made there stays.
    async fn show(
        &self,
        connection: &mut PgConnection,
        schema: &str,
        build: &SchemaPlace,
    ) -> Result<Result<(), ReadModelError>, sqlx::Error> {
        let wanted = relations(connection, build.schema(), ANY).await?;
        let there = relations(connection, schema, OURS).await?;
        let all = relations(connection, schema, ANY).await?;
        let foreign = |name: &&String| all.contains_key(*name) && !there.contains_key(*name);
        if let Some(name) = wanted.keys().find(foreign) {
            return Ok(Err(ReadModelError::InUse {
                model: ModelName(format!("{}#{schema}", self.server)),
                message: format!(
                    "`{schema}.{name}` is none of retell's, and has the name of a table"
                ),
            }));
        }
        for gone in there.keys().filter(|name| !wanted.contains_key(*name)) {
            run(connection, drop_view(schema, gone)).await?;
        }
        for (name, columns) in &wanted {
            // A view can be replaced where it keeps its columns, and gets more behind them.
            let before = there.get(name);
            let is_replaced = before.is_some_and(|before| columns.starts_with(before));
            let mut grants = Vec::new();
            if before.is_some() && !is_replaced {
                grants = grants_on(connection, schema, name).await?;
                run(connection, drop_view(schema, name)).await?;
            }
            let listed: Vec<String> = columns.iter().map(|(column, _)| quote(column)).collect();
            let view = format!("{}.{}", quote(schema), quote(name));
            let create = format!(
                "CREATE OR REPLACE VIEW {view} AS SELECT {} FROM {}.{}",
                listed.join(", "),
                build.quoted(),
                quote(name)
            );
            run(connection, create).await?;
            for grant in grants {
                let still_there = |it: &String| columns.iter().any(|(name, _)| name == it);
                if grant.column.as_ref().is_none_or(still_there) {
                    run(connection, grant.sql(&view)).await?;
                }
            }
        }
        Ok(Ok(()))
    }
}

impl Grant {
    fn sql(&self, view: &str) -> String {
        let column = self
            .column
            .as_ref()
            .map_or(String::new(), |column| format!(" ({})", quote(column)));
        let option = if self.grantable {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        format!(
            "GRANT {}{column} ON {view} TO {}{option}",
            self.privilege, self.grantee
        )
    }
}

fn drop_view(schema: &str, view: &str) -> String {
    format!("DROP VIEW {}.{}", quote(schema), quote(view))
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}

/// Whether nothing is left in a schema.
async fn is_empty(connection: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (
             SELECT 1 FROM pg_depend
             WHERE refclassid = 'pg_namespace'::regclass
                 AND refobjid = to_regnamespace(quote_ident($1)) AND deptype = 'n')",
    )
    .bind(schema)
    .fetch_one(connection)
    .await
}

/// All relations.
const ANY: &str = "true";
/// Views that retell made: of something in a build's schema.
const OURS: &str = "c.relkind = 'v' AND EXISTS (
    SELECT 1 FROM pg_rewrite w
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class t ON t.oid = d.refobjid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE w.ev_class = c.oid AND n.nspname LIKE 'retell\\_%\\_b%')";

/// Tables and views of a schema, by name, with those columns.
async fn relations(
    connection: &mut PgConnection,
    schema: &str,
    which: &str,
) -> Result<BTreeMap<String, Columns>, sqlx::Error> {
    let sql = format!(
        "SELECT c.relname::text, a.attname::text,
                format_type(a.atttypid, a.atttypmod) || coalesce(' COLLATE ' || l.collname, '')
         FROM pg_class c
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_collation l ON l.oid = a.attcollation
         WHERE c.relnamespace = to_regnamespace(quote_ident($1))
             AND c.relkind IN ('r', 'v', 'm', 'p') AND c.relname <> 'retell_journal' AND {which}
         ORDER BY c.relname, a.attnum"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(schema)
        .fetch_all(connection)
        .await?;
    let mut found: BTreeMap<String, Columns> = BTreeMap::new();
    for row in rows {
        let columns = found.entry(row.try_get(0)?).or_default();
        columns.push((row.try_get(1)?, row.try_get(2)?));
    }
    Ok(found)
}

/// What others than the owner may do with a view.
async fn grants_on(
    connection: &mut PgConnection,
    schema: &str,
    view: &str,
) -> Result<Vec<Grant>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                a.privilege_type, NULL::text, a.is_grantable
         FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.oid = to_regclass($1) AND a.grantee <> c.relowner
         UNION ALL
         SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                a.privilege_type, t.attname::text, a.is_grantable
         FROM pg_class c, pg_attribute t, aclexplode(t.attacl) a
         WHERE c.oid = to_regclass($1) AND t.attrelid = c.oid AND a.grantee <> c.relowner",
    )
    .bind(format!("{}.{}", quote(schema), quote(view)))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Grant {
                grantee: row.try_get(0)?,
                privilege: row.try_get(1)?,
                column: row.try_get(2)?,
                grantable: row.try_get(3)?,
            })
        })
        .collect()
}

fn explain(name: &ModelName, error: sqlx::Error) -> ReadModelError {
    let in_use = error.as_database_error().and_then(|database| {
        let database = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?;
        // Other objects depend on it; the detail names them.
        (database.code() == "2BP01").then(|| {
            let detail = database.detail().unwrap_or_default().replace('\n', ", ");
            format!("{}: {detail}", database.message())
        })
    });
    match in_use {
        Some(message) => ReadModelError::InUse {
            model: name.clone(),
            message,
        },
        None => fault(name, Doing::Publish, error),
    }
}

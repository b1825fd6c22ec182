//! From replaying to ready: the deferred indexes, the module's after-replay SQL, durability.

use retell_contract::manifest::{Dialect, Manifest};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row};

use super::PgReadModel;
use super::fault::{Doing, fault};
use super::schema::literal;
use super::{open, provenance};
use crate::crash_point::{self, CrashPoint};
use crate::limits::AFTER_REPLAY_TIME_MAX;
use crate::postgres::{Failure, failure};
use crate::read_model::ReadModelError;

/// Runs a script so that it can neither end the transaction nor take another role: PostgreSQL refuses
/// both inside of such a function.
const RUNNER: &str = "retell_after_replay";

impl PgReadModel {
    pub(super) fn make_ready(&mut self) -> Result<(), ReadModelError> {
        if self.ready {
            return Ok(());
        }
        self.between_commits("preparing it to be ready")?;
        // What was committed without a sync is on the disk before the marker is: the server writes
        // its journal in order.
        open::following_mode(&mut self.session)
            .map_err(|error| fault(&self.place.name(), Doing::Commit, error))?;
        self.begin()?;
        self.finish_schema().inspect_err(|_| self.roll_back())?;
        crash_point::reach(CrashPoint::IndexesBuilt);
        self.end()?;
        self.analyze()?;
        self.ready = true;
        Ok(())
    }

    fn finish_schema(&mut self) -> Result<(), ReadModelError> {
        let tables = self.tables.clone();
        for (number, table) in tables.iter().enumerate() {
            for index in 0..table.indexes.len() {
                self.build_index(number, index)?;
            }
        }
        let scripts = self.after_replay.clone();
        if !scripts.is_empty() {
            let before = self.shape()?;
            for (number, script) in scripts.iter().enumerate() {
                self.run_script(number, script)?;
            }
            self.check_shape(&before)?;
        }
        let place = self.place.clone();
        self.run(Doing::Write, async |it| {
            provenance::update_ready(it, &place).await
        })
    }

    fn run_script(&mut self, number: usize, script: &str) -> Result<(), ReadModelError> {
        let schema = self.place.quoted();
        let begin = format!(
            "SET LOCAL statement_timeout = {};
             CREATE FUNCTION {schema}.{RUNNER}(script text) RETURNS void
             LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_catalog, pg_temp
             AS 'BEGIN EXECUTE script; END'",
            AFTER_REPLAY_TIME_MAX.as_millis()
        );
        self.execute(Doing::Write, &begin)?;
        let ran = self
            .session
            .run_within(AFTER_REPLAY_TIME_MAX, async |connection| {
                let call = format!("SELECT {schema}.{RUNNER}({})", literal(script));
                sqlx::raw_sql(AssertSqlSafe(call))
                    .execute(connection)
                    .await
                    .map(drop)
            });
        if let Err(error) = ran {
            return Err(match failure(&error) {
                // Not the module's fault.
                Failure::Connection | Failure::DiskFull => {
                    fault(&self.place.name(), Doing::Write, error)
                }
                _ => ReadModelError::AfterReplay {
                    message: format!("script {}: {}", number + 1, reason(&error)),
                    statement: None,
                },
            });
        }
        let end = format!("DROP FUNCTION {schema}.{RUNNER}(text); SET LOCAL statement_timeout = 0");
        self.execute(Doing::Write, &end)
    }

    /// What scripts must leave as it is: the tables of the manifest and retell's own, their columns,
    /// constraints, rows and storage; and what they must not make.
    fn shape(&mut self) -> Result<Vec<(String, String)>, ReadModelError> {
        let mut tables: Vec<String> = self.tables.iter().map(|it| it.qualified.clone()).collect();
        tables.push(self.place.own_table());
        let schema = self.place.schema().to_owned();
        self.run(Doing::Read, async |connection| {
            let mut shape = Vec::new();
            for table in tables {
                let of_table = shape_of(connection, &table).await?;
                shape.push((table, of_table));
            }
            // Replacing one changes its row, making one anew its number.
            let functions: Option<String> = sqlx::query_scalar(
                "SELECT string_agg(oid || ' ' || xmin, ',' ORDER BY oid) FROM pg_proc
                 WHERE pronamespace = to_regnamespace(quote_ident($1))",
            )
            .bind(&schema)
            .fetch_one(&mut *connection)
            .await?;
            let functions = functions.unwrap_or_default();
            shape.push(("a function".to_owned(), functions));
            Ok(shape)
        })
    }

    fn check_shape(&mut self, before: &[(String, String)]) -> Result<(), ReadModelError> {
        let after = self.shape()?;
        let changed = before.iter().zip(&after).find(|(one, other)| one != other);
        match changed {
            None => Ok(()),
            Some(((what, _), _)) => Err(ReadModelError::AfterReplay {
                message: format!(
                    "it changed or made {what}: a script may make tables, indexes and views of its \
                     own, and neither functions nor triggers, rules or constraints on others"
                ),
                statement: None,
            }),
        }
    }

    /// Readers' queries are planned by what is there.
    fn analyze(&mut self) -> Result<(), ReadModelError> {
        let tables = self.tables.clone();
        for table in tables.iter() {
            self.execute(Doing::Write, &format!("ANALYZE {}", table.qualified))?;
        }
        Ok(())
    }
}

/// Everything about a table that a script must not touch, as one text.
async fn shape_of(connection: &mut PgConnection, table: &str) -> Result<String, sqlx::Error> {
    let query = sqlx::query(
        "SELECT concat_ws('|', c.relname, c.relowner, c.relpersistence, c.relrowsecurity,
                pg_relation_filenode(c.oid),
                (SELECT string_agg(concat_ws(':', a.attname, a.atttypid, a.attnotnull, a.attcollation,
                                             a.attisdropped, a.atthasdef), ',' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
                (SELECT string_agg(pg_get_constraintdef(k.oid), ',' ORDER BY k.oid)
                 FROM pg_constraint k WHERE k.conrelid = c.oid),
                (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique),
                (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid),
                (SELECT count(*) FROM pg_rewrite r WHERE r.ev_class = c.oid),
                s.n_tup_ins, s.n_tup_upd, s.n_tup_del)
         FROM pg_class c LEFT JOIN pg_stat_xact_all_tables s ON s.relid = c.oid
         WHERE c.oid = to_regclass($1)",
    )
    .bind(table);
    let row = connection.fetch_optional(query).await?;
    row.map_or(Ok(String::new()), |row| row.try_get(0))
}

/// The server's message, with the statement at fault where it names it.
fn reason(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return error.to_string();
    };
    let message = database.message().to_owned();
    match database
        .downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .hint()
    {
        Some(hint) => format!("{message} ({hint})"),
        None => message,
    }
}

/// The scripts for PostgreSQL, in order.
pub(super) fn scripts(manifest: &Manifest) -> Vec<String> {
    manifest
        .after_replay
        .iter()
        .filter(|script| script.dialect == Dialect::Postgres)
        .map(|script| script.sql.clone())
        .collect()
}

//! From replaying to ready: the deferred indexes, the module's after-replay SQL, durability.

use std::time::Duration;

use retell_contract::manifest::{Dialect, Manifest};
use sqlx::AssertSqlSafe;

use super::PgReadModel;
use super::fault::{Doing, fault};
use super::guard::{self, Guarded};
use super::schema::literal;
use super::{open, provenance};
use crate::crash_point::{self, CrashPoint};
use crate::limits::{AFTER_REPLAY_TIME_MAX, POSTGRES_ANSWER_TIMEOUT};
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
        if !self.after_replay.is_empty() {
            self.renew_session()?;
        }
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
            let settings = self.run(Doing::Read, async |it| guard::settings(it).await)?;
            let before = self.look()?;
            for (number, script) in scripts.iter().enumerate() {
                let refuse = |message: String| ReadModelError::AfterReplay {
                    message: format!("script {}: {message}", number + 1),
                    statement: None,
                };
                self.run_script(script, &settings, AFTER_REPLAY_TIME_MAX, refuse)?;
                if let Some(offence) = before.offence(&self.look()?) {
                    return Err(refuse(format!(
                        "it {offence}; a script may make tables, indexes and views of its own, and \
                         neither functions nor triggers, rules, constraints or grants on others"
                    )));
                }
            }
        }
        let place = self.place.clone();
        self.run(Doing::Write, async |it| {
            provenance::update_ready(it, &place).await
        })
    }

    /// Runs one script. What it set is then as it was, and what it left for the commit is checked.
    pub(super) fn run_script(
        &mut self,
        script: &str,
        settings: &str,
        time_max: Duration,
        refuse: impl Fn(String) -> ReadModelError,
    ) -> Result<(), ReadModelError> {
        let schema = self.place.quoted();
        let begin = format!(
            "SET LOCAL statement_timeout = {};
             CREATE FUNCTION {schema}.{RUNNER}(script text) RETURNS void
             LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_catalog, pg_temp
             AS 'BEGIN EXECUTE script; END'",
            time_max.as_millis()
        );
        self.execute(Doing::Write, &begin)?;
        let call = format!("SELECT {schema}.{RUNNER}({})", literal(script));
        // The settings are made before it is sent: the server reads a whole message in one encoding.
        let end = format!(
            "SET CONSTRAINTS ALL IMMEDIATE; DROP FUNCTION IF EXISTS {schema}.{RUNNER}(text)"
        );
        // The server's own clock ends it first, and says so.
        let patience = time_max + POSTGRES_ANSWER_TIMEOUT;
        let ran = self.session.run_within(patience, async |connection| {
            for sql in [&call, settings, &end] {
                let sql = AssertSqlSafe(sql.to_owned());
                sqlx::raw_sql(sql).execute(&mut *connection).await?;
            }
            Ok(())
        });
        ran.map_err(|error| match failure(&error) {
            // In an encoding that the script chose, an answer can make no sense.
            _ if matches!(error, sqlx::Error::Protocol(_)) => refuse(reason(&error)),
            // Not the module's fault.
            Failure::Connection | Failure::DiskFull => {
                fault(&self.place.name(), Doing::Write, error)
            }
            _ => refuse(reason(&error)),
        })
    }

    fn look(&mut self) -> Result<Guarded, ReadModelError> {
        let (place, tables) = (self.place.clone(), self.tables.clone());
        self.run(Doing::Read, async |it| {
            Guarded::look(it, &place, &tables).await
        })
    }

    /// A script may have left more in its session than settings: temporary tables, locks.
    fn renew_session(&mut self) -> Result<(), ReadModelError> {
        self.session = self
            .place
            .connect()
            .map_err(|error| fault(&self.place.name(), Doing::Open, error))?;
        self.staged.fill(false);
        Ok(())
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

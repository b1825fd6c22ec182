//! From replaying to ready: the deferred indexes, the module's after-replay SQL, durability.

use std::fs;
use std::time::Instant;

use retell_contract::manifest::Dialect;
use rusqlite::Batch;
use rusqlite::fallible_iterator::FallibleIterator;

use super::SqliteReadModel;
use super::fault::{Doing, fault};
use super::guard::Speaker;
use super::schema::TableSql;
use super::{modes, open, provenance};
use crate::crash_point::{self, CrashPoint};
use crate::limits;
use crate::read_model::ReadModelError;

/// Virtual machine steps between two looks at the clock.
pub(super) const STEPS_PER_LOOK: i32 = 100_000;

impl SqliteReadModel {
    pub(super) fn make_ready(&mut self) -> Result<(), ReadModelError> {
        if self.ready {
            return Ok(());
        }
        self.between_commits("preparing it to be ready")?;
        self.settle()?;
        // Before its largest transaction, so that readers are not in its way, nor it in theirs.
        self.change_in_place()?;
        // The rows first: the marker must not be on the disk before what it speaks of.
        open::sync(&self.connection, &self.path)?;
        self.begin()?;
        self.finish_schema().inspect_err(|_| self.roll_back())?;
        crash_point::reach(CrashPoint::IndexesBuilt);
        // Which syncs what it commits.
        self.end()?;
        modes::following_mode(&self.connection).map_err(|error| self.fault(Doing::Sync, error))?;
        self.move_in_long_wal()?;
        self.ready = true;
        Ok(())
    }

    /// Indexes make the WAL longer than it gets by small flushes: the first of those shall not pay.
    fn move_in_long_wal(&self) -> Result<(), ReadModelError> {
        let wal = open::side_file(&self.path, "-wal");
        let bytes = fs::metadata(wal).map_or(0, |it| it.len());
        let usual = limits::READ_MODEL_WAL_PAGES * limits::READ_MODEL_PAGE_BYTES;
        if bytes <= u64::from(usual) {
            return Ok(());
        }
        self.connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|error| self.fault(Doing::Sync, error))
    }

    fn finish_schema(&mut self) -> Result<(), ReadModelError> {
        let tables = self.tables.clone();
        for table in tables.iter() {
            for index in 0..table.indexes.len() {
                self.build_index(table, index)?;
            }
        }
        let before = self.schema_of_manifest()?;
        let scripts = self.after_replay.clone();
        for (number, sql) in scripts.iter().enumerate() {
            self.guard.set_speaker(Speaker::Module);
            let ran = self.run_script(number, sql);
            self.guard.set_speaker(Speaker::Retell);
            let _ = self.connection.progress_handler(0, None::<fn() -> bool>);
            ran?;
        }
        if !scripts.is_empty() {
            self.check_schema(&before)?;
            self.check_flushes(&tables)?;
        }
        self.connection
            .execute_batch(provenance::UPDATE_READY)
            .and_then(|()| open::note_unsynced(&self.connection, None))
            .map_err(|error| self.fault(Doing::Write, error))?;
        Ok(())
    }

    /// Runs one script, statement by statement, so that an error can name the one at fault.
    fn run_script(&self, number: usize, sql: &str) -> Result<(), ReadModelError> {
        let end = Instant::now() + limits::AFTER_REPLAY_TIME_MAX;
        self.connection
            .progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > end))
            .map_err(|error| self.fault(Doing::Write, error))?;
        let mut batch = Batch::new(&self.connection, sql);
        let mut count = 0;
        loop {
            count += 1;
            let refuse = |error, text: Option<String>| {
                let place = format!("statement {count} of script {}", number + 1);
                self.script_fault(&place, error, text)
            };
            let Some(mut statement) = batch.next().map_err(|error| refuse(error, None))? else {
                return Ok(());
            };
            let text = statement.expanded_sql();
            let mut rows = statement.raw_query();
            loop {
                match rows.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Err(refuse(error, text)),
                }
            }
        }
    }

    fn script_fault(
        &self,
        place: &str,
        error: rusqlite::Error,
        statement: Option<String>,
    ) -> ReadModelError {
        let denied = self.guard.take_denial();
        let general = fault(&self.path, Doing::Write, error);
        let reason = match (denied, &general) {
            (Some(denied), _) => denied,
            (None, ReadModelError::Storage { source, .. }) => source.to_string(),
            // A full disk is not the module's fault.
            (None, _) => return general,
        };
        ReadModelError::AfterReplay {
            message: format!("{place}: {reason}"),
            statement,
        }
    }

    /// The texts of the manifest's tables and of retell's own, to see that nothing renamed, altered
    /// or imitated them.
    fn schema_of_manifest(&self) -> Result<Vec<(String, String)>, ReadModelError> {
        let read = (|| {
            let mut statement = self.connection.prepare(
                "SELECT lower(name), type || ' ' || coalesce(sql, '') FROM sqlite_schema
                 WHERE type IN ('table', 'view') OR name LIKE '%.%' ORDER BY 1, 2",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, String)>, _>>()
        })();
        let mut all = read.map_err(|error| self.fault(Doing::Read, error))?;
        let ours = |name: &str| {
            name.starts_with("retell_")
                || self.tables.iter().any(|table| {
                    table.name == name || table.indexes.iter().any(|i| i.sql_name == name)
                })
        };
        all.retain(|(name, _)| ours(name));
        Ok(all)
    }

    fn check_schema(&self, before: &[(String, String)]) -> Result<(), ReadModelError> {
        let refuse = |message: String| ReadModelError::AfterReplay {
            message,
            statement: None,
        };
        let after = self.schema_of_manifest()?;
        let changed = after
            .iter()
            .find(|entry| !before.contains(entry))
            .or_else(|| before.iter().find(|entry| !after.contains(entry)));
        if let Some((name, _)) = changed {
            return Err(refuse(format!("it changed `{name}`, which is not its own")));
        }
        for table in self.tables.iter() {
            let unique = self
                .foreign_unique_index(table)
                .map_err(|error| self.fault(Doing::Read, error))?;
            if let Some(index) = unique {
                return Err(refuse(format!(
                    "the index `{index}` on table `{}` is unique, and rows that break it would stop the version: declare it in the manifest",
                    table.name
                )));
            }
            let trigger = self
                .swallowing_trigger(table)
                .map_err(|error| self.fault(Doing::Read, error))?;
            if let Some(trigger) = trigger {
                return Err(refuse(format!(
                    "the trigger `{trigger}` on table `{}` could drop rows with RAISE(IGNORE)",
                    table.name
                )));
            }
        }
        Ok(())
    }

    fn foreign_unique_index(&self, table: &TableSql) -> rusqlite::Result<Option<String>> {
        let mut statement = self
            .connection
            .prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" AND origin = 'c'")?;
        let names = statement.query_map([&table.name], |row| row.get::<_, String>(0))?;
        for name in names {
            let name = name?;
            if !table.indexes.iter().any(|index| index.sql_name == name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn swallowing_trigger(&self, table: &TableSql) -> rusqlite::Result<Option<String>> {
        let mut statement = self.connection.prepare(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = ?1",
        )?;
        let mut rows = statement.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let sql: String = row.get(1)?;
            if raises_ignore(&sql) {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }

    /// Prepares what every flush will run, so that a trigger which breaks the rules, or does not
    /// compile, is an error now and not at the next event.
    fn check_flushes(&self, tables: &[TableSql]) -> Result<(), ReadModelError> {
        self.connection.flush_prepared_statement_cache();
        for table in tables {
            for sql in table.flush_statements() {
                if let Err(error) = self.connection.prepare(sql) {
                    let place = format!("a trigger on table `{}`", table.name);
                    return Err(self.script_fault(&place, error, None));
                }
            }
        }
        Ok(())
    }
}

/// Whether a trigger's text says RAISE(IGNORE), whatever stands between the words, or in texts and names
/// before it.
fn raises_ignore(sql: &str) -> bool {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else if let Some(end) = quoted(first) {
            let inside = &rest[1..];
            words.push(String::new());
            // A doubled quote ends one and begins the next.
            rest = inside.split_once(end).map_or("", |(_, rest)| rest);
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            words.push(rest[..end].to_lowercase());
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    words.windows(3).any(|w| w == ["raise", "(", "ignore"])
}

/// What ends a text or a quoted name that begins so.
fn quoted(first: char) -> Option<char> {
    match first {
        '\'' | '"' | '`' => Some(first),
        '[' => Some(']'),
        _ => None,
    }
}

/// The scripts for SQLite, in order.
pub(super) fn scripts(manifest: &retell_contract::manifest::Manifest) -> Vec<String> {
    manifest
        .after_replay
        .iter()
        .filter(|script| script.dialect == Dialect::Sqlite)
        .map(|script| script.sql.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::raises_ignore;

    #[test]
    fn raise_ignore_is_seen_through_comments_and_case() {
        assert!(raises_ignore("begin select raise(ignore); end"));
        assert!(raises_ignore("SELECT RAISE /* x */ ( -- y\n IGNORE )"));
        assert!(raises_ignore("SELECT '--', RAISE(IGNORE)"));
        assert!(raises_ignore(
            "SELECT 'it''s /*' AS \"--\", [/*], `--`, RAISE(IGNORE)"
        ));
        assert!(!raises_ignore("SELECT 'RAISE(IGNORE)'"));
        assert!(!raises_ignore("INSERT OR IGNORE INTO t VALUES (1)"));
        assert!(!raises_ignore("SELECT RAISE(ABORT, 'ignore')"));
    }
}

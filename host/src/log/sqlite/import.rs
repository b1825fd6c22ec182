//! A long input in several transactions, with its progress in the same ones.

use std::sync::Arc;

use rusqlite::Connection;

use super::Shared;
use super::errors::explain;
use super::writer::Writer;
use crate::event::Hash;
use crate::log::{Appended, ImportPlan, ImportProgress, LogError, LogImport, SealedEvent};

pub(super) struct SqliteImport {
    /// A connection of its own, so that the process's other appends only wait for a batch.
    writer: Writer,
    shared: Arc<Shared>,
    atomic: bool,
    /// The digest under which the progress stands in the table now.
    recorded: Option<Hash>,
    in_transaction: bool,
}

impl SqliteImport {
    pub(super) fn start(shared: Arc<Shared>, plan: ImportPlan) -> Result<Self, LogError> {
        Ok(Self {
            writer: shared.open_writer()?,
            shared,
            atomic: plan.atomic,
            recorded: plan.resume.map(|progress| progress.digest),
            in_transaction: false,
        })
    }

    fn begin(&mut self) -> Result<(), LogError> {
        if !self.in_transaction {
            self.writer.begin(self.shared.clock.now_us())?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.in_transaction = false;
        let head = self.writer.commit()?;
        self.shared.signal.announce(head);
        Ok(())
    }

    /// Runs `work` in the transaction; rolls everything back that is not committed if it fails.
    fn or_roll_back<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let done = work(self);
        if done.is_err() {
            self.in_transaction = false;
            self.writer.rollback();
        }
        done
    }

    /// Moves the progress, if it is still where this import left it: otherwise another process
    /// imports the same input, and one of the two must stop.
    fn record(&mut self, progress: &ImportProgress) -> Result<(), LogError> {
        let now = self.shared.clock.now_us();
        let changed =
            self.writer
                .step("recording the progress", |connection| match self.recorded {
                    Some(before) => connection
                        .prepare_cached(
                            "UPDATE OR IGNORE imports
                         SET digest = ?1, bytes = ?2, lines = ?3, updated_at = ?4
                         WHERE digest = ?5",
                        )?
                        .execute((progress.digest, progress.bytes, progress.lines, now, before)),
                    None => connection
                        .prepare_cached(
                            "INSERT OR IGNORE INTO imports (digest, bytes, lines, updated_at)
                         VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute((progress.digest, progress.bytes, progress.lines, now)),
                })?;
        if changed == 0 {
            return Err(LogError::ImportTaken);
        }
        Ok(())
    }

    fn forget(&mut self) -> Result<(), LogError> {
        let Some(recorded) = self.recorded else {
            return Ok(());
        };
        let changed = self.writer.step("forgetting the progress", |connection| {
            connection
                .prepare_cached("DELETE FROM imports WHERE digest = ?1")?
                .execute([recorded])
        })?;
        if changed == 0 {
            return Err(LogError::ImportTaken);
        }
        Ok(())
    }
}

impl LogImport for SqliteImport {
    fn others(&mut self) -> Result<Vec<ImportProgress>, LogError> {
        self.or_roll_back(|import| {
            import.begin()?;
            import.writer.step("reading the imports", unfinished)
        })
    }

    fn append(
        &mut self,
        events: Vec<SealedEvent>,
        progress: Option<ImportProgress>,
    ) -> Result<Appended, LogError> {
        self.or_roll_back(|import| {
            import.begin()?;
            let appended = import.writer.adding()?.add(&events)?;
            if !import.atomic {
                if let Some(progress) = &progress {
                    import.record(progress)?;
                }
                import.commit()?;
                import.recorded = progress.map(|progress| progress.digest).or(import.recorded);
            }
            Ok(appended)
        })
    }

    fn finish(mut self: Box<Self>, events: Vec<SealedEvent>) -> Result<Appended, LogError> {
        self.or_roll_back(|import| {
            import.begin()?;
            let appended = import.writer.adding()?.add(&events)?;
            import.forget()?;
            import.commit()?;
            Ok(appended)
        })
    }
}

impl Drop for SqliteImport {
    fn drop(&mut self) {
        self.writer.rollback();
    }
}

/// What interrupted imports have left, fewest bytes first.
pub(super) fn interrupted(
    shared: &Shared,
    connection: &Connection,
) -> Result<Vec<ImportProgress>, LogError> {
    unfinished(connection).map_err(|error| explain(&shared.path, "reading the imports", error))
}

fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<ImportProgress>> {
    let sql = "SELECT digest, bytes, lines FROM imports ORDER BY bytes";
    let mut statement = connection.prepare_cached(sql)?;
    let progress = statement.query_map([], |row| {
        Ok(ImportProgress {
            digest: row.get(0)?,
            bytes: row.get(1)?,
            lines: row.get(2)?,
        })
    })?;
    progress.collect()
}

//! A long input in several transactions, with its progress in the same ones.

use std::sync::Arc;

use super::Shared;
use super::writer::Writer;
use crate::event::Hash;
use crate::log::{Appended, ImportPlan, ImportProgress, LogError, LogImport, SealedEvent};
use crate::postgres::{Timestamp, answered};

pub(super) struct PgImport {
    /// A session of its own, so that the process's other appends only wait for a batch. What is not
    /// committed goes with it.
    writer: Writer,
    shared: Arc<Shared>,
    atomic: bool,
    /// The digest under which the progress stands in the table now.
    recorded: Option<Hash>,
    in_transaction: bool,
}

impl PgImport {
    pub(super) fn new(shared: Arc<Shared>, plan: ImportPlan) -> Self {
        Self {
            writer: Writer::new(shared.place.clone()),
            shared,
            atomic: plan.atomic,
            recorded: plan.resume.map(|progress| progress.digest),
            in_transaction: false,
        }
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
        let now = Timestamp(self.shared.clock.now_us());
        let sql = match self.recorded {
            Some(_) => {
                "UPDATE retell.imports SET digest = $1, bytes = $2, lines = $3, updated_at = $4
                 WHERE digest = $5
                     AND NOT EXISTS (SELECT 1 FROM retell.imports WHERE digest = $1)"
            }
            None => {
                "INSERT INTO retell.imports (digest, bytes, lines, updated_at)
                 SELECT $1, $2, $3, $4 WHERE $5::bytea IS NULL ON CONFLICT DO NOTHING"
            }
        };
        let recorded = self.recorded;
        let changed = self
            .writer
            .step("recording the progress", async |connection| {
                sqlx::query(sql)
                    .bind(progress.digest)
                    .bind(progress.bytes.cast_signed())
                    .bind(progress.lines.cast_signed())
                    .bind(now)
                    .bind(recorded)
                    .execute(connection)
                    .await
            })?;
        if changed.rows_affected() == 0 {
            return Err(LogError::ImportTaken);
        }
        Ok(())
    }

    fn forget(&mut self) -> Result<(), LogError> {
        let Some(recorded) = self.recorded else {
            return Ok(());
        };
        let changed = self
            .writer
            .step("forgetting the progress", async |connection| {
                sqlx::query("DELETE FROM retell.imports WHERE digest = $1")
                    .bind(recorded)
                    .execute(connection)
                    .await
            })?;
        if changed.rows_affected() == 0 {
            return Err(LogError::ImportTaken);
        }
        Ok(())
    }
}

impl LogImport for PgImport {
    fn others(&mut self) -> Result<Vec<ImportProgress>, LogError> {
        self.or_roll_back(|import| {
            import.begin()?;
            let reading = "reading the imports";
            import.writer.step(reading, async |it| unfinished(it).await)
        })
    }

    fn append(
        &mut self,
        events: Vec<SealedEvent>,
        progress: Option<ImportProgress>,
    ) -> Result<Appended, LogError> {
        self.or_roll_back(|import| {
            import.begin()?;
            let appended = import.writer.adding().add(&events)?;
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
            let appended = import.writer.adding().add(&events)?;
            import.forget()?;
            import.commit()?;
            Ok(appended)
        })
    }
}

/// What interrupted imports have left, fewest bytes first.
pub(super) async fn interrupted(shared: &Shared) -> Result<Vec<ImportProgress>, LogError> {
    answered(unfinished(&shared.pool), std::convert::identity)
        .await
        .map_err(|error| shared.place.explain("reading the imports", error))
}

async fn unfinished(
    executor: impl sqlx::PgExecutor<'_>,
) -> Result<Vec<ImportProgress>, sqlx::Error> {
    let found: Vec<(Hash, i64, i64)> =
        sqlx::query_as("SELECT digest, bytes, lines FROM retell.imports ORDER BY bytes")
            .fetch_all(executor)
            .await?;
    let progress = |(digest, bytes, lines): (Hash, i64, i64)| ImportProgress {
        digest,
        bytes: bytes.cast_unsigned(),
        lines: lines.cast_unsigned(),
    };
    Ok(found.into_iter().map(progress).collect())
}

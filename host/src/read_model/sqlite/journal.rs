//! The table `retell_journal`. It is made with its first entry: most read models have none.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::provenance::has_table;
use crate::read_model::journal::{DeadLetter, Decision, JournalEntry};

const TABLE: &str = "retell_journal";

/// `after` and `number` are set for what was retried; `reason`, `backtrace` (one function a line,
/// innermost first) and `excerpt` for what failed itself.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS retell_journal (
    position INTEGER NOT NULL PRIMARY KEY,
    stream TEXT NOT NULL,
    type TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('waiting', 'skipped', 'parked', 'retried')),
    after INTEGER,
    number INTEGER,
    reason TEXT,
    backtrace TEXT,
    excerpt TEXT
) STRICT";

const PUT: &str = "INSERT OR REPLACE INTO retell_journal
    (position, stream, type, decision, after, number, reason, backtrace, excerpt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const SELECT: &str =
    "SELECT position, stream, type, decision, after, number, reason, backtrace, excerpt
    FROM retell_journal ORDER BY position";

const COUNT_OPEN: &str = "SELECT count(*) FROM retell_journal WHERE decision <> 'retried'";

/// All entries, by position.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<JournalEntry>> {
    if !has_table(connection, TABLE)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(SELECT)?;
    statement.query_map([], entry)?.collect()
}

/// Writes entries over those of the same positions.
pub(super) fn write(connection: &Connection, entries: &[JournalEntry]) -> rusqlite::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    connection.execute_batch(CREATE)?;
    let mut put = connection.prepare(PUT)?;
    for entry in entries {
        let (after, number) = entry.decision.retried().unzip();
        let dead = entry.dead_letter.as_ref();
        put.execute(params![
            entry.position.cast_signed(),
            entry.stream,
            entry.event_type,
            entry.decision.word(),
            after.map(u64::cast_signed),
            number.map(u64::cast_signed),
            dead.map(|it| &it.reason),
            dead.map(|it| it.backtrace.join("\n")),
            dead.map(|it| &it.excerpt),
        ])?;
    }
    Ok(())
}

/// How many events are missing from the read model.
pub(super) fn count_open(connection: &Connection) -> rusqlite::Result<u64> {
    if !has_table(connection, TABLE)? {
        return Ok(0);
    }
    let count: i64 = connection.query_row(COUNT_OPEN, [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let number = |column: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
    };
    let word: String = row.get(3)?;
    let decision = Decision::from_words(&word, number(4)?, number(5)?).ok_or_else(|| {
        let reason = format!("the decision `{word}` makes no sense");
        rusqlite::Error::FromSqlConversionFailure(3, Type::Text, reason.into())
    })?;
    let reason: Option<String> = row.get(6)?;
    let dead_letter = match reason {
        None => None,
        Some(reason) => {
            let backtrace: String = row.get(7)?;
            Some(DeadLetter {
                reason,
                backtrace: backtrace.lines().map(str::to_owned).collect(),
                excerpt: row.get(8)?,
            })
        }
    };
    Ok(JournalEntry {
        position: row.get::<_, i64>(0)?.cast_unsigned(),
        stream: row.get(1)?,
        event_type: row.get(2)?,
        decision,
        dead_letter,
    })
}

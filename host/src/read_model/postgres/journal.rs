//! The table `retell_journal`. It is made with its first entry: most read models have none.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::place::SchemaPlace;
use crate::read_model::journal::{DeadLetter, Decision, JournalEntry};

/// `after` and `number` are set for what was retried; `reason`, `backtrace` (one function a line,
/// innermost first) and `excerpt` for what failed itself.
fn create(place: &SchemaPlace) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (
            position bigint NOT NULL PRIMARY KEY,
            stream text NOT NULL,
            type text NOT NULL,
            decision text NOT NULL CHECK (decision IN ('waiting', 'skipped', 'parked', 'retried')),
            after bigint,
            number bigint,
            reason text,
            backtrace text,
            excerpt text
        )",
        place.journal_table()
    )
}

/// All entries, by position.
pub(super) async fn read(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<Vec<JournalEntry>, sqlx::Error> {
    if !super::exists(connection, &place.journal_table()).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT position, stream, type, decision, after, number, reason, backtrace, excerpt
         FROM {} ORDER BY position",
        place.journal_table()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    rows.iter().map(entry).collect()
}

/// Writes entries over those of the same positions.
pub(super) async fn write(
    connection: &mut PgConnection,
    place: &SchemaPlace,
    entries: &[JournalEntry],
) -> Result<(), sqlx::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(AssertSqlSafe(create(place)))
        .execute(&mut *connection)
        .await?;
    let put = format!(
        "INSERT INTO {} (position, stream, type, decision, after, number, reason, backtrace, excerpt)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                              $6::bigint[], $7::text[], $8::text[], $9::text[])
         ON CONFLICT (position) DO UPDATE SET
             decision = excluded.decision, after = excluded.after, number = excluded.number,
             reason = excluded.reason, backtrace = excluded.backtrace, excerpt = excluded.excerpt",
        place.journal_table()
    );
    let numbers = |of: fn(&JournalEntry) -> Option<u64>| -> Vec<Option<i64>> {
        let all = entries.iter().map(of);
        all.map(|it| it.map(u64::cast_signed)).collect()
    };
    let texts = |of: fn(&JournalEntry) -> Option<String>| -> Vec<Option<String>> {
        entries.iter().map(of).map(|it| it.map(storable)).collect()
    };
    sqlx::query(AssertSqlSafe(put))
        .bind(numbers(|it| Some(it.position)))
        .bind(texts(|it| Some(it.stream.clone())))
        .bind(texts(|it| Some(it.event_type.clone())))
        .bind(texts(|it| Some(it.decision.word().to_owned())))
        .bind(numbers(|it| it.decision.retried().map(|it| it.0)))
        .bind(numbers(|it| it.decision.retried().map(|it| it.1)))
        .bind(texts(|it| Some(it.dead_letter.as_ref()?.reason.clone())))
        .bind(texts(|it| {
            Some(it.dead_letter.as_ref()?.backtrace.join("\n"))
        }))
        .bind(texts(|it| Some(it.dead_letter.as_ref()?.excerpt.clone())))
        .execute(connection)
        .await?;
    Ok(())
}

/// How many events are missing from the read model.
pub(super) async fn count_open(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<u64, sqlx::Error> {
    if !super::exists(connection, &place.journal_table()).await? {
        return Ok(0);
    }
    let sql = format!(
        "SELECT count(*) FROM {} WHERE decision <> 'retried'",
        place.journal_table()
    );
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?;
    Ok(count.cast_unsigned())
}

/// PostgreSQL's texts can't hold U+0000, which a module's message may.
fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

fn entry(row: &PgRow) -> Result<JournalEntry, sqlx::Error> {
    let number = |column: usize| -> Result<Option<u64>, sqlx::Error> {
        let number: Option<i64> = row.try_get(column)?;
        Ok(number.map(i64::cast_unsigned))
    };
    let word: String = row.try_get(3)?;
    let decision = Decision::from_words(&word, number(4)?, number(5)?).ok_or_else(|| {
        sqlx::Error::Decode(format!("the decision `{word}` makes no sense").into())
    })?;
    let reason: Option<String> = row.try_get(6)?;
    let dead_letter = match reason {
        None => None,
        Some(reason) => {
            let backtrace: String = row.try_get(7)?;
            Some(DeadLetter {
                reason,
                backtrace: backtrace.lines().map(str::to_owned).collect(),
                excerpt: row.try_get(8)?,
            })
        }
    };
    Ok(JournalEntry {
        position: row.try_get::<i64, _>(0)?.cast_unsigned(),
        stream: row.try_get(1)?,
        event_type: row.try_get(2)?,
        decision,
        dead_letter,
    })
}

//! `retell.inbox`: what applications wrote in their own transactions, on its way into the log. It is
//! moved under the head's lock, in the order of the rows' ids among those that are committed; each
//! row goes in the transaction that appends its event, or the one that rejects it.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::Shared;
use super::adding::Request;
use super::writer::Writer;
use crate::error_chain;
use crate::event::NewEvent;
use crate::log::check::{self, Admitted, admit};
use crate::log::{AppendRequest, Drained, LogError};
use crate::postgres::Timestamp;

/// Rows moved in one transaction …
const ROWS_MAX: i64 = 1_000;
/// … and bytes of their JSON, white space included, unless it is one row.
const ROWS_BYTES_MAX: i64 = 16 << 20;

/// One row, and its event if that can be one.
struct Waiting {
    id: i64,
    admitted: Result<Admitted, LogError>,
}

/// Moves what is there now; blocking.
pub(super) fn drain(shared: &Shared) -> Result<Drained, LogError> {
    let mut all = Drained::default();
    let mut writer = Writer::new(shared.place.clone());
    loop {
        let moved = drain_some(shared, &mut writer).inspect_err(|_| writer.rollback())?;
        all.moved += moved.moved;
        all.rejected += moved.rejected;
        if moved == Drained::default() {
            return Ok(all);
        }
    }
}

fn drain_some(shared: &Shared, writer: &mut Writer) -> Result<Drained, LogError> {
    writer.begin(shared.clock.now_us())?;
    let rows = writer.step("reading the inbox", async |it| read(it).await)?;
    let (mut moved, mut requests) = (Vec::new(), Vec::new());
    let (mut rejected, mut reasons) = (Vec::new(), Vec::new());
    for row in &rows {
        match &row.admitted {
            Ok(admitted) => {
                moved.push(row.id);
                requests.push(Request::from(admitted));
            }
            Err(error) => {
                rejected.push(row.id);
                reasons.push(error_chain(error));
            }
        }
    }
    let answers = writer.adding().answer_all(&requests)?;
    let mut appended = Vec::with_capacity(moved.len());
    for (id, answer) in moved.into_iter().zip(answers) {
        match answer {
            Ok(_) => appended.push(id),
            Err(error) => {
                rejected.push(id);
                reasons.push(error_chain(&error));
            }
        }
    }
    if !rows.is_empty() {
        writer.step("emptying the inbox", async |it| {
            remove(it, &appended).await?;
            reject(it, &rejected, &reasons).await
        })?;
    }
    let head = writer.commit()?;
    shared.signal.announce(head);
    Ok(Drained {
        moved: appended.len() as u64,
        rejected: rejected.len() as u64,
    })
}

async fn read(connection: &mut PgConnection) -> Result<Vec<Waiting>, sqlx::Error> {
    // What is far too large for an event stays where it is until it is rejected.
    let rows = sqlx::query(
        "WITH next AS (
             SELECT *, octet_length(data::text) + coalesce(octet_length(metadata::text), 0)::bigint
                       AS bytes
             FROM retell.inbox ORDER BY id LIMIT $1
         ), counted AS (
             SELECT *, sum(bytes) OVER (ORDER BY id) AS bytes_so_far, row_number() OVER (ORDER BY id)
                       AS number
             FROM next
         )
         SELECT id, stream, type, CASE WHEN bytes <= $2 THEN data::text END, event_id,
                CASE WHEN bytes <= $2 THEN metadata::text END, occurred_at, expected_revision, bytes
         FROM counted WHERE bytes_so_far <= $2 OR number = 1 ORDER BY id",
    )
    .bind(ROWS_MAX)
    .bind(ROWS_BYTES_MAX)
    .fetch_all(connection)
    .await?;
    rows.iter().map(waiting).collect()
}

fn waiting(row: &PgRow) -> Result<Waiting, sqlx::Error> {
    let Some(data) = row.try_get::<Option<String>, _>(3)? else {
        let bytes: i64 = row.try_get(8)?;
        return Ok(Waiting {
            id: row.try_get(0)?,
            admitted: Err(LogError::BadEvent {
                problem: check::too_large(bytes.cast_unsigned()),
                index: 0,
            }),
        });
    };
    let stream: String = row.try_get(1)?;
    let expected = row.try_get::<Option<i64>, _>(7)?;
    let request = AppendRequest {
        expected: expected
            .map(|revision| (stream.clone(), revision.cast_unsigned()))
            .into_iter()
            .collect(),
        events: vec![NewEvent {
            stream,
            event_type: row.try_get(2)?,
            data,
            id: row.try_get(4)?,
            metadata: row.try_get(5)?,
            occurred_at: row.try_get::<Option<Timestamp>, _>(6)?.map(|time| time.0),
        }],
    };
    Ok(Waiting {
        id: row.try_get(0)?,
        admitted: admit(request),
    })
}

async fn remove(connection: &mut PgConnection, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM retell.inbox WHERE id = ANY ($1)")
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

async fn reject(
    connection: &mut PgConnection,
    ids: &[i64],
    reasons: &[String],
) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH gone AS (DELETE FROM retell.inbox WHERE id = ANY ($1) RETURNING *)
         INSERT INTO retell.inbox_rejected
             (id, stream, type, data, event_id, metadata, occurred_at, expected_revision, reason)
         SELECT gone.id, stream, type, data, event_id, metadata, occurred_at, expected_revision,
                why.reason
         FROM gone JOIN unnest($1::bigint[], $2::text[]) AS why (id, reason) USING (id)",
    )
    .bind(ids)
    .bind(reasons)
    .execute(connection)
    .await?;
    Ok(())
}

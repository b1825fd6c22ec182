//! All rows of a read model, in one snapshot.

use futures_util::TryStreamExt as _;
use retell_contract::manifest::Manifest;
use sqlx::{AssertSqlSafe, Executor as _};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use super::{provenance, read_fault, schema, values};
use crate::event::Position;
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::read_model::ReadModelError;
use crate::read_model::content::ContentSink;

pub(super) fn read(
    place: &SchemaPlace,
    manifest: &Manifest,
    sink: &mut dyn ContentSink,
) -> Result<Position, ReadModelError> {
    let reading = |error| fault(&place.name(), Doing::Read, error);
    let mut session = place.connect_to_read().map_err(reading)?;
    let mut tables = schema::tables(place.schema(), manifest);
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    session
        .run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
            connection
                .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await?;
            // The position is that of the rows.
            let status = match provenance::read(connection, place).await {
                Ok(status) => status,
                Err(error) => return Ok(Err(error)),
            };
            let position = status.checkpoint.position;
            let mut bytes = Vec::new();
            for table in &tables {
                sink.table(&table.name);
                let query = sqlx::query(AssertSqlSafe(table.all.clone()));
                let mut rows = query.fetch(&mut *connection);
                while let Some(row) = rows.try_next().await? {
                    bytes.clear();
                    if let Err(error) = values::push_row(&mut bytes, &row, 0, &table.columns) {
                        return Ok(Err(read_fault(&place.name(), error)));
                    }
                    if sink.row(&bytes).is_break() {
                        return Ok(Ok(position));
                    }
                }
                sink.end_table();
            }
            Ok(Ok(position))
        })
        .map_err(reading)?
}

//! All rows of a read model, in one snapshot.

use std::path::Path;

use retell_contract::manifest::Manifest;

use super::fault::{Doing, fault};
use super::{open, provenance, read_fault, rows, schema};
use crate::event::Position;
use crate::read_model::ReadModelError;
use crate::read_model::content::ContentSink;

pub(super) fn read(
    path: &Path,
    manifest: &Manifest,
    sink: &mut dyn ContentSink,
) -> Result<Position, ReadModelError> {
    let reading = |error| fault(path, Doing::Read, error);
    let connection = open::snapshot(path)?;
    // The position is that of the rows.
    let position = provenance::read(&connection, path)?
        .status
        .checkpoint
        .position;
    let mut tables = schema::tables(manifest);
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let mut bytes = Vec::new();
    for table in &tables {
        sink.table(&table.name);
        let mut statement = connection.prepare(&table.all).map_err(reading)?;
        let mut read = statement.raw_query();
        while let Some(row) = read.next().map_err(reading)? {
            bytes.clear();
            rows::push_row(&mut bytes, row, &table.columns)
                .map_err(|error| read_fault(path, error))?;
            if sink.row(&bytes).is_break() {
                return Ok(position);
            }
        }
        sink.end_table();
    }
    Ok(position)
}

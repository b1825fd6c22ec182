//! Scans: the rows that the cache knows, in order, with the read model's rows between them that it
//! does not know.

use std::sync::PoisonError;

use super::{Answer, ROWS_AT_FIRST, Tables, sort_error, table_number};
use crate::read_model::KeyedRow;
use crate::wasm::RowSourceError;

impl Tables {
    /// Appends one page of a scan.
    pub(super) fn scan_merged(
        &mut self,
        table: usize,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        page: &mut Answer,
    ) -> Result<(), RowSourceError> {
        let checked = self.all[table].shape.check_scan(index, prefix, after);
        checked
            .and_then(|()| self.all[table].order(index))
            .map_err(sort_error)?;
        if self.all[table].cache.is_complete() {
            let (cache, order) = self.all[table].in_order(index);
            let known = order.range(prefix, after);
            let rows = known.filter_map(|(_, slot)| cache.row_in(slot));
            return rows.take(limit).try_for_each(|row| page.push(row));
        }
        self.ensure_index(table, index)?;
        let mut reached = after.map(<[u8]>::to_vec);
        let mut step = ROWS_AT_FIRST;
        loop {
            let from = reached.clone();
            let wanted = step.min(limit - page.rows());
            let asked = u32::try_from(wanted).unwrap_or(u32::MAX);
            step = step.saturating_mul(2);
            let stored = self
                .reader()
                .and_then(|reader| {
                    reader.scan(table_number(table), index, prefix, from.as_deref(), asked)
                })
                .map_err(sort_error)?;
            let last_page = stored.len() < wanted;
            let (cache, order) = self.all[table].in_order(index);
            let shape = &self.all[table].shape;
            let mut known = order
                .range(prefix, from.as_deref())
                .filter_map(|(place, slot)| Some((place, cache.row_in(slot)?)))
                .peekable();
            for KeyedRow { key, row } in stored {
                let place = shape.place_of(index, &row, &key).map_err(sort_error)?;
                while page.rows() < limit
                    && let Some((_, earlier)) = known.next_if(|(at, _)| *at < place.as_slice())
                {
                    page.push(earlier)?;
                }
                if page.rows() >= limit {
                    return Ok(());
                }
                // What the cache knows of a key is newer, wherever it stands now.
                if !cache.knows(&key) {
                    page.push(&row)?;
                } else if let Some((_, row)) = known.next_if(|(at, _)| *at == place.as_slice()) {
                    page.push(row)?;
                }
                reached = Some(place);
            }
            if last_page {
                let rest = known.take(limit - page.rows());
                return rest.map(|(_, row)| row).try_for_each(|row| page.push(row));
            }
            if page.rows() >= limit {
                return Ok(());
            }
        }
    }

    /// Has the read model build the index if it was deferred until now, or be ready for scans by key.
    fn ensure_index(&mut self, table: usize, index: u16) -> Result<(), RowSourceError> {
        if self.all[table].has_index(index) {
            return Ok(());
        }
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model
            .ensure_index(table_number(table), index)
            .map_err(sort_error)?;
        drop(model);
        self.all[table].note_index(index);
        Ok(())
    }
}

//! Changes on their way into a file, in pieces. To encode them takes several times as long as to lay
//! them out: two threads encode, the one that lays out and one beside it, and each takes the next piece
//! when it has time.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::runs::SortedChanges;
use super::super::schema::TableSql;
use super::encode::{EncodedChange, Encoder, Piece};
use crate::read_model::{ReadModelError, RowChange};

/// Changes that are handed over at once.
const CHANGES_PER_PIECE: usize = 2_048;
/// Pieces that wait to be laid out, of each thread.
const PIECES_AHEAD: usize = 4;
/// Fewer pieces than this are not worth a thread.
const PIECES_ALONE: usize = 1;

/// A piece and its number in the order.
type Encoded = (usize, Result<Piece, ReadModelError>);

/// Hands each change of a table to `take`, in order.
pub(super) fn each(
    table: &TableSql,
    changes: SortedChanges<'_>,
    mut take: impl FnMut(&EncodedChange<'_>) -> Result<(), ReadModelError>,
) -> Result<(), ReadModelError> {
    let source = Source::new(changes);
    let mut worker = Worker::new(table);
    for _ in 0..PIECES_ALONE {
        let Some((_, piece)) = worker.next(&source) else {
            return Ok(());
        };
        let piece = piece?;
        piece.each(&mut take)?;
        source.reuse(piece);
    }
    if source.rest().is_over {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (encoded, others) = sync_channel(PIECES_AHEAD);
        let source = &source;
        // Where there is no thread to be had, this one does it all.
        let _ = std::thread::Builder::new()
            .spawn_scoped(scope, move || Worker::new(table).run(source, &encoded));
        let mut waiting = BTreeMap::new();
        let mut next = PIECES_ALONE;
        loop {
            if let Some(piece) = waiting.remove(&next) {
                let piece: Piece = piece?;
                piece.each(&mut take)?;
                source.reuse(piece);
                next += 1;
                continue;
            }
            let mut encoded = others.try_recv().ok();
            if encoded.is_none() && waiting.len() < PIECES_AHEAD {
                encoded = worker.next(source);
            }
            // What comes next is being encoded by the other thread, or there is nothing more.
            let Some((number, piece)) = encoded.or_else(|| others.recv().ok()) else {
                return Ok(());
            };
            waiting.insert(number, piece);
        }
    })
}

/// The changes of a table, of which whoever has time takes the next ones.
struct Source<'c>(Mutex<Rest<'c>>);

struct Rest<'c> {
    changes: SortedChanges<'c>,
    /// Pieces that were taken.
    taken: usize,
    is_over: bool,
    /// Pieces whose memory may be used again.
    empty: Vec<Piece>,
}

impl<'c> Source<'c> {
    fn new(changes: SortedChanges<'c>) -> Self {
        Self(Mutex::new(Rest {
            changes,
            taken: 0,
            is_over: false,
            empty: Vec::new(),
        }))
    }

    fn reuse(&self, piece: Piece) {
        self.rest().empty.push(piece);
    }

    fn rest(&self) -> MutexGuard<'_, Rest<'c>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest<'_> {
    /// Takes the next changes.
    fn take(&mut self, raw: &mut RawPiece) -> Result<(), ReadModelError> {
        raw.clear();
        while raw.changes.len() < CHANGES_PER_PIECE {
            match self.changes.next() {
                Ok(Some((key_prefix, change))) => raw.push(key_prefix, &change),
                Ok(None) => {
                    self.is_over = true;
                    break;
                }
                Err(error) => {
                    self.is_over = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// What one thread needs to encode pieces.
struct Worker<'t> {
    encoder: Encoder<'t>,
    raw: RawPiece,
}

impl<'t> Worker<'t> {
    fn new(table: &'t TableSql) -> Self {
        Self {
            encoder: Encoder::new(table),
            raw: RawPiece::default(),
        }
    }

    /// Encodes pieces until there are no more, or nobody wants them.
    fn run(mut self, source: &Source<'_>, encoded: &SyncSender<Encoded>) {
        while let Some(next) = self.next(source) {
            if encoded.send(next).is_err() {
                return;
            }
        }
    }

    /// The next piece that nobody has taken.
    fn next(&mut self, source: &Source<'_>) -> Option<Encoded> {
        let mut rest = source.rest();
        if rest.is_over {
            return None;
        }
        let number = rest.taken;
        let taken = rest.take(&mut self.raw);
        rest.taken += 1;
        let mut piece = rest.empty.pop().unwrap_or_default();
        drop(rest);
        let filled = taken.and_then(|()| self.encoder.fill(&mut piece, self.raw.iter()));
        Some((number, filled.map(|()| piece)))
    }
}

/// Changes as they were taken, with the bytes of their keys and rows end to end.
#[derive(Default)]
struct RawPiece {
    changes: Vec<RawChange>,
    bytes: Vec<u8>,
}

struct RawChange {
    key_prefix: u128,
    table: u16,
    fresh: bool,
    has_row: bool,
    key_end: usize,
    row_end: usize,
}

impl RawPiece {
    fn clear(&mut self) {
        self.changes.clear();
        self.bytes.clear();
    }

    fn push(&mut self, key_prefix: u128, change: &RowChange<'_>) {
        self.bytes.extend_from_slice(change.key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(change.row.unwrap_or_default());
        self.changes.push(RawChange {
            key_prefix,
            table: change.table,
            fresh: change.fresh,
            has_row: change.row.is_some(),
            key_end,
            row_end: self.bytes.len(),
        });
    }

    fn iter(&self) -> impl Iterator<Item = (u128, RowChange<'_>)> {
        let mut start = 0;
        self.changes.iter().map(move |raw| {
            let (key, row) = self.bytes[start..raw.row_end].split_at(raw.key_end - start);
            start = raw.row_end;
            let change = RowChange {
                table: raw.table,
                key,
                row: raw.has_row.then_some(row),
                fresh: raw.fresh,
            };
            (raw.key_prefix, change)
        })
    }
}

#[cfg(test)]
mod tests {
    use retell_contract::manifest::{Envelope, Manifest, Table, TableColumn};
    use retell_contract::value::{ColumnType, Value};
    use retell_contract::{encode_key, encode_row};

    use super::super::super::schema;
    use super::*;

    /// Rows by key, in order: all that a change is about.
    fn rows(count: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let row = |n| {
            let key = Value::Integer(n);
            let text = Value::Text(format!("row {n}"));
            (
                encode_key(std::slice::from_ref(&key)),
                encode_row(&[key, text]),
            )
        };
        (0..count).map(row).collect()
    }

    fn table() -> TableSql {
        let column = |name: &str, kind| TableColumn {
            name: name.to_owned(),
            kind,
            nullable: false,
        };
        let manifest = Manifest {
            name: "m".to_owned(),
            version: "1.0.0".to_owned(),
            shapes: vec![],
            tables: vec![Table {
                name: "rows".to_owned(),
                columns: vec![
                    column("n", ColumnType::Integer),
                    column("text", ColumnType::Text),
                ],
                key: vec![0],
                indexes: vec![],
            }],
            envelope: Envelope::default(),
            hints: vec![],
            after_replay: vec![],
        };
        schema::tables(&manifest).remove(0)
    }

    /// The row numbers that came, and how it ended.
    fn taken(
        rows: &[(Vec<u8>, Vec<u8>)],
        refused: Option<i64>,
    ) -> (Vec<i64>, Result<(), ReadModelError>) {
        let changes = rows.iter().map(|(key, row)| RowChange {
            table: 0,
            key,
            row: Some(row),
            fresh: true,
        });
        let changes = SortedChanges::new(0, Some(Box::new(changes)), &[]).expect("no runs");
        let table = table();
        let mut taken = Vec::new();
        let ended = each(&table, changes, |change| {
            let row = change.row.as_ref().expect("none is deleted");
            if Some(row.rowid) == refused {
                return Err(ReadModelError::not_under_its_key("refused", &[0]));
            }
            taken.push(row.rowid);
            Ok(())
        });
        (taken, ended)
    }

    #[test]
    fn every_change_comes_once_and_in_order() {
        let piece = i64::try_from(CHANGES_PER_PIECE).expect("small");
        let alone = piece * i64::try_from(PIECES_ALONE).expect("small");
        for count in [0, 1, piece, alone, alone + 1, alone + piece, 40 * piece + 7] {
            let (numbers, ended) = taken(&rows(count), None);
            ended.expect("nothing is wrong");
            assert!(numbers.into_iter().eq(0..count), "of {count}");
        }
    }

    #[test]
    fn a_row_that_is_wrong_ends_it_after_all_pieces_before() {
        for wrong in [0, 5_000, 60_000] {
            let mut rows = rows(80_000);
            rows[wrong].1 = rows[wrong + 1].1.clone();
            let (numbers, ended) = taken(&rows, None);
            ended.expect_err("it is under another key");
            assert_eq!(numbers.len(), wrong / CHANGES_PER_PIECE * CHANGES_PER_PIECE);
        }
    }

    #[test]
    fn who_refuses_a_change_gets_no_more() {
        for refused in [0, 5_000, 60_000] {
            let (numbers, ended) = taken(&rows(80_000), Some(refused));
            ended.expect_err("it was refused");
            assert!(numbers.into_iter().eq(0..refused));
        }
    }
}

//! Rows that the events of a batch are about, fetched all at once before the first event instead of
//! one by one when they are first asked for, and found again without a search. The manifest's hints
//! say which fields are keys of which tables. They change what a batch costs and nothing else.

use retell_contract::key;
use retell_contract::manifest::{Hint, Manifest, Table, Wanted};
use retell_contract::uuid::parse_uuid;
use retell_contract::value::ColumnType;

use crate::batch::{Batch, Cells};
use crate::cache::NO_ENTRY;
use crate::db::Db;
use crate::event::Shapes;
use crate::hash::{hash_bytes, hash_u64};

/// The hints for `keys`: names of fields in Rust, each with the table that it is a key of.
///
/// # Panics
/// When no event has such a field of the type of that key: the host shows it when it loads the
/// module.
pub fn hints(shapes: &Shapes, tables: &[Table], keys: &[(&str, &str)]) -> Vec<Hint> {
    let mut hints = Vec::new();
    for &(name, table_name) in keys {
        let before = hints.len();
        let table = (0u16..).zip(tables).find(|(_, it)| it.name == table_name);
        if let Some((table, it)) = table
            && let Some(kind) = kind_of_key(it)
        {
            let named = shapes.fields_named(name);
            let keys = named.filter(|(_, _, field)| is_of(field.wants, kind));
            hints.extend(keys.map(|(shape, field, _)| Hint {
                shape,
                fields: vec![field],
                table,
            }));
        }
        assert!(
            hints.len() > before,
            "keys({name} = …): no event has a field `{name}` of the type of the key of table \
             `{table_name}`, which must be one column of a table of this projection"
        );
    }
    hints
}

/// One hint, ready for use.
#[derive(Debug)]
pub struct Fetch {
    shape: usize,
    field: usize,
    table: usize,
    kind: ColumnType,
}

impl Fetch {
    /// Those of a manifest.
    pub fn all(manifest: &Manifest) -> Vec<Self> {
        let hints = manifest.hints.iter().filter_map(|hint| {
            let table = usize::from(hint.table);
            Some(Self {
                shape: usize::from(hint.shape),
                field: usize::from(*hint.fields.first()?),
                table,
                kind: kind_of_key(manifest.tables.get(table)?)?,
            })
        });
        hints.collect()
    }

    /// Fetches the rows that the events of a batch name, and notes which event names which.
    #[inline(never)]
    pub(crate) fn run(fetches: &[Self], batch: &Batch, db: &mut Db<'_>) {
        if fetches.is_empty() {
            return;
        }
        let mut hints = vec![vec![Vec::new(); batch.blocks.len()]; db.table_count()];
        for fetch in fetches {
            let cells = &batch.blocks[fetch.shape][fetch.field];
            let hints = &mut hints[fetch.table][fetch.shape];
            hints.resize(cells.len(), NO_ENTRY);
            match fetch.kind {
                ColumnType::Integer | ColumnType::Timestamp => {
                    let marks = cells.integers().iter();
                    fetch.want(
                        cells,
                        marks.map(|&value| hash_u64(value.cast_unsigned())),
                        hints,
                        db,
                    );
                }
                _ => {
                    let texts = (0..cells.len()).map(|row| cells.text(row));
                    fetch.want(
                        cells,
                        texts.map(|text| hash_bytes(text.as_bytes())),
                        hints,
                        db,
                    );
                }
            }
        }
        db.fetch_wanted(hints);
    }

    /// Notes the keys of one field. `marks`: a number for each row's, by which those that were named
    /// a moment ago are known, so that hot ones cost next to nothing. Where two have the same one, the
    /// other is fetched when it is asked for, and its hint leads nowhere.
    fn want(
        &self,
        cells: &Cells,
        marks: impl Iterator<Item = u64>,
        hints: &mut [u32],
        db: &mut Db<'_>,
    ) {
        let mut key = Vec::new();
        let mut recent = [(0, NO_ENTRY); RECENT];
        for (row, (hint, mark)) in hints.iter_mut().zip(marks).enumerate() {
            let (known, entry) = &mut recent[(mark >> RECENT_SHIFT) as usize];
            if *entry == NO_ENTRY || *known != mark {
                key.clear();
                if !push_key(&mut key, cells, row, self.kind) {
                    continue;
                }
                (*known, *entry) = (mark, db.want(self.table, &key));
            }
            *hint = *entry;
        }
    }
}

/// Numbers that are remembered: as many as keep a second search away from most keys.
const RECENT: usize = 1024;
const RECENT_SHIFT: u32 = u64::BITS - RECENT.ilog2();

/// The type of a key of one column.
fn kind_of_key(table: &Table) -> Option<ColumnType> {
    match *table.key.as_slice() {
        [column] => Some(table.columns.get(usize::from(column))?.kind),
        _ => None,
    }
}

fn is_of(wants: Wanted, kind: ColumnType) -> bool {
    matches!(
        (wants, kind),
        (Wanted::Integer, ColumnType::Integer)
            | (Wanted::Timestamp, ColumnType::Timestamp)
            | (Wanted::Text, ColumnType::Text)
            | (Wanted::Uuid, ColumnType::Uuid)
    )
}

/// `false`: the event names none, or what can't be a key, which is for the projection to meet.
fn push_key(out: &mut Vec<u8>, cells: &Cells, row: usize, kind: ColumnType) -> bool {
    if cells.missing(row) || cells.null(row) {
        return false;
    }
    match kind {
        ColumnType::Integer => key::push_i64(out, cells.integer(row)),
        ColumnType::Timestamp => key::push_timestamp(out, cells.integer(row)),
        ColumnType::Uuid => match parse_uuid(cells.text(row)) {
            Some(uuid) => key::push_uuid(out, &uuid),
            None => return false,
        },
        _ => key::push_text(out, cells.text(row)),
    }
    out.len() <= key::KEY_BYTES_MAX
}

//! A read model in memory, with the rules that the host's have.

use std::collections::BTreeMap;

use retell_contract::manifest::{KEY_INDEX, Manifest, Table as Definition};
use retell_contract::{KEY_BYTES_MAX, Value, check_row, decode_key, key_of_row};

use crate::changes::{ChangeSet, PUT, PackedRows, end};
use crate::db::Host;
use crate::table::Table;

/// The tables after the events of a test.
#[derive(Debug, Clone)]
pub struct ReadModel {
    projection: String,
    tables: Vec<Rows>,
    /// What the batch at hand has staged; it counts once the batch succeeds.
    staged: Vec<Rows>,
    /// The first staged change that a unique index refuses.
    refused: Option<Refused>,
}

/// The event of the batch, and why.
type Refused = (u32, String);

/// The rows of a table by key, both encoded.
#[derive(Debug, Clone)]
struct Rows {
    definition: Definition,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl ReadModel {
    /// Every row of a table, in the order of the key.
    ///
    /// # Panics
    /// When the projection has no such table.
    #[track_caller]
    pub fn rows<T: Table>(&self) -> Vec<T> {
        let read = |row: &Vec<u8>| T::read(row).expect("rows are checked when they are written");
        self.table::<T>().rows.values().map(read).collect()
    }

    /// The row with this key.
    ///
    /// # Panics
    /// When the projection has no such table.
    #[track_caller]
    pub fn get<T: Table>(&self, key: T::Key<'_>) -> Option<T> {
        let mut bytes = Vec::new();
        T::push_key(key, &mut bytes).expect("the key keeps the rules of values");
        let row = self.table::<T>().rows.get(&bytes)?;
        Some(T::read(row).expect("rows are checked when they are written"))
    }

    #[track_caller]
    fn table<T: Table>(&self) -> &Rows {
        let mut tables = self.tables.iter();
        match tables.find(|table| table.definition.name == T::NAME) {
            Some(table) => table,
            None => panic!(
                "projection `{}` has no table `{}`",
                self.projection,
                T::NAME
            ),
        }
    }

    pub(super) fn new(manifest: &Manifest) -> Self {
        let table = |definition: &Definition| Rows {
            definition: definition.clone(),
            rows: BTreeMap::new(),
        };
        Self {
            projection: manifest.name.clone(),
            tables: manifest.tables.iter().map(table).collect(),
            staged: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn begin(&mut self) {
        self.staged = self.tables.clone();
        self.refused = None;
    }

    /// Takes over what the batch changed, or says which event a unique index refuses.
    pub(super) fn commit(&mut self, changes: ChangeSet) -> Result<(), Refused> {
        self.stage(changes);
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        self.tables = std::mem::take(&mut self.staged);
        Ok(())
    }

    /// The first row in which two read models differ.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let mut pairs = self.tables.iter().zip(&other.tables);
        pairs.find_map(|(one, other)| one.difference(other))
    }
}

impl Rows {
    fn difference(&self, other: &Self) -> Option<String> {
        let keys = self.rows.keys().chain(other.rows.keys());
        let key = keys
            .filter(|&key| self.rows.get(key) != other.rows.get(key))
            .min()?;
        let name = &self.definition.name;
        let shown = decode_key(key, &self.definition.key_types()).expect("keys were checked");
        let (one, other) = (self.show(key), other.show(key));
        Some(format!(
            "table `{name}`, key {shown:?}:\n  {one}\n  {other}"
        ))
    }

    fn show(&self, key: &[u8]) -> String {
        let Some(row) = self.rows.get(key) else {
            return "no row".to_owned();
        };
        let types = self.definition.column_types();
        let values = retell_contract::decode_row(row, &types).expect("rows were checked");
        let columns = self.definition.columns.iter().zip(values);
        let columns = columns.map(|(column, value)| format!("{}: {value:?}", column.name));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn put(&mut self, key: &[u8], row: &[u8]) -> Result<(), String> {
        let name = &self.definition.name;
        let types = self.definition.column_types();
        check_row(row, &types).unwrap_or_else(|error| panic!("table `{name}`: {error}"));
        let own_key = key_of_row(row, &types, &self.definition.key).expect("the row was checked");
        assert_eq!(
            own_key, key,
            "table `{name}`: a row came with another key than its own"
        );
        assert!(
            key.len() <= KEY_BYTES_MAX,
            "table `{name}`: a key is too long"
        );
        for index in &self.definition.indexes {
            let entry = key_of_row(row, &types, &index.columns).expect("the row was checked");
            assert!(
                entry.len() <= KEY_BYTES_MAX,
                "table `{name}`: an index entry is too long"
            );
            if !index.unique {
                continue;
            }
            let values = decode_key(&entry, &self.definition.types_of(&index.columns));
            let values = values.expect("the entry was just made");
            // As in SQL, nulls are not equal to each other.
            if values.contains(&Value::Null) {
                continue;
            }
            let taken = self.rows.iter().any(|(other, row)| {
                other != key && key_of_row(row, &types, &index.columns).as_ref() == Ok(&entry)
            });
            if taken {
                let index = &index.name;
                return Err(format!(
                    "table `{name}`: another row has the same {values:?} in the unique index \
                     `{index}`"
                ));
            }
        }
        self.rows.insert(key.to_vec(), row.to_vec());
        Ok(())
    }
}

impl Host for ReadModel {
    fn get_many(&mut self, table: u16, keys: &[u8], key_ends: &[u32]) -> PackedRows {
        let rows = &self.staged[usize::from(table)].rows;
        let mut packed = PackedRows::default();
        let mut start = 0;
        for &key_end in key_ends {
            let key = &keys[start..key_end as usize];
            start = key_end as usize;
            packed.rows.extend(rows.get(key).into_iter().flatten());
            packed.row_ends.push(end(&packed.rows));
        }
        packed
    }

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> PackedRows {
        let Rows { definition, rows } = &self.staged[usize::from(table)];
        let types = definition.column_types();
        let columns: &[u16] = match index {
            KEY_INDEX => &[],
            _ => &definition.indexes[usize::from(index)].columns,
        };
        let mut found: Vec<(Vec<u8>, &Vec<u8>)> = Vec::new();
        for (key, row) in rows {
            let mut place = key_of_row(row, &types, columns).expect("rows were checked");
            place.extend_from_slice(key);
            if place.starts_with(prefix) && after.is_none_or(|after| &*place > after) {
                found.push((place, row));
            }
        }
        found.sort_unstable();
        let mut packed = PackedRows::default();
        for (_, row) in found.into_iter().take(limit as usize) {
            packed.rows.extend_from_slice(row);
            packed.row_ends.push(end(&packed.rows));
        }
        packed
    }

    fn stage(&mut self, changes: ChangeSet) {
        let (mut key_start, mut row_start) = (0, 0);
        for (i, &event) in changes.events.iter().enumerate() {
            let key_end = changes.key_ends[i] as usize;
            let row_end = changes.row_ends[i] as usize;
            let key = &changes.keys[key_start..key_end];
            let row = &changes.rows[row_start..row_end];
            (key_start, row_start) = (key_end, row_end);
            let table = &mut self.staged[usize::from(changes.tables[i])];
            if changes.kinds[i] == PUT {
                if let Err(message) = table.put(key, row) {
                    self.refused.get_or_insert((event, message));
                }
            } else {
                table.rows.remove(key);
            }
        }
    }

    fn log(&mut self, level: u8, message: &str) {
        #[allow(
            clippy::print_stderr,
            reason = "the test's own output, shown when it fails"
        )]
        {
            eprintln!("log, level {level}: {message}");
        }
    }
}

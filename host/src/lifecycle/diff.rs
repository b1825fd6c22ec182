//! The first row on which two read models of the same module do not agree.

use std::ops::ControlFlow;

use retell_contract::time::format_rfc3339;
use retell_contract::value::Value;
use retell_contract::{Manifest, decode_row, key_of_row};

use crate::read_model::{ContentSink, KEY_INDEX, KeyedRow, ReadModelError, RowReader};

/// Rows read at once.
const ROWS_PER_PAGE: u32 = 1_000;

/// A row that one read model has otherwise than another, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub table: String,
    /// `column=value`, of the key.
    pub key: String,
    /// Its columns in the one; none where there is no such row.
    pub one: Option<String>,
    /// In the other.
    pub other: Option<String>,
}

/// Takes the content of the one read model while it reads the other.
pub(super) struct Comparison<'a> {
    manifest: &'a Manifest,
    other: Rows,
    table: u16,
    /// Tables are looked at to the first difference, or the first error.
    found: Result<Option<Difference>, ReadModelError>,
}

impl<'a> Comparison<'a> {
    pub(super) fn with(other: Box<dyn RowReader>, manifest: &'a Manifest) -> Self {
        Self {
            manifest,
            other: Rows::new(other),
            table: 0,
            found: Ok(None),
        }
    }

    /// The first difference in what was taken.
    pub(super) fn finish(self) -> Result<Option<Difference>, ReadModelError> {
        self.found
    }

    fn is_over(&self) -> bool {
        !matches!(self.found, Ok(None))
    }

    /// Notes the first difference up to and at a row of the one, or up to the table's end.
    fn compare(&mut self, row: Option<&[u8]>) -> Result<(), ReadModelError> {
        let table = &self.manifest.tables[usize::from(self.table)];
        let types = table.column_types();
        let one = row.map(|row| (key_of_row(row, &types, &table.key).unwrap_or_default(), row));
        let other = self.other.peek(self.table)?.cloned();
        let (one, other) = match (one, other) {
            (None, None) => return Ok(()),
            (Some((key, row)), Some(other)) if key == other.key => {
                if row == other.row {
                    self.other.next();
                    return Ok(());
                }
                (Some(row), Some(other))
            }
            (Some((key, row)), Some(other)) if key < other.key => (Some(row), None),
            (Some((_, row)), None) => (Some(row), None),
            (_, other) => (None, other),
        };
        let shown = |row: &[u8], key_only| shown(self.manifest, self.table, row, key_only);
        let either = one
            .or(other.as_ref().map(|it| it.row.as_slice()))
            .unwrap_or_default();
        self.found = Ok(Some(Difference {
            table: table.name.clone(),
            key: shown(either, true),
            one: one.map(|row| shown(row, false)),
            other: other.as_ref().map(|it| shown(&it.row, false)),
        }));
        Ok(())
    }

    fn look(&mut self, row: Option<&[u8]>) {
        if self.is_over() {
            return;
        }
        if let Err(error) = self.compare(row) {
            self.found = Err(error);
        }
    }
}

impl ContentSink for Comparison<'_> {
    fn table(&mut self, name: &str) {
        let number = self.manifest.tables.iter().position(|it| it.name == name);
        self.table = u16::try_from(number.unwrap_or(0)).unwrap_or(0);
        self.other.rewind();
    }

    fn row(&mut self, row: &[u8]) -> ControlFlow<()> {
        self.look(Some(row));
        if self.is_over() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn end_table(&mut self) {
        self.look(None);
    }
}

/// The rows of a table in key order, a page at a time.
struct Rows {
    reader: Box<dyn RowReader>,
    page: std::vec::IntoIter<KeyedRow>,
    last: Option<Vec<u8>>,
    ended: bool,
}

impl Rows {
    fn new(reader: Box<dyn RowReader>) -> Self {
        Self {
            reader,
            page: Vec::new().into_iter(),
            last: None,
            ended: false,
        }
    }

    fn rewind(&mut self) {
        self.page = Vec::new().into_iter();
        self.last = None;
        self.ended = false;
    }

    fn peek(&mut self, table: u16) -> Result<Option<&KeyedRow>, ReadModelError> {
        if self.page.as_slice().is_empty() && !self.ended {
            let after = self.last.as_deref();
            let page = self
                .reader
                .scan(table, KEY_INDEX, &[], after, ROWS_PER_PAGE)?;
            self.ended = page.is_empty();
            self.last = page.last().map(|it| it.key.clone());
            self.page = page.into_iter();
        }
        Ok(self.page.as_slice().first())
    }

    fn next(&mut self) {
        self.page.next();
    }
}

/// A row as a person reads it, or the key in it.
fn shown(manifest: &Manifest, table: u16, row: &[u8], key_only: bool) -> String {
    let table = &manifest.tables[usize::from(table)];
    let Ok(values) = decode_row(row, &table.column_types()) else {
        return "(not a row)".to_owned();
    };
    let named = table.columns.iter().zip(&values).enumerate();
    let named = named.filter(|(number, _)| {
        !key_only || table.key.iter().any(|key| usize::from(*key) == *number)
    });
    let named = named.map(|(_, (column, value))| format!("{}={}", column.name, plain(value)));
    named.collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(it) => it.to_string(),
        Value::Integer(it) => it.to_string(),
        Value::Real(it) => it.to_string(),
        Value::Text(it) => format!("{it:?}"),
        Value::Bytes(it) => format!("{} bytes", it.len()),
        Value::Timestamp(it) => format_rfc3339(*it),
        Value::Uuid(it) => uuid::Uuid::from_bytes(*it).to_string(),
        Value::Json(it) => it.clone(),
    }
}

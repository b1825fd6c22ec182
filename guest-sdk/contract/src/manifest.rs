//! What a module says of itself, mirrored from the WIT, and the check that it makes sense.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::fit::ANY_TYPE;
use crate::names::{self, NameError};
use crate::path::{self, Path};
use crate::value::ColumnType;

pub const TABLES_MAX: usize = 64;
pub const COLUMNS_MAX: usize = 256;
pub const INDEXES_MAX: usize = 16;
/// Columns of a key at most, and of an index together with those of the key that stand behind its
/// own: PostgreSQL's limit.
pub const KEY_COLUMNS_MAX: usize = 32;
pub const SHAPES_MAX: usize = 1024;
pub const FIELDS_MAX: usize = 256;
/// Bytes of an event type at most, as in the log.
pub const EVENT_TYPE_BYTES_MAX: usize = 512;
/// Bytes of a field's path at most.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a projection's version at most.
pub const VERSION_BYTES_MAX: usize = 64;
/// The index number that means the primary key in `scan`.
pub const KEY_INDEX: u16 = u16::MAX;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The projection.
    pub name: String,
    /// A semantic version.
    pub version: String,
    pub shapes: Vec<Shape>,
    pub tables: Vec<Table>,
    pub envelope: Envelope,
    pub hints: Vec<Hint>,
    pub after_replay: Vec<AfterReplay>,
}

/// The fields that a module wants of an event type. Several shapes may name one type; the first
/// that an event fits wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The event type, or `*` for every type that no other shape names.
    pub event_type: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Where the value is: the first of these that the payload has. A dotted path (`a.b`), a JSON
    /// pointer when it starts with `/`, or `$` for the whole payload.
    pub paths: Vec<String>,
    pub wants: Wanted,
    /// The payload may lack it.
    pub optional: bool,
    /// The payload may have null there.
    pub nullable: bool,
}

/// The type of value that a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Boolean,
    Integer,
    Real,
    Text,
    Timestamp,
    Uuid,
    Json,
}

impl Wanted {
    /// What messages call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
            Self::Uuid => "UUID",
            Self::Json => "JSON",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub columns: Vec<TableColumn>,
    /// The primary key: indexes into `columns`, in key order.
    pub key: Vec<u16>,
    pub indexes: Vec<TableIndex>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    pub name: String,
    pub kind: ColumnType,
    pub nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableIndex {
    pub name: String,
    /// Indexes into the table's columns, in index order.
    pub columns: Vec<u16>,
    pub unique: bool,
}

/// These fields of this shape are a key of this table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    pub shape: u16,
    pub fields: Vec<u16>,
    pub table: u16,
}

/// SQL to run once after the replay, before the version becomes ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterReplay {
    pub dialect: Dialect,
    pub sql: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// The parts of an event's envelope that the module wants.
#[allow(clippy::struct_excessive_bools, reason = "the flags of the WIT")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub revision: bool,
    pub time: bool,
    pub recorded_at: bool,
    pub occurred_at: bool,
    pub stream: bool,
    pub id: bool,
    pub metadata: bool,
    pub type_name: bool,
}

impl Table {
    /// The type of each column and whether it may be null, as the functions of
    /// [`row`](crate::row) take them.
    pub fn column_types(&self) -> Vec<(ColumnType, bool)> {
        self.columns
            .iter()
            .map(|column| (column.kind, column.nullable))
            .collect()
    }

    /// The types of the key, as [`decode_key`](crate::decode_key) takes them.
    pub fn key_types(&self) -> Vec<ColumnType> {
        self.types_of(&self.key)
    }

    /// The types of the given columns, such as those of an index.
    pub fn types_of(&self, columns: &[u16]) -> Vec<ColumnType> {
        columns
            .iter()
            .map(|&column| self.columns[usize::from(column)].kind)
            .collect()
    }

    /// Whether any index is unique, so that changes must be given in order and uncoalesced.
    pub fn has_unique_index(&self) -> bool {
        self.indexes.iter().any(|index| index.unique)
    }

    /// How many columns an index has in the database: its own, and behind them those of the key that
    /// it lacks, so that scans find rows in their order. A unique index has only its own.
    fn indexed_columns(&self, index: &TableIndex) -> usize {
        let is_missing = |column: &&u16| !index.unique && !index.columns.contains(column);
        index.columns.len() + self.key.iter().filter(is_missing).count()
    }
}

/// A manifest that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("table `{table}`: {source}")]
    NameInTable { table: String, source: NameError },
    #[error("version `{version}` is not a semantic version such as 1.0.0: {reason}")]
    Version { version: String, reason: String },
    #[error("{place} has no {what}: declare at least one")]
    None { place: String, what: &'static str },
    #[error("{place} has {found} {what}, and at most {limit} are allowed")]
    TooMany {
        place: String,
        what: &'static str,
        found: usize,
        limit: usize,
    },
    #[error("{place} has two {what} named `{name}`: rename one")]
    Duplicate {
        place: String,
        what: &'static str,
        name: String,
    },
    #[error("{place} names column number {column}, and there are only {count}")]
    NoSuchColumn {
        place: String,
        column: u16,
        count: usize,
    },
    #[error("{place} names the column `{column}` twice")]
    RepeatedColumn { place: String, column: String },
    #[error("{place} names the column `{column}`, which may be null: a key needs a value")]
    NullableKey { place: String, column: String },
    #[error("{place} names the column `{column}`, which is JSON and has no order")]
    JsonKey { place: String, column: String },
    #[error("a shape has the event type `{event_type}`, which is empty, has a NUL, or is too long")]
    EventType { event_type: String },
    #[error("event type `{event_type}`, field {field}: the path `{path}` is not valid: {reason}")]
    Path {
        event_type: String,
        field: usize,
        path: String,
        reason: &'static str,
    },
    #[error("hint {hint} names a {what} that does not exist")]
    Hint { hint: usize, what: &'static str },
    #[error("hint {hint} has {fields} fields for the key of table `{table}`, which has {columns}")]
    HintLength {
        hint: usize,
        fields: usize,
        table: String,
        columns: usize,
    },
}

/// Checks everything about a manifest that can be checked without running it.
pub fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    names::check_projection_name(&manifest.name)?;
    within(
        "the version",
        "bytes",
        manifest.version.len(),
        0,
        VERSION_BYTES_MAX,
    )?;
    semver::Version::parse(&manifest.version).map_err(|error| ManifestError::Version {
        version: manifest.version.clone(),
        reason: error.to_string(),
    })?;
    within(
        "the manifest",
        "tables",
        manifest.tables.len(),
        1,
        TABLES_MAX,
    )?;
    within(
        "the manifest",
        "shapes",
        manifest.shapes.len(),
        1,
        SHAPES_MAX,
    )?;
    manifest.tables.iter().try_for_each(check_table)?;
    let table_names = manifest.tables.iter().map(|table| &table.name);
    distinct("the manifest", "tables", table_names)?;
    manifest.shapes.iter().try_for_each(check_shape)?;
    manifest
        .hints
        .iter()
        .enumerate()
        .try_for_each(|(i, hint)| check_hint(manifest, i, hint))
}

fn check_table(table: &Table) -> Result<(), ManifestError> {
    names::check_table_name(&table.name)?;
    let in_table = |source| ManifestError::NameInTable {
        table: table.name.clone(),
        source,
    };
    let place = format!("table `{}`", table.name);
    within(&place, "columns", table.columns.len(), 1, COLUMNS_MAX)?;
    for column in &table.columns {
        names::check_column_name(&column.name).map_err(in_table)?;
    }
    distinct(
        &place,
        "columns",
        table.columns.iter().map(|column| &column.name),
    )?;

    let place_of_key = format!("the key of {place}");
    within(
        &place_of_key,
        "columns",
        table.key.len(),
        1,
        KEY_COLUMNS_MAX,
    )?;
    check_columns(&place_of_key, table, &table.key)?;
    for &column in &table.key {
        let column = &table.columns[usize::from(column)];
        if column.nullable {
            let (place, column) = (place_of_key, column.name.clone());
            return Err(ManifestError::NullableKey { place, column });
        }
    }

    within(&place, "indexes", table.indexes.len(), 0, INDEXES_MAX)?;
    for index in &table.indexes {
        names::check_index_name(&index.name).map_err(in_table)?;
        let place = format!("index `{}` of {place}", index.name);
        within(&place, "columns", index.columns.len(), 1, KEY_COLUMNS_MAX)?;
        check_columns(&place, table, &index.columns)?;
        let with_key = format!("{place}, with the key behind it,");
        let columns = table.indexed_columns(index);
        within(&with_key, "columns", columns, 1, KEY_COLUMNS_MAX)?;
    }
    distinct(
        &place,
        "indexes",
        table.indexes.iter().map(|index| &index.name),
    )
}

/// Columns of a key or an index: they exist, stand there once, and have an order.
fn check_columns(place: &str, table: &Table, columns: &[u16]) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for &number in columns {
        let place = place.to_owned();
        let Some(column) = table.columns.get(usize::from(number)) else {
            let count = table.columns.len();
            return Err(ManifestError::NoSuchColumn {
                place,
                column: number,
                count,
            });
        };
        let name = column.name.clone();
        if !seen.insert(number) {
            return Err(ManifestError::RepeatedColumn {
                place,
                column: name,
            });
        }
        if column.kind == ColumnType::Json {
            return Err(ManifestError::JsonKey {
                place,
                column: name,
            });
        }
    }
    Ok(())
}

fn check_shape(shape: &Shape) -> Result<(), ManifestError> {
    let event_type = &shape.event_type;
    if event_type.is_empty() || event_type.len() > EVENT_TYPE_BYTES_MAX || event_type.contains('\0')
    {
        return Err(ManifestError::EventType {
            event_type: names::cut(event_type),
        });
    }
    let place = if event_type == ANY_TYPE {
        "the shape for every other event type".to_owned()
    } else {
        format!("event type `{event_type}`")
    };
    within(&place, "fields", shape.fields.len(), 0, FIELDS_MAX)?;
    for (number, field) in shape.fields.iter().enumerate() {
        let place = format!("{place}, field {number}");
        within(&place, "paths", field.paths.len(), 1, FIELDS_MAX)?;
        for path in &field.paths {
            let place = format!("{place}, path `{}`", names::cut(path));
            within(&place, "bytes", path.len(), 0, PATH_BYTES_MAX)?;
            let parsed = Path::parse(path).map_err(|reason| ManifestError::Path {
                event_type: event_type.clone(),
                field: number,
                path: names::cut(path),
                reason,
            })?;
            within(&place, "keys", parsed.keys().len(), 0, path::KEYS_MAX)?;
        }
    }
    Ok(())
}

fn check_hint(manifest: &Manifest, number: usize, hint: &Hint) -> Result<(), ManifestError> {
    let missing = |what| ManifestError::Hint { hint: number, what };
    let shape = manifest
        .shapes
        .get(usize::from(hint.shape))
        .ok_or(missing("shape"))?;
    let table = manifest
        .tables
        .get(usize::from(hint.table))
        .ok_or(missing("table"))?;
    if hint
        .fields
        .iter()
        .any(|&field| usize::from(field) >= shape.fields.len())
    {
        return Err(missing("field"));
    }
    if hint.fields.len() != table.key.len() {
        return Err(ManifestError::HintLength {
            hint: number,
            fields: hint.fields.len(),
            table: table.name.clone(),
            columns: table.key.len(),
        });
    }
    Ok(())
}

fn within(
    place: &str,
    what: &'static str,
    found: usize,
    least: usize,
    limit: usize,
) -> Result<(), ManifestError> {
    if found < least {
        return Err(ManifestError::None {
            place: place.to_owned(),
            what,
        });
    }
    if found > limit {
        return Err(ManifestError::TooMany {
            place: place.to_owned(),
            what,
            found,
            limit,
        });
    }
    Ok(())
}

fn distinct<'a>(
    place: &str,
    what: &'static str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    match names.find(|&name| !seen.insert(name)) {
        None => Ok(()),
        Some(name) => Err(ManifestError::Duplicate {
            place: place.to_owned(),
            what,
            name: name.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;

//! A manifest's tables as PostgreSQL tables, and the SQL texts that read and write them.
//!
//! | column type | stored as |
//! |---|---|
//! | boolean | boolean |
//! | integer | bigint |
//! | real | double precision |
//! | text | text COLLATE "C" |
//! | bytes | bytea |
//! | timestamp | timestamptz |
//! | UUID | uuid |
//! | JSON | jsonb |
//!
//! In every type that can be in a key, PostgreSQL's order (nulls first where that is said, texts and
//! bytes by their bytes) is the order of the key encoding.

use retell_contract::manifest::{Manifest, Table, TableIndex};
use retell_contract::value::ColumnType;

use super::values::sql_type;

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// One table of the manifest with the SQL that its rows need.
#[derive(Debug)]
pub(super) struct TableSql {
    pub(super) name: String,
    /// With its schema, quoted.
    pub(super) qualified: String,
    pub(super) columns: Vec<(ColumnType, bool)>,
    pub(super) column_names: Vec<String>,
    /// Numbers of the key's columns, in key order.
    pub(super) key: Vec<u16>,
    pub(super) key_types: Vec<ColumnType>,
    pub(super) indexes: Vec<IndexSql>,
    pub(super) has_unique_index: bool,
    pub(super) create: String,
    /// The place in the list of keys, and all columns of the row, of each key that has one.
    pub(super) get_many: String,
    /// All rows in key order.
    pub(super) all: String,
    pub(super) upsert: String,
    /// The rows under a list of keys.
    pub(super) delete_many: String,
    pub(super) copy_in: String,
    /// A table of the session's own for rows that may be there already …
    pub(super) create_stage: String,
    pub(super) copy_to_stage: String,
    /// … and the one statement that puts them where they belong.
    pub(super) merge_stage: String,
    pub(super) empty_stage: String,
}

/// One index of a table.
#[derive(Debug)]
pub(super) struct IndexSql {
    pub(super) name: String,
    pub(super) columns: Vec<u16>,
    pub(super) types: Vec<ColumnType>,
    pub(super) unique: bool,
    /// Its name in the schema, where indexes share one name space with tables. The dot keeps it
    /// apart from every name that a manifest may have.
    pub(super) sql_name: String,
    pub(super) create: String,
    /// The key of the row that holds a value (unique indexes).
    pub(super) owner: String,
}

/// All tables of a manifest, in a schema.
pub(super) fn tables(schema: &str, manifest: &Manifest) -> Vec<TableSql> {
    let tables = manifest.tables.iter();
    tables.map(|table| TableSql::new(schema, table)).collect()
}

impl TableSql {
    fn new(schema: &str, table: &Table) -> Self {
        let qualified = format!("{}.{}", quote(schema), quote(&table.name));
        let column_names: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
        let all_columns = column_names.join(", ");
        let key = names(&column_names, &table.key);
        let key_types = table.key_types();
        let (lists, list_names) = lists(&key_types);
        let same_key: Vec<String> = key
            .iter()
            .zip(&list_names)
            .map(|(column, listed)| format!("t.{column} = asked.{listed}"))
            .collect();
        let same_key = same_key.join(" AND ");
        let places: Vec<String> = (1..=column_names.len()).map(|n| format!("${n}")).collect();
        let on_conflict = on_conflict(table, &column_names);
        let stage = format!("pg_temp.{}", quote(&table.name));
        let read_columns: Vec<String> = column_names.iter().map(|c| format!("t.{c}")).collect();
        Self {
            columns: table.column_types(),
            indexes: (0..)
                .zip(&table.indexes)
                .map(|(number, index)| {
                    IndexSql::new(schema, table, index, number, &column_names, &qualified)
                })
                .collect(),
            has_unique_index: table.has_unique_index(),
            create: create_table(table, &qualified),
            get_many: format!(
                "SELECT asked.number, {} FROM unnest({lists}) WITH ORDINALITY
                     AS asked ({}, number)
                 JOIN {qualified} AS t ON {same_key}",
                read_columns.join(", "),
                list_names.join(", "),
            ),
            all: format!(
                "SELECT {all_columns} FROM {qualified} ORDER BY {}",
                key.join(", ")
            ),
            upsert: format!(
                "INSERT INTO {qualified} ({all_columns}) VALUES ({}) {on_conflict}",
                places.join(", ")
            ),
            delete_many: format!(
                "DELETE FROM {qualified} AS t USING unnest({lists}) AS asked ({}) WHERE {same_key}",
                list_names.join(", "),
            ),
            copy_in: format!("COPY {qualified} ({all_columns}) FROM STDIN (FORMAT binary)"),
            create_stage: format!(
                "CREATE TEMPORARY TABLE {} (LIKE {qualified})",
                quote(&table.name)
            ),
            copy_to_stage: format!("COPY {stage} ({all_columns}) FROM STDIN (FORMAT binary)"),
            merge_stage: format!(
                "INSERT INTO {qualified} ({all_columns}) SELECT {all_columns} FROM {stage} {on_conflict}"
            ),
            empty_stage: format!("TRUNCATE {stage}"),
            name: table.name.clone(),
            key: table.key.clone(),
            key_types,
            qualified,
            column_names,
        }
    }
}

impl IndexSql {
    fn new(
        schema: &str,
        table: &Table,
        index: &TableIndex,
        number: usize,
        column_names: &[String],
        qualified: &str,
    ) -> Self {
        let mut sql_name = format!("{}.{}", table.name, index.name);
        if sql_name.len() > NAME_BYTES_MAX {
            sql_name = format!("{}.{number}", table.name);
        }
        let columns = names(column_names, &index.columns);
        let types = table.types_of(&index.columns);
        let matches: Vec<String> = (1..)
            .zip(&columns)
            .map(|(place, name)| format!("{name} = ${place}"))
            .collect();
        let unique = if index.unique { "UNIQUE " } else { "" };
        let ordered: Vec<String> = names(column_names, &indexed_columns(table, index))
            .iter()
            .map(|name| format!("{name} NULLS FIRST"))
            .collect();
        Self {
            name: index.name.clone(),
            columns: index.columns.clone(),
            unique: index.unique,
            create: format!(
                "CREATE {unique}INDEX {} ON {qualified} ({})",
                quote(&sql_name),
                ordered.join(", ")
            ),
            owner: format!(
                "SELECT {} FROM {qualified} WHERE {}",
                names(column_names, &table.key).join(", "),
                matches.join(" AND ")
            ),
            sql_name: format!("{}.{}", quote(schema), quote(&sql_name)),
            types,
        }
    }
}

/// An identifier in quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Parameters for lists of keys, one for each column, and what the columns of the list are called.
fn lists(types: &[ColumnType]) -> (String, Vec<String>) {
    let list = |(place, &kind): (usize, &ColumnType)| format!("${place}::{}[]", sql_type(kind));
    let lists: Vec<String> = (1..).zip(types).map(list).collect();
    let names = (1..=types.len()).map(|place| format!("key_{place}"));
    (lists.join(", "), names.collect())
}

fn create_table(table: &Table, qualified: &str) -> String {
    let mut parts: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let collate = match column.kind {
                ColumnType::Text => " COLLATE \"C\"",
                _ => "",
            };
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            let kind = sql_type(column.kind);
            format!("{} {kind}{collate}{not_null}", quote(&column.name))
        })
        .collect();
    let names: Vec<_> = table.columns.iter().map(|c| quote(&c.name)).collect();
    // No index of a manifest has a name that ends with the dot.
    parts.push(format!(
        "CONSTRAINT {} PRIMARY KEY ({})",
        quote(&format!("{}.", table.name)),
        self::names(&names, &table.key).join(", ")
    ));
    format!("CREATE TABLE {qualified} ({})", parts.join(", "))
}

/// The columns of an index, and those of the key behind them, so that scans find rows in their order;
/// a unique index has no room for it, and little need.
fn indexed_columns(table: &Table, index: &TableIndex) -> Vec<u16> {
    let mut columns = index.columns.clone();
    if !index.unique {
        let missing = table
            .key
            .iter()
            .filter(|column| !index.columns.contains(column));
        columns.extend(missing);
    }
    columns
}

fn on_conflict(table: &Table, column_names: &[String]) -> String {
    let key = names(column_names, &table.key).join(", ");
    let sets: Vec<String> = column_names
        .iter()
        .zip(0u16..)
        .filter(|(_, number)| !table.key.contains(number))
        .map(|(name, _)| format!("{name} = excluded.{name}"))
        .collect();
    if sets.is_empty() {
        format!("ON CONFLICT ({key}) DO NOTHING")
    } else {
        format!("ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", "))
    }
}

fn names(column_names: &[String], picked: &[u16]) -> Vec<String> {
    picked
        .iter()
        .map(|&column| column_names[usize::from(column)].clone())
        .collect()
}

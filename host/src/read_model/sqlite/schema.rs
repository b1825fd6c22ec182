//! A manifest's tables as SQLite tables, and the SQL texts that read and write them.
//!
//! | column type | stored as |
//! |---|---|
//! | boolean | INTEGER 0 or 1 |
//! | integer, timestamp (microseconds since the Unix epoch, UTC) | INTEGER |
//! | real | REAL |
//! | text, UUID (lower case, hyphens), JSON (canonical) | TEXT |
//! | bytes | BLOB |
//!
//! In every type, SQLite's order (null first, numbers by value, texts and blobs by their bytes) is
//! the order of the key encoding, so `ORDER BY` gives the order that the contract asks of scans.

use std::fmt::Write as _;

use retell_contract::manifest::{Manifest, Table, TableIndex};
use retell_contract::value::ColumnType;
use rusqlite::Connection;

/// One table of the manifest with the SQL that its rows need.
#[derive(Debug)]
pub(super) struct TableSql {
    pub(super) name: String,
    pub(super) columns: Vec<(ColumnType, bool)>,
    pub(super) column_names: Vec<String>,
    /// Numbers of the key's columns, in key order.
    pub(super) key: Vec<u16>,
    pub(super) key_types: Vec<ColumnType>,
    pub(super) layout: Layout,
    pub(super) indexes: Vec<IndexSql>,
    pub(super) has_unique_index: bool,
    pub(super) create: String,
    /// All columns of the row under a key.
    pub(super) get: String,
    /// All rows in key order.
    pub(super) all: String,
    pub(super) insert: String,
    pub(super) upsert: String,
    pub(super) delete: String,
}

/// One index of a table.
#[derive(Debug)]
pub(super) struct IndexSql {
    pub(super) name: String,
    pub(super) columns: Vec<u16>,
    pub(super) types: Vec<ColumnType>,
    pub(super) unique: bool,
    /// Its name in the database, where indexes share one name space with tables. The dot keeps it
    /// apart from every name that a manifest may have.
    pub(super) sql_name: String,
    pub(super) create: String,
    /// The key of the row that holds a value (unique indexes).
    pub(super) owner: String,
}

/// Makes all tables of a manifest, with all their indexes, in an empty database. For the fuzzers.
pub(crate) fn make_tables(connection: &Connection, manifest: &Manifest) -> rusqlite::Result<()> {
    for table in tables(manifest) {
        connection.execute_batch(&table.create)?;
        for index in &table.indexes {
            connection.execute_batch(&index.create)?;
        }
    }
    Ok(())
}

/// All tables of a manifest.
pub(super) fn tables(manifest: &Manifest) -> Vec<TableSql> {
    manifest.tables.iter().map(TableSql::new).collect()
}

impl TableSql {
    fn new(table: &Table) -> Self {
        let name = quote(&table.name);
        let column_names: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
        let all_columns = column_names.join(", ");
        let key = names(&column_names, &table.key);
        let key_matches = matches(&key);
        let places = vec!["?"; column_names.len()].join(", ");
        let insert = format!("INSERT INTO {name} ({all_columns}) VALUES ({places})");
        Self {
            columns: table.column_types(),
            key_types: table.key_types(),
            layout: Layout::of(table),
            indexes: table
                .indexes
                .iter()
                .map(|index| IndexSql::new(table, index, &column_names))
                .collect(),
            has_unique_index: table.has_unique_index(),
            create: create_table(table),
            get: format!("SELECT {all_columns} FROM {name} WHERE {key_matches}"),
            all: format!(
                "SELECT {all_columns} FROM {name} ORDER BY {}",
                key.join(", ")
            ),
            upsert: format!("{insert} {}", on_conflict(table, &column_names)),
            insert,
            delete: format!("DELETE FROM {name} WHERE {key_matches}"),
            name: table.name.clone(),
            key: table.key.clone(),
            column_names,
        }
    }

    /// What every flush runs, to see in advance whether SQLite takes it.
    pub(super) fn flush_statements(&self) -> [&str; 3] {
        [&self.insert, &self.upsert, &self.delete]
    }
}

impl IndexSql {
    fn new(table: &Table, index: &TableIndex, column_names: &[String]) -> Self {
        let sql_name = format!("{}.{}", table.name, index.name);
        let columns = names(column_names, &index.columns);
        let key = names(column_names, &table.key);
        let unique = if index.unique { "UNIQUE " } else { "" };
        Self {
            name: index.name.clone(),
            types: table.types_of(&index.columns),
            columns: index.columns.clone(),
            unique: index.unique,
            create: format!(
                "CREATE {unique}INDEX {} ON {} ({})",
                quote(&sql_name),
                quote(&table.name),
                names(column_names, &indexed_columns(table, index)).join(", ")
            ),
            owner: format!(
                "SELECT {} FROM {} WHERE {}",
                key.join(", "),
                quote(&table.name),
                matches(&columns)
            ),
            sql_name,
        }
    }
}

/// An identifier in quotes; the names of a manifest have none in them.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How SQLite keeps a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// By SQLite's own row number, which is the key: one column of integers.
    RowNumber { column: usize },
    /// In the B-tree of the key. A row is stored once and found in one descent, but a long one
    /// spills into pages of its own.
    Key,
    /// By a row number that nobody sees, with an index for the key.
    Heap,
}

impl Layout {
    /// Measured, per row written, with 8 KiB pages: rows of 80 bytes 1,740 ns by key and 2,070 ns as
    /// a heap, rows of 640 bytes 5,260 and 3,530 ns, rows of 2 KB 10,900 to 43,800 and 6,600 ns. So
    /// tables whose columns outside the key can't be long are kept by key, and the others are not.
    fn of(table: &Table) -> Self {
        let kind = |number: u16| table.columns[usize::from(number)].kind;
        if let &[only] = table.key.as_slice()
            && matches!(kind(only), ColumnType::Integer | ColumnType::Timestamp)
        {
            return Self::RowNumber {
                column: usize::from(only),
            };
        }
        let long = |kind| {
            matches!(
                kind,
                ColumnType::Text | ColumnType::Bytes | ColumnType::Json
            )
        };
        let mut others = (0u16..).zip(&table.columns);
        if !others.any(|(number, column)| !table.key.contains(&number) && long(column.kind)) {
            return Self::Key;
        }
        match *table.key.as_slice() {
            // SQLite takes the row number for any key of one INTEGER column.
            [only] if sql_type(kind(only)) == "INTEGER" => Self::RowNumber {
                column: usize::from(only),
            },
            _ => Self::Heap,
        }
    }
}

fn create_table(table: &Table) -> String {
    let mut sql = format!("CREATE TABLE {} (", quote(&table.name));
    let layout = Layout::of(table);
    for (number, column) in table.columns.iter().enumerate() {
        let _ = write!(sql, "{} {}", quote(&column.name), sql_type(column.kind));
        if layout == (Layout::RowNumber { column: number }) {
            sql.push_str(" PRIMARY KEY");
        } else if !column.nullable {
            sql.push_str(" NOT NULL");
        }
        if number + 1 < table.columns.len() {
            sql.push_str(", ");
        }
    }
    let names: Vec<_> = table.columns.iter().map(|c| quote(&c.name)).collect();
    let key = self::names(&names, &table.key).join(", ");
    let end = match layout {
        Layout::RowNumber { .. } => ") STRICT".to_owned(),
        Layout::Key => format!(", PRIMARY KEY ({key})) STRICT, WITHOUT ROWID"),
        Layout::Heap => format!(", PRIMARY KEY ({key})) STRICT"),
    };
    sql + &end
}

/// The columns of an index. Where SQLite does not append the key by itself, it is written out, so
/// that scans find the rows in their order; a unique index has no room for it, and little need.
fn indexed_columns(table: &Table, index: &TableIndex) -> Vec<u16> {
    let mut columns = index.columns.clone();
    if !index.unique && Layout::of(table) == Layout::Heap {
        let missing = table
            .key
            .iter()
            .filter(|column| !index.columns.contains(column));
        columns.extend(missing);
    }
    columns
}

fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Boolean | ColumnType::Integer | ColumnType::Timestamp => "INTEGER",
        ColumnType::Real => "REAL",
        ColumnType::Text | ColumnType::Uuid | ColumnType::Json => "TEXT",
        ColumnType::Bytes => "BLOB",
    }
}

/// An upsert and never REPLACE, which would not fire delete triggers and leave full-text entries
/// behind.
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

fn matches(columns: &[String]) -> String {
    let equal: Vec<String> = columns.iter().map(|name| format!("{name} = ?")).collect();
    equal.join(" AND ")
}

#[cfg(test)]
mod tests {
    use retell_contract::manifest::TableColumn;

    use super::*;

    fn table(columns: &[(&str, ColumnType)], key: &[u16]) -> Table {
        Table {
            name: "t".into(),
            columns: columns
                .iter()
                .map(|&(name, kind)| TableColumn {
                    name: name.into(),
                    kind,
                    nullable: false,
                })
                .collect(),
            key: key.to_vec(),
            indexes: vec![],
        }
    }

    #[test]
    fn rows_are_kept_where_they_are_cheap() {
        use ColumnType::{Boolean, Integer, Text, Timestamp, Uuid};
        let sql = |columns: &[(&str, ColumnType)], key: &[u16]| create_table(&table(columns, key));
        assert_eq!(
            sql(&[("a", Text), ("at", Timestamp)], &[1]),
            r#"CREATE TABLE "t" ("a" TEXT NOT NULL, "at" INTEGER PRIMARY KEY) STRICT"#
        );
        assert_eq!(
            sql(&[("a", Text), ("n", Integer), ("b", Uuid)], &[2, 0]),
            r#"CREATE TABLE "t" ("a" TEXT NOT NULL, "n" INTEGER NOT NULL, "b" TEXT NOT NULL, PRIMARY KEY ("b", "a")) STRICT, WITHOUT ROWID"#
        );
        assert_eq!(
            sql(&[("a", Text), ("b", Boolean)], &[1]),
            r#"CREATE TABLE "t" ("a" TEXT NOT NULL, "b" INTEGER PRIMARY KEY) STRICT"#
        );
        assert_eq!(
            sql(&[("a", Text), ("b", Text)], &[0]),
            r#"CREATE TABLE "t" ("a" TEXT NOT NULL, "b" TEXT NOT NULL, PRIMARY KEY ("a")) STRICT"#
        );
    }

    #[test]
    fn an_index_of_a_heap_holds_the_key() {
        use ColumnType::Text;
        let mut table = table(&[("a", Text), ("b", Text), ("c", Text)], &[0, 1]);
        let mut index = TableIndex {
            name: "i".into(),
            columns: vec![2, 1],
            unique: false,
        };
        assert_eq!(indexed_columns(&table, &index), [2, 1, 0]);
        index.unique = true;
        assert_eq!(indexed_columns(&table, &index), [2, 1]);
        index.unique = false;
        table.key = vec![0, 1, 2];
        assert_eq!(indexed_columns(&table, &index), [2, 1]);
    }
}

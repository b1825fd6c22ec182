//! Scans by the key or an index, from any place on.

use retell_contract::value::{ColumnType, Value};

use super::read::SqliteRows;
use super::rows;
use super::schema::{TableSql, quote};
use crate::read_model::levels::{Along, Level};
use crate::read_model::{KEY_INDEX, KeyedRow, ReadModelError};

/// The columns that a scan runs along: those of the index, then those of the key.
struct Order<'a> {
    index_name: &'a str,
    names: Vec<&'a str>,
    types: Vec<ColumnType>,
    /// How many of them a prefix may have.
    prefix_max: usize,
}

impl<'a> Order<'a> {
    fn new(table: &'a TableSql, index: u16) -> Result<Self, ReadModelError> {
        let mut columns = Vec::new();
        let mut index_name = "the key";
        if index != KEY_INDEX {
            let found = table.indexes.get(usize::from(index));
            let found = found.ok_or_else(|| ReadModelError::Unknown {
                what: format!("index {index} of table `{}`", table.name),
            })?;
            index_name = &found.name;
            columns.extend_from_slice(&found.columns);
        }
        let prefix_max = if index == KEY_INDEX {
            table.key.len()
        } else {
            columns.len()
        };
        columns.extend_from_slice(&table.key);
        let columns = || columns.iter().map(|&column| usize::from(column));
        Ok(Self {
            index_name,
            names: columns().map(|c| table.column_names[c].as_str()).collect(),
            types: columns().map(|c| table.columns[c].0).collect(),
            prefix_max,
        })
    }
}

impl SqliteRows {
    pub(super) fn scan_rows(
        &self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<KeyedRow>, ReadModelError> {
        let tables = self.tables.clone();
        let spec = super::table_of(&tables, table)?;
        let order = Order::new(spec, index)?;
        let along = Along {
            table: &spec.name,
            index: order.index_name,
            types: &order.types,
            prefix_max: order.prefix_max,
        };
        let mut found = Vec::new();
        for level in along.levels(prefix, after)? {
            self.run_level(spec, &order, &level, limit, &mut found)?;
        }
        Ok(found)
    }

    /// Adds the rows of a level, as long as there are not enough.
    fn run_level(
        &self,
        table: &TableSql,
        order: &Order<'_>,
        level: &Level,
        limit: u32,
        found: &mut Vec<KeyedRow>,
    ) -> Result<(), ReadModelError> {
        let missing = (limit as usize).saturating_sub(found.len());
        if missing == 0 {
            return Ok(());
        }
        let Level { same, above } = level;
        let sql = level_sql(table, order, same, above.as_ref());
        let (path, fault) = (&self.path, |error| self.fault(error));
        let mut statement = self.connection.prepare_cached(&sql).map_err(fault)?;
        let bound: Vec<Value> = same
            .iter()
            .chain(above)
            .filter(|value| **value != Value::Null)
            .cloned()
            .collect();
        rows::bind_all(&mut statement, 1, &bound).map_err(fault)?;
        statement
            .raw_bind_parameter(bound.len() + 1, i64::try_from(missing).unwrap_or(i64::MAX))
            .map_err(fault)?;
        let mut read = statement.raw_query();
        while let Some(row) = read.next().map_err(fault)? {
            let mut bytes = Vec::new();
            rows::push_row(&mut bytes, row, &table.columns)
                .map_err(|error| super::read_fault(path, error))?;
            let key = super::key_of(table, &bytes)?;
            found.push(KeyedRow { key, row: bytes });
        }
        Ok(())
    }
}

fn level_sql(table: &TableSql, order: &Order<'_>, same: &[Value], above: Option<&Value>) -> String {
    let mut conditions = Vec::new();
    for (name, value) in order.names.iter().zip(same) {
        conditions.push(match value {
            Value::Null => format!("{name} IS NULL"),
            _ => format!("{name} = ?"),
        });
    }
    if let Some(value) = above {
        let name = order.names[same.len()];
        conditions.push(match value {
            Value::Null => format!("{name} IS NOT NULL"),
            _ => format!("{name} > ?"),
        });
    }
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    format!(
        "SELECT {} FROM {}{filter} ORDER BY {} LIMIT ?",
        table.column_names.join(", "),
        quote(&table.name),
        order.names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::read_model::conformance::people;
    use crate::read_model::sqlite::schema;

    /// A scan that sorts would read everything under its prefix for each page of rows.
    #[test]
    fn no_scan_sorts() {
        let tables = schema::tables(&people());
        let connection = Connection::open_in_memory().expect("opens");
        for table in &tables {
            connection.execute_batch(&table.create).expect("creates");
            for index in &table.indexes {
                connection.execute_batch(&index.create).expect("creates");
            }
        }
        let plan = |sql: &str| -> String {
            let mut statement = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .expect("prepares");
            let mut rows = statement.raw_query();
            let mut plan = String::new();
            while let Some(row) = rows.next().expect("explains") {
                plan += &row.get::<_, String>(3).expect("has text");
            }
            plan
        };
        let text = Value::Text("x".into());
        let cases = [
            (0, KEY_INDEX, vec![], None),
            (0, KEY_INDEX, vec![], Some(&text)),
            (0, 1, vec![], None),
            (0, 1, vec![text.clone()], None),
            (0, 1, vec![Value::Null], Some(&Value::Integer(1))),
            (0, 1, vec![text.clone(), Value::Integer(1)], Some(&text)),
            (0, 0, vec![text.clone()], None),
            (1, KEY_INDEX, vec![], Some(&Value::Timestamp(1))),
        ];
        for (table, index, same, above) in cases {
            let table = &tables[table];
            let order = Order::new(table, index).expect("exists");
            let plan = plan(&level_sql(table, &order, &same, above));
            assert!(
                !plan.contains("TEMP B-TREE"),
                "{index} {same:?} {above:?}: {plan}"
            );
            if !same.is_empty() || above.is_some() {
                assert!(
                    plan.contains("SEARCH"),
                    "{index} {same:?} {above:?}: {plan}"
                );
            }
        }
    }
}

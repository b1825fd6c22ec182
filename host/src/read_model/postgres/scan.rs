//! Scans by the key or an index, from any place on.

use retell_contract::value::{ColumnType, Value};
use sqlx::AssertSqlSafe;

use super::read::PgRows;
use super::schema::TableSql;
use super::values::{self, Parameter};
use crate::read_model::levels::{Along, Level};
use crate::read_model::{KEY_INDEX, KeyedRow, ReadModelError};

/// The columns that a scan runs along: those of the index, then those of the key.
struct Order<'a> {
    index_name: &'a str,
    names: Vec<&'a str>,
    types: Vec<ColumnType>,
    /// How many of them a prefix may have.
    prefix_max: usize,
    /// How the index sorts: that of the key has no nulls, and is as PostgreSQL makes it.
    nulls_first: &'static str,
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
            nulls_first: if index == KEY_INDEX {
                ""
            } else {
                " NULLS FIRST"
            },
        })
    }
}

impl PgRows {
    pub(super) fn scan_rows(
        &mut self,
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
        &mut self,
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
        let bound = same.iter().chain(above).zip(&order.types);
        let rows = self.run(async |connection| {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (value, &kind) in bound.filter(|(value, _)| **value != Value::Null) {
                let value = value.as_ref();
                query = query.bind(Parameter { kind, value });
            }
            query
                .bind(i64::try_from(missing).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await
        })?;
        for row in &rows {
            let mut bytes = Vec::new();
            values::push_row(&mut bytes, row, 0, &table.columns)
                .map_err(|error| super::read_fault(&self.place.name(), error))?;
            let key = super::key_of(table, &bytes)?;
            found.push(KeyedRow { key, row: bytes });
        }
        Ok(())
    }
}

fn level_sql(table: &TableSql, order: &Order<'_>, same: &[Value], above: Option<&Value>) -> String {
    let mut conditions = Vec::new();
    let mut place = 0;
    let mut parameter = || {
        place += 1;
        format!("${place}")
    };
    for (name, value) in order.names.iter().zip(same) {
        conditions.push(match value {
            Value::Null => format!("{name} IS NULL"),
            _ => format!("{name} = {}", parameter()),
        });
    }
    if let Some(value) = above {
        let name = order.names[same.len()];
        conditions.push(match value {
            Value::Null => format!("{name} IS NOT NULL"),
            _ => format!("{name} > {}", parameter()),
        });
    }
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    let sorted: Vec<String> = (order.names.iter())
        .map(|name| format!("{name}{}", order.nulls_first))
        .collect();
    format!(
        "SELECT {} FROM {}{filter} ORDER BY {} LIMIT {}",
        table.column_names.join(", "),
        table.qualified,
        sorted.join(", "),
        parameter()
    )
}

//! Whether two databases hold the same: tables, indexes, and every row.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// How many rows there are, in both alike. Fails where they differ, and where a table is empty.
pub(crate) fn same(ours: &Path, theirs: &Path) -> anyhow::Result<u64> {
    let (ours, theirs) = (open(ours)?, open(theirs)?);
    let schema = schema(&ours)?;
    ensure!(
        schema == self::schema(&theirs)?,
        "other tables: {schema:#?} and {:#?}",
        self::schema(&theirs)?
    );
    let mut rows = 0;
    for (kind, name, _) in &schema {
        if kind == "table" {
            let found = same_rows(&ours, &theirs, name).with_context(|| name.clone())?;
            ensure!(found > 0, "table {name} is empty");
            rows += found;
        }
    }
    ensure!(rows > 0, "there are no tables");
    Ok(rows)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Kind, name and SQL of everything but retell's own table.
fn schema(model: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let mut statement = model.prepare(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'retell%' ORDER BY 1, 2",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn same_rows(ours: &Connection, theirs: &Connection, table: &str) -> anyhow::Result<u64> {
    let key: Vec<String> = ours
        .prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let sql = format!("SELECT * FROM \"{table}\" ORDER BY {}", key.join(", "));
    let (mut ours, mut theirs) = (ours.prepare(&sql)?, theirs.prepare(&sql)?);
    let (mut ours, mut theirs) = (ours.query([])?, theirs.query([])?);
    let mut rows = 0;
    loop {
        let (one, other) = (values(ours.next()?)?, values(theirs.next()?)?);
        if one != other {
            bail!("row {rows} is {one:?} and {other:?}");
        }
        if one.is_none() {
            return Ok(rows);
        }
        rows += 1;
    }
}

fn values(row: Option<&rusqlite::Row<'_>>) -> rusqlite::Result<Option<Vec<Value>>> {
    let columns = |row: &rusqlite::Row<'_>| {
        (0..row.as_ref().column_count())
            .map(|column| row.get(column))
            .collect()
    };
    row.map(columns).transpose()
}

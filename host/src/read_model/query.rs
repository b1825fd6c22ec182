//! Read-only SQL on one read model: what goes in, what comes out, and what is refused.
//!
//! A query sees one read model and can change nothing. How, is the backend's: in SQLite the connection
//! is read-only, and an authorizer refuses everything but reading, whatever it hides in; in PostgreSQL
//! it runs as a role that can only read, in a transaction that can't write. Rows stream to a
//! [`RowSink`], so a result may be larger than memory.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use super::ReadModelError;
use crate::limits;

/// One value of a result row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    /// Bytes that are no UTF-8 were replaced.
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

/// Where the rows of a result go. An error of the sink ends the query.
pub trait RowSink {
    /// Called once, before the first row.
    fn columns(&mut self, names: &[String]) -> io::Result<()>;
    /// Called for each row; `Break` ends the query early, as if there were no more rows.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>>;
}

/// How much one query may take.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    pub time_max: Duration,
    /// Largest text or blob, and largest row.
    pub value_bytes_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            time_max: limits::QUERY_TIME_MAX,
            value_bytes_max: limits::QUERY_VALUE_BYTES_MAX,
        }
    }
}

/// A query that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    #[error("the query has a mistake: {message}{}", pointer(sql, *offset))]
    Sql {
        message: String,
        sql: String,
        /// Where in the SQL, in bytes, if it is known.
        offset: Option<usize>,
    },
    #[error("the query has a mistake: {message}{}", pointer(sql, *offset))]
    NoSuchTable {
        message: String,
        sql: String,
        offset: Option<usize>,
        /// The tables and views that there are.
        tables: Vec<String>,
    },
    #[error("the query is not for reading only: {reason}")]
    NotReadOnly { reason: String },
    #[error("the query has more than one statement")]
    ManyStatements,
    #[error("the query is empty")]
    Empty,
    #[error("the query has the parameter `{name}`, and nothing is given for it")]
    Parameter { name: String },
    #[error("the query took longer than {} s and was stopped", limit.as_secs_f64())]
    TooLong { limit: Duration },
    #[error("the query failed: {message}")]
    Failed { message: String },
    #[error("could not write the rows")]
    Sink(#[source] io::Error),
}

impl QueryError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ReadModel(error) => error.hint(),
            Self::NoSuchTable { tables, .. } if tables.is_empty() => Some(
                "this read model was dropped a moment ago; run the query again".to_owned(),
            ),
            Self::NoSuchTable { tables, .. } => {
                Some(format!("the tables here are {}", tables.join(", ")))
            }
            Self::NotReadOnly { .. } => Some(
                "a read model follows the log alone: to change it, append events or deploy another version".to_owned(),
            ),
            Self::ManyStatements => Some("run them one by one".to_owned()),
            Self::Empty => Some(
                "for example: SELECT * FROM retell_read_model".to_owned(),
            ),
            Self::Parameter { .. } => Some("write the value into the SQL".to_owned()),
            Self::TooLong { .. } => Some(
                "read less at once, or declare an index in the projection for it; EXPLAIN QUERY PLAN shows what a query reads".to_owned(),
            ),
            Self::Sql { .. } | Self::Failed { .. } | Self::Sink(_) => None,
        }
    }
}

/// The line of the SQL with a caret under the place; nothing where the place is unknown.
fn pointer(sql: &str, offset: Option<usize>) -> String {
    let Some(offset) = offset.filter(|&offset| sql.is_char_boundary(offset)) else {
        return String::new();
    };
    let start = sql[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let line = sql[start..].lines().next().unwrap_or_default();
    let blank: String = sql[start..offset]
        .chars()
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    format!("\n  {line}\n  {blank}^")
}

#[cfg(test)]
mod tests {
    use super::pointer;

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(pointer("SELECT x", Some(7)), "\n  SELECT x\n         ^");
        let two_lines = "SELECT\n\té, x\nFROM y";
        let at = two_lines.find('x');
        assert_eq!(pointer(two_lines, at), "\n  \té, x\n  \t   ^");
        assert_eq!(pointer("SELECT", Some(6)), "\n  SELECT\n        ^");
        assert_eq!(pointer("SELECT", Some(7)), "");
        assert_eq!(pointer("SELECT", None), "");
    }
}

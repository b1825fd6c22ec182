//! Running a query on a read model's file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, Row, Statement};

use super::fault::{Doing, fault};
use super::open;
use crate::limits;
use crate::read_model::ReadModelError;
use crate::read_model::query::{Cell, QueryError, QueryLimits, RowSink};

/// Bytes of a pattern of LIKE or GLOB.
const LIKE_BYTES_MAX: i32 = 1 << 10;

/// Virtual machine steps between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;

/// Pragmas that only tell about tables. They are also table-valued functions, the way to learn a
/// table's columns within a query.
const TELLING_PRAGMAS: [&str; 8] = [
    "table_list",
    "table_info",
    "table_xinfo",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "data_version",
];

/// The table that gives a database's pages as they are.
pub(super) const RAW_PAGES: &str = "sqlite_dbpage";

/// Why the authorizer refused, if it did.
type Denial = Arc<Mutex<Option<String>>>;

pub(super) fn query(
    path: &Path,
    sql: &str,
    query_limits: QueryLimits,
    sink: &mut dyn RowSink,
) -> Result<(), QueryError> {
    let connection = open::snapshot(path)?;
    let asking = Asking {
        path,
        sql,
        query_limits,
        denial: Denial::default(),
        end: Instant::now() + query_limits.time_max,
    };
    asking
        .confine(&connection)
        .map_err(|error| fault(path, Doing::Open, error))?;
    let mut statement = asking.prepare(&connection)?;
    let names: Vec<String> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut rows = statement.raw_query();
    let mut columns_were_told = false;
    loop {
        // The first step may still find a mistake; nothing is printed before it.
        let row = rows
            .next()
            .map_err(|error| asking.failed(&connection, error))?;
        if !std::mem::replace(&mut columns_were_told, true) {
            sink.columns(&names).map_err(QueryError::Sink)?;
        }
        let Some(row) = row else {
            return Ok(());
        };
        let cells = cells(row, names.len()).map_err(|error| asking.failed(&connection, error))?;
        if sink.row(&cells).map_err(QueryError::Sink)?.is_break() {
            return Ok(());
        }
    }
}

struct Asking<'a> {
    path: &'a Path,
    sql: &'a str,
    query_limits: QueryLimits,
    denial: Denial,
    end: Instant,
}

impl Asking<'_> {
    /// From here on the connection can only read, and only for so long.
    fn confine(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "query_only", true)?;
        let bytes = i32::try_from(self.query_limits.value_bytes_max).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes)?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, limits::QUERY_SQL_BYTES_MAX)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        // The time is looked at between steps, and matching is one of them.
        connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_BYTES_MAX)?;
        let end = self.end;
        connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > end))?;
        let denial = Arc::clone(&self.denial);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            match judge(&context.action) {
                Ok(()) => Authorization::Allow,
                Err(reason) => {
                    let mut denial = denial.lock().unwrap_or_else(PoisonError::into_inner);
                    denial.get_or_insert(reason);
                    Authorization::Deny
                }
            }
        }))
    }

    fn prepare<'c>(&self, connection: &'c Connection) -> Result<Statement<'c>, QueryError> {
        let statement = connection
            .prepare(self.sql)
            .map_err(|error| self.failed(connection, error))?;
        // Nothing but blanks and comments makes no statement, and a statement without columns (such
        // as VACUUM, which the authorizer is not asked about) does not read.
        if statement.expanded_sql().is_none() {
            return Err(QueryError::Empty);
        }
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(QueryError::NotReadOnly {
                reason: "it returns no rows".to_owned(),
            });
        }
        if statement.parameter_count() > 0 {
            let name = statement.parameter_name(1).unwrap_or("?").to_owned();
            return Err(QueryError::Parameter { name });
        }
        Ok(statement)
    }

    fn failed(&self, connection: &Connection, error: Error) -> QueryError {
        let denied = self
            .denial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reason) = denied {
            return QueryError::NotReadOnly { reason };
        }
        match error {
            Error::MultipleStatement => QueryError::ManyStatements,
            Error::SqlInputError { msg, offset, .. } => {
                self.mistake(connection, msg, usize::try_from(offset).ok())
            }
            error => match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => QueryError::TooLong {
                    limit: self.query_limits.time_max,
                },
                Some(ErrorCode::TooBig) => QueryError::Failed {
                    message: format!(
                        "a value of more than {} bytes came up",
                        self.query_limits.value_bytes_max
                    ),
                },
                Some(ErrorCode::Unknown) => self.mistake(connection, message_of(&error), None),
                _ => match fault(self.path, Doing::Read, error) {
                    ReadModelError::Storage { source, .. } => QueryError::Failed {
                        message: source.to_string(),
                    },
                    known => known.into(),
                },
            },
        }
    }

    fn mistake(
        &self,
        connection: &Connection,
        message: String,
        offset: Option<usize>,
    ) -> QueryError {
        let sql = self.sql.to_owned();
        if message.starts_with("no such table") {
            let tables = table_names(connection).unwrap_or_default();
            return QueryError::NoSuchTable {
                message,
                sql,
                offset,
                tables,
            };
        }
        QueryError::Sql {
            message,
            sql,
            offset,
        }
    }
}

/// SQLite's own message, without what `rusqlite` adds.
fn message_of(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

fn judge(action: &AuthAction<'_>) -> Result<(), String> {
    let reason = match *action {
        // Other rows than the tables have now, such as deleted ones.
        AuthAction::Read { table_name, .. } if table_name.eq_ignore_ascii_case(RAW_PAGES) => {
            return Err(format!("it reads `{table_name}`"));
        }
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => return Ok(()),
        AuthAction::Function { function_name }
            if !["load_extension", "fts3_tokenizer"]
                .iter()
                .any(|banned| function_name.eq_ignore_ascii_case(banned)) =>
        {
            return Ok(());
        }
        AuthAction::Pragma { pragma_name, .. }
            if TELLING_PRAGMAS
                .iter()
                .any(|telling| pragma_name.eq_ignore_ascii_case(telling)) =>
        {
            return Ok(());
        }
        AuthAction::Function { function_name } => format!("it calls `{function_name}`"),
        AuthAction::Pragma { pragma_name, .. } => format!("it uses `PRAGMA {pragma_name}`"),
        AuthAction::Insert { table_name } => format!("it would insert into `{table_name}`"),
        AuthAction::Update { table_name, .. } => format!("it would update `{table_name}`"),
        AuthAction::Delete { table_name } => format!("it would delete from `{table_name}`"),
        AuthAction::Attach { .. } => "it would attach another database".to_owned(),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            "it would begin or end a transaction".to_owned()
        }
        _ => "it would change the database".to_owned(),
    };
    Err(reason)
}

/// Tables and views, without retell's own and without what virtual tables are made of.
fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM pragma_table_list
         WHERE schema = 'main' AND type <> 'shadow'
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT IN ('retell_read_model', 'retell_progress')
         ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

fn cells<'r>(row: &'r Row<'_>, count: usize) -> rusqlite::Result<Vec<Cell<'r>>> {
    (0..count)
        .map(|column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Integer(value),
                ValueRef::Real(value) => Cell::Real(value),
                ValueRef::Text(bytes) => Cell::Text(String::from_utf8_lossy(bytes)),
                ValueRef::Blob(bytes) => Cell::Bytes(bytes),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::ControlFlow;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    #[derive(Default)]
    struct Taken {
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
        stop_after: Option<usize>,
    }

    impl RowSink for Taken {
        fn columns(&mut self, names: &[String]) -> io::Result<()> {
            self.columns = names.to_vec();
            Ok(())
        }

        fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
            self.rows
                .push(cells.iter().map(|cell| format!("{cell:?}")).collect());
            Ok(match self.stop_after {
                Some(count) if self.rows.len() >= count => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a b?c#%.db");
        Connection::open(&path)
            .expect("opens")
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE retell_read_model (position INTEGER);
                 CREATE TABLE article (id TEXT PRIMARY KEY, likes INTEGER);
                 INSERT INTO article VALUES ('a', 1), ('b', NULL);
                 CREATE VIRTUAL TABLE search USING fts5(body);
                 INSERT INTO search VALUES ('hello world');
                 CREATE VIEW liked AS SELECT * FROM article WHERE likes > 0",
            )
            .expect("writes");
        (folder, path)
    }

    fn ask(path: &Path, sql: &str) -> Result<Taken, QueryError> {
        let mut taken = Taken::default();
        query(path, sql, QueryLimits::default(), &mut taken)?;
        Ok(taken)
    }

    #[test]
    fn rows_come_with_names_and_types() {
        let (_folder, path) = file();
        let taken = ask(
            &path,
            "SELECT id AS i, likes, 1.5, x'00ff' FROM article ORDER BY 1;  ",
        )
        .expect("reads");
        assert_eq!(taken.columns, ["i", "likes", "1.5", "x'00ff'"]);
        assert_eq!(
            taken.rows[0],
            ["Text(\"a\")", "Integer(1)", "Real(1.5)", "Bytes([0, 255])"]
        );
        assert_eq!(taken.rows[1][1], "Null");
        let readable = [
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
            "SELECT * FROM search('hello')",
            "SELECT name FROM pragma_table_info('article')",
            "PRAGMA table_info(article)",
            "EXPLAIN QUERY PLAN SELECT * FROM liked",
            "VALUES (1)",
            "/* what is there? */ SELECT * FROM liked -- ; nothing else",
            "SELECT CAST(x'ff' AS TEXT)",
        ];
        for sql in readable {
            ask(&path, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let none = ask(&path, "SELECT id FROM article WHERE 0").expect("reads");
        assert_eq!((none.columns.len(), none.rows.len()), (1, 0));
    }

    #[test]
    fn no_write_gets_through_whatever_it_hides_in() {
        let (folder, path) = file();
        let before = std::fs::read(&path).expect("reads");
        let other = folder.path().join("other.db");
        let attach = format!("ATTACH '{}' AS other", other.display());
        let vacuum = format!("VACUUM INTO '{}'", other.display());
        let cases = [
            "DELETE FROM article",
            "WITH x AS (SELECT 1) DELETE FROM article",
            "WITH x AS (SELECT 'c', 1) INSERT INTO article SELECT * FROM x RETURNING *",
            "UPDATE article SET likes = 9 RETURNING likes",
            "INSERT INTO search(search) VALUES ('optimize')",
            "DROP TABLE article",
            "CREATE TABLE x (a)",
            "CREATE TEMP TABLE x (a)",
            "CREATE TEMP VIEW x AS SELECT 1",
            "PRAGMA query_only = 0",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA user_version = 3",
            "PRAGMA writable_schema = 1",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA table_info(article); PRAGMA user_version = 3",
            "EXPLAIN DELETE FROM article",
            &attach,
            &vacuum,
            "VACUUM",
            "REINDEX",
            "ANALYZE",
            "BEGIN IMMEDIATE",
            "SAVEPOINT x",
            "SELECT load_extension('x')",
            "ALTER TABLE article ADD COLUMN x",
        ];
        for sql in cases {
            match ask(&path, sql) {
                Err(error @ QueryError::NotReadOnly { .. }) => assert!(error.hint().is_some()),
                Err(error) => panic!("{sql}: {error}"),
                Ok(_) => panic!("{sql} went through"),
            }
        }
        assert_eq!(std::fs::read(&path).expect("reads"), before);
        assert!(!other.exists());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let (_folder, path) = file();
        let message = |sql: &str| {
            let error = ask(&path, sql)
                .err()
                .unwrap_or_else(|| panic!("{sql} went through"));
            format!("{error} / {}", error.hint().unwrap_or_default())
        };
        assert_eq!(
            message("SELECT title FROM article"),
            "the query has a mistake: no such column: title\n  SELECT title FROM article\n         ^ / "
        );
        assert!(message("SELEC 1").contains("near \"SELEC\": syntax error\n  SELEC 1\n  ^"));
        assert!(message("SELECT \"typo\" FROM article").contains("no such column"));
        let no_table = message("SELECT * FROM articles");
        assert!(no_table.contains("no such table: articles"), "{no_table}");
        assert!(
            no_table.ends_with("the tables here are article, liked, search"),
            "{no_table}"
        );
        assert!(message("SELECT 1; SELECT 2").contains("more than one statement"));
        assert!(message("").contains("empty"));
        assert!(message("-- nothing").contains("empty"));
        assert!(message("SELECT :a").contains("`:a`"));
        assert!(message("SELECT abs(-9223372036854775808)").contains("integer overflow"));
        assert!(message("SELECT zeroblob(1000000000)").contains("more than"));
        assert!(message("SELECT likes FROM article WHERE").contains("incomplete input"));
    }

    #[test]
    fn a_query_without_end_is_stopped() {
        let (_folder, path) = file();
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let limits = QueryLimits {
            time_max: Duration::from_millis(50),
            ..QueryLimits::default()
        };
        let began = Instant::now();
        let error = query(&path, endless, limits, &mut Taken::default()).expect_err("is stopped");
        assert!(matches!(error, QueryError::TooLong { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_sink_that_has_enough_ends_the_query() {
        let (_folder, path) = file();
        let mut taken = Taken {
            stop_after: Some(3),
            ..Taken::default()
        };
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
        query(&path, endless, QueryLimits::default(), &mut taken).expect("ends");
        assert_eq!(taken.rows.len(), 3);
    }

    #[test]
    fn a_read_model_that_was_dropped_meanwhile_says_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.db");
        assert!(matches!(
            ask(&path, "SELECT 1"),
            Err(QueryError::ReadModel(ReadModelError::Missing { .. }))
        ));
        assert!(!path.exists());
        std::fs::write(&path, "").expect("writes");
        let error = ask(&path, "SELECT * FROM article").err().expect("fails");
        assert!(error.hint().expect("has one").contains("dropped"));
    }
}

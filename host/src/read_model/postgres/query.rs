//! Read-only SQL on one read model: as a role that can only read it, in a transaction that can't
//! write, one statement, and only for so long.
//!
//! It runs inside a function that belongs to that role: there, PostgreSQL lets nobody take another
//! role, not even by SQL inside of SQL. Such a function returns rows of one type, so it returns each
//! row as one text, which is taken apart here.

use std::borrow::Cow;
use std::convert::identity;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, PgConnection, Row, SqlSafeStr as _,
    Statement as _, TypeInfo as _,
};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use crate::limits::{POSTGRES_ANSWER_TIMEOUT, QUERY_SQL_BYTES_MAX};
use crate::postgres::answered_within;
use crate::read_model::query::{Cell, QueryError, QueryLimits, RowSink};

pub(super) fn query(
    place: &SchemaPlace,
    sql: &str,
    limits: QueryLimits,
    sink: &mut dyn RowSink,
) -> Result<(), QueryError> {
    // A read model that is gone or was never one says so first.
    super::open::status(place)?;
    let asking = Asking {
        place,
        sql,
        limits,
        // The server's own clock ends the query first, and says so.
        patience: limits.time_max + POSTGRES_ANSWER_TIMEOUT,
    };
    asking.run(sink)
}

/// The function that runs queries, in each read model's schema.
const RUNNER: &str = "retell_query";

/// The SQL that makes it. It belongs to who makes it, and that is whose rights it has.
pub(super) fn make_runner(place: &SchemaPlace) -> String {
    let schema = place.quoted();
    format!(
        "CREATE FUNCTION {schema}.{RUNNER}(query text) RETURNS SETOF text
         LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_catalog, pg_temp
         AS $runner$
         DECLARE line record;
         BEGIN
             FOR line IN EXECUTE query LOOP RETURN NEXT line::text; END LOOP;
         END $runner$;
         REVOKE ALL ON FUNCTION {schema}.{RUNNER}(text) FROM PUBLIC"
    )
}

/// The SQL that gives it to the role that can only read.
pub(super) fn give_runner_to_reader(place: &SchemaPlace) -> String {
    let (schema, reader) = (place.quoted(), place.reader());
    format!(
        "GRANT CREATE ON SCHEMA {schema} TO {reader};
         ALTER FUNCTION {schema}.{RUNNER}(text) OWNER TO {reader};
         REVOKE CREATE ON SCHEMA {schema} FROM {reader}"
    )
}

struct ResultColumn {
    name: String,
    kind: String,
}

impl ResultColumn {
    fn cell<'c>(&self, text: Option<&'c str>, blob: Option<&'c [u8]>) -> Cell<'c> {
        let Some(text) = text else {
            return Cell::Null;
        };
        let as_text = Cell::Text(Cow::Borrowed(text));
        match self.kind.as_str() {
            "BOOL" => Cell::Boolean(text == "t"),
            "INT2" | "INT4" | "INT8" | "OID" => text.parse().map_or(as_text, Cell::Integer),
            "FLOAT4" | "FLOAT8" => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Cell::Real(value),
                _ => as_text,
            },
            _ => blob.map_or(as_text, Cell::Bytes),
        }
    }
}

/// The bytes of a field that holds some.
fn blob((column, text): (&ResultColumn, &Option<String>)) -> Option<Vec<u8>> {
    let hex = text.as_ref()?.strip_prefix("\\x")?;
    (column.kind == "BYTEA").then(|| unhex(hex))
}

/// The fields of a row as PostgreSQL writes it as one text: in parentheses, with commas between them;
/// quoted where need be, quotes and backslashes doubled; nothing at all for null.
fn fields(line: &str) -> Vec<Option<String>> {
    let inside = line.strip_prefix('(').and_then(|it| it.strip_suffix(')'));
    let mut fields: Vec<Option<String>> = vec![None];
    let mut is_quoted = false;
    let mut chars = inside.unwrap_or(line).chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.last_mut().expect("there is always one");
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.get_or_insert_default().push('"');
            }
            '"' => {
                is_quoted = !is_quoted;
                last.get_or_insert_default();
            }
            '\\' => last.get_or_insert_default().extend(chars.next()),
            ',' if !is_quoted => fields.push(None),
            c => last.get_or_insert_default().push(c),
        }
    }
    fields
}

struct Asking<'a> {
    place: &'a SchemaPlace,
    sql: &'a str,
    limits: QueryLimits,
    /// For one answer of the server.
    patience: Duration,
}

impl Asking<'_> {
    fn run(&self, sink: &mut dyn RowSink) -> Result<(), QueryError> {
        let reading = |error| QueryError::from(fault(&self.place.name(), Doing::Read, error));
        let mut session = self.place.connect_to_read().map_err(reading)?;
        // Each answer is waited for by itself, so that a sink that takes its time is no server that is
        // away; the server's own clock goes on meanwhile.
        session
            .run_within(Duration::MAX, async |it| Ok(self.ask(it, sink).await))
            .map_err(reading)?
    }

    async fn ask(
        &self,
        connection: &mut PgConnection,
        sink: &mut dyn RowSink,
    ) -> Result<(), QueryError> {
        if self.sql.len() > usize::try_from(QUERY_SQL_BYTES_MAX).unwrap_or(usize::MAX) {
            return Err(QueryError::Failed {
                message: format!("the SQL takes more than {QUERY_SQL_BYTES_MAX} bytes"),
            });
        }
        let confine = format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = {};
             SET LOCAL search_path = {}, pg_catalog, pg_temp",
            self.limits.time_max.as_millis().max(1),
            self.place.quoted()
        );
        let confined = sqlx::raw_sql(AssertSqlSafe(confine)).execute(&mut *connection);
        answered_within(self.patience, confined, identity)
            .await
            .map_err(|error| fault(&self.place.name(), Doing::Read, error))?;
        let columns = match self.prepare(&mut *connection).await {
            Ok(columns) => columns?,
            Err(error) => return Err(self.failed(connection, error).await),
        };
        match self.rows(&mut *connection, &columns, sink).await {
            Ok(done) => done,
            Err(error) => Err(self.failed(connection, error).await),
        }
    }

    /// The result's columns. Only one statement can be prepared.
    async fn prepare(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Result<Vec<ResultColumn>, QueryError>, sqlx::Error> {
        let preparing = connection.prepare(AssertSqlSafe(self.sql.to_owned()).into_sql_str());
        let statement = answered_within(self.patience, preparing, identity).await?;
        let parameters = match statement.parameters() {
            Some(Either::Left(types)) => types.len(),
            Some(Either::Right(count)) => count,
            None => 0,
        };
        if parameters > 0 {
            return Ok(Err(QueryError::Parameter {
                name: "$1".to_owned(),
            }));
        }
        let columns = statement.columns();
        let is_blank = |c: char| c.is_whitespace() || c == ';';
        if columns.is_empty() && self.sql.trim_matches(is_blank).is_empty() {
            return Ok(Err(QueryError::Empty));
        }
        if columns.is_empty() {
            return Ok(Err(QueryError::NotReadOnly {
                reason: "it returns no rows".to_owned(),
            }));
        }
        let column = |it: &sqlx::postgres::PgColumn| ResultColumn {
            name: it.name().to_owned(),
            kind: it.type_info().name().to_owned(),
        };
        Ok(Ok(columns.iter().map(column).collect()))
    }

    async fn rows(
        &self,
        connection: &mut PgConnection,
        columns: &[ResultColumn],
        sink: &mut dyn RowSink,
    ) -> Result<Result<(), QueryError>, sqlx::Error> {
        let names: Vec<String> = columns.iter().map(|it| it.name.clone()).collect();
        let call = format!(
            "SELECT line FROM {}.{RUNNER}($1) AS line",
            self.place.quoted()
        );
        let mut rows = sqlx::query(AssertSqlSafe(call))
            .bind(self.sql)
            .fetch(connection);
        let mut columns_were_told = false;
        loop {
            // The first row may still find a mistake; nothing is printed before it.
            let row = answered_within(self.patience, rows.try_next(), identity).await?;
            if !std::mem::replace(&mut columns_were_told, true)
                && let Err(error) = sink.columns(&names)
            {
                return Ok(Err(QueryError::Sink(error)));
            }
            let Some(row) = row else {
                return Ok(Ok(()));
            };
            let line: &str = row.try_get(0)?;
            let texts = fields(line);
            let is_too_large = |text: &Option<String>| {
                let bytes = text.as_ref().map_or(0, String::len);
                bytes > self.limits.value_bytes_max
            };
            if texts.iter().any(is_too_large) {
                return Ok(Err(QueryError::Failed {
                    message: format!(
                        "a value of more than {} bytes came up",
                        self.limits.value_bytes_max
                    ),
                }));
            }
            let blobs: Vec<Option<Vec<u8>>> = columns.iter().zip(&texts).map(blob).collect();
            let cells: Vec<Cell<'_>> = columns
                .iter()
                .zip(&texts)
                .zip(&blobs)
                .map(|((column, text), blob)| column.cell(text.as_deref(), blob.as_deref()))
                .collect();
            match sink.row(&cells) {
                Ok(flow) if flow.is_break() => return Ok(Ok(())),
                Ok(_) => {}
                Err(error) => return Ok(Err(QueryError::Sink(error))),
            }
        }
    }

    async fn failed(&self, connection: &mut PgConnection, error: sqlx::Error) -> QueryError {
        let Some(database) = error
            .as_database_error()
            .and_then(|it| it.try_downcast_ref::<PgDatabaseError>())
        else {
            return fault(&self.place.name(), Doing::Read, error).into();
        };
        let message = database.message().to_owned();
        let sql = self.sql.to_owned();
        let offset = match database.position() {
            Some(PgErrorPosition::Original(place)) => byte_of(self.sql, place),
            Some(PgErrorPosition::Internal { position, query }) if query == self.sql => {
                byte_of(self.sql, position)
            }
            _ => None,
        };
        match database.code() {
            "25006" | "42501" => QueryError::NotReadOnly { reason: message },
            "57014" => QueryError::TooLong {
                limit: self.limits.time_max,
            },
            "42601" if message.contains("multiple commands") => QueryError::ManyStatements,
            "42P01" => QueryError::NoSuchTable {
                tables: self.tables(connection).await.unwrap_or_default(),
                message,
                sql,
                offset,
            },
            // Syntax errors and names that are not there.
            code if code.starts_with("42") => QueryError::Sql {
                message,
                sql,
                offset,
            },
            _ => QueryError::Failed { message },
        }
    }

    async fn tables(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let asking = async {
            connection.execute("ROLLBACK").await?;
            sqlx::query_scalar(
                "SELECT relname FROM pg_class
                 WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind IN ('r', 'v', 'm')
                 ORDER BY relname COLLATE \"C\"",
            )
            .bind(self.place.schema())
            .fetch_all(connection)
            .await
        };
        answered_within(self.patience, asking, identity).await
    }
}

/// The server counts characters from 1.
fn byte_of(sql: &str, place: usize) -> Option<usize> {
    let place = place.checked_sub(1)?;
    let found = sql.char_indices().nth(place).map(|(byte, _)| byte);
    found.or_else(|| (sql.chars().count() == place).then_some(sql.len()))
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    let byte = |&[high, low]: &[u8; 2]| digit(high) * 16 + digit(low);
    pairs
        .iter()
        .map(|pair| u8::try_from(byte(pair)).expect("two digits make a byte"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::ControlFlow;

    use super::*;
    use crate::read_model::conformance::{people, provenance};
    use crate::read_model::postgres::PgReadModel;
    use crate::test_cluster::cluster;

    /// Takes longer for its first row than anybody waits for the server.
    struct SlowSink {
        time: Duration,
        rows: u32,
    }

    impl RowSink for SlowSink {
        fn columns(&mut self, _: &[String]) -> io::Result<()> {
            Ok(())
        }

        fn row(&mut self, _: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
            if self.rows == 0 {
                std::thread::sleep(self.time);
            }
            self.rows += 1;
            Ok(ControlFlow::Continue(()))
        }
    }

    #[test]
    fn who_takes_time_to_read_is_no_server_that_is_away() {
        let url = cluster().new_database();
        let place: SchemaPlace = format!("{url}#retell_slow_sink").parse().expect("a place");
        drop(PgReadModel::create(&place, &people(), &provenance(), 1).expect("creates"));
        let limits = QueryLimits::default();
        let patience = Duration::from_secs(4);
        let asking = Asking {
            place: &place,
            // More than the sockets hold.
            sql: "SELECT repeat('x', 100) FROM generate_series(1, 100000)",
            limits,
            patience,
        };
        let time = patience + Duration::from_millis(200);
        let mut sink = SlowSink { time, rows: 0 };
        asking.run(&mut sink).expect("all rows come");
        assert_eq!(sink.rows, 100_000);
    }

    #[test]
    fn rows_are_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(fields("(1)"), [some("1")]);
        assert_eq!(fields("(1,,\"\")"), [some("1"), None, some("")]);
        assert_eq!(
            fields(r#"("a ""b"" \\ (c), d",")",f)"#),
            [some(r#"a "b" \ (c), d"#), some(")"), some("f")]
        );
        assert_eq!(fields("()"), [None]);
    }
}

//! Read-only SQL on one read model: as a role that can only read it, in a transaction that can't
//! write, one statement, and only for so long.

use std::borrow::Cow;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition, PgRow};
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, PgConnection, Row, SqlSafeStr as _,
    Statement as _, TypeInfo as _, ValueRef as _,
};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use crate::limits::{POSTGRES_ANSWER_TIMEOUT, QUERY_SQL_BYTES_MAX};
use crate::read_model::query::{Cell, QueryError, QueryLimits, RowSink};

pub(super) fn query(
    place: &SchemaPlace,
    sql: &str,
    limits: QueryLimits,
    sink: &mut dyn RowSink,
) -> Result<(), QueryError> {
    // A read model that is gone or was never one says so first.
    super::open::status(place)?;
    let reading = |error| QueryError::from(fault(&place.name(), Doing::Read, error));
    let mut session = place.connect_to_read().map_err(reading)?;
    let asking = Asking { place, sql, limits };
    session
        .run_within(limits.time_max + POSTGRES_ANSWER_TIMEOUT, async |it| {
            Ok(asking.ask(it, sink).await)
        })
        .map_err(reading)?
}

struct Asking<'a> {
    place: &'a SchemaPlace,
    sql: &'a str,
    limits: QueryLimits,
}

impl Asking<'_> {
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
        confined
            .await
            .map_err(|error| fault(&self.place.name(), Doing::Read, error))?;
        let names = match self.prepare(&mut *connection).await {
            Ok(names) => names?,
            Err(error) => return Err(self.failed(connection, error).await),
        };
        match self.rows(&mut *connection, &names, sink).await {
            Ok(done) => done,
            Err(error) => Err(self.failed(connection, error).await),
        }
    }

    /// The names of the result's columns. Only one statement can be prepared.
    async fn prepare(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Result<Vec<String>, QueryError>, sqlx::Error> {
        let statement = connection
            .prepare(AssertSqlSafe(self.sql.to_owned()).into_sql_str())
            .await?;
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
        Ok(Ok(columns.iter().map(|it| it.name().to_owned()).collect()))
    }

    /// Runs it in the simple protocol, in which every type comes as text.
    async fn rows(
        &self,
        connection: &mut PgConnection,
        names: &[String],
        sink: &mut dyn RowSink,
    ) -> Result<Result<(), QueryError>, sqlx::Error> {
        let query = sqlx::raw_sql(AssertSqlSafe(self.sql.to_owned()));
        let mut rows = query.fetch(connection);
        let mut columns_were_told = false;
        loop {
            // The first row may still find a mistake; nothing is printed before it.
            let row = rows.try_next().await?;
            if !std::mem::replace(&mut columns_were_told, true)
                && let Err(error) = sink.columns(names)
            {
                return Ok(Err(QueryError::Sink(error)));
            }
            let Some(row) = row else {
                return Ok(Ok(()));
            };
            let mut blobs = Vec::new();
            let cells = match self.cells(&row, &mut blobs)? {
                Ok(cells) => cells,
                Err(error) => return Ok(Err(error)),
            };
            match sink.row(&cells) {
                Ok(flow) if flow.is_break() => return Ok(Ok(())),
                Ok(_) => {}
                Err(error) => return Ok(Err(QueryError::Sink(error))),
            }
        }
    }

    fn cells<'r>(
        &self,
        row: &'r PgRow,
        blobs: &'r mut Vec<Vec<u8>>,
    ) -> Result<Result<Vec<Cell<'r>>, QueryError>, sqlx::Error> {
        let mut texts = Vec::with_capacity(row.len());
        for number in 0..row.len() {
            let value = row.try_get_raw(number)?;
            let text = if value.is_null() {
                None
            } else {
                Some(value.as_str().map_err(sqlx::Error::Decode)?)
            };
            if text.is_some_and(|text| text.len() > self.limits.value_bytes_max) {
                return Ok(Err(QueryError::Failed {
                    message: format!(
                        "a value of more than {} bytes came up",
                        self.limits.value_bytes_max
                    ),
                }));
            }
            texts.push(text);
        }
        let kind = |number: usize| row.columns()[number].type_info().name();
        for (number, text) in texts.iter().enumerate() {
            if let Some(hex) = text.and_then(|text| text.strip_prefix("\\x"))
                && kind(number) == "BYTEA"
            {
                blobs.push(unhex(hex));
            }
        }
        let mut blobs = blobs.iter();
        let cell = |(number, text): (usize, Option<&'r str>)| {
            let Some(text) = text else {
                return Cell::Null;
            };
            let as_text = Cell::Text(Cow::Borrowed(text));
            match kind(number) {
                "BOOL" => Cell::Boolean(text == "t"),
                "INT2" | "INT4" | "INT8" | "OID" => text.parse().map_or(as_text, Cell::Integer),
                "FLOAT4" | "FLOAT8" => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Cell::Real(value),
                    _ => as_text,
                },
                "BYTEA" => blobs.next().map_or(as_text, |blob| Cell::Bytes(blob)),
                _ => as_text,
            }
        };
        Ok(Ok(texts.into_iter().enumerate().map(cell).collect()))
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
        connection.execute("ROLLBACK").await?;
        sqlx::query_scalar(
            "SELECT relname FROM pg_class
             WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind IN ('r', 'v', 'm')
             ORDER BY relname COLLATE \"C\"",
        )
        .bind(self.place.schema())
        .fetch_all(connection)
        .await
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

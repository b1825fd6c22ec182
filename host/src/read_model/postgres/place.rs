//! Where a read model is on a server: a schema of a database.

use std::fmt;
use std::str::FromStr;

use sqlx::{AssertSqlSafe, PgConnection};

use super::provenance::TABLE;
use super::schema::quote;
use crate::postgres::{ServerUrl, ServerUrlError, Session};
use crate::read_model::ModelName;

/// A schema of its own, and the role that owns it. Written as the server's URL with the schema behind
/// a `#`.
#[derive(Debug, Clone)]
pub struct SchemaPlace {
    server: ServerUrl,
    schema: String,
}

/// A place that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SchemaPlaceError {
    #[error(transparent)]
    Server(#[from] ServerUrlError),
    #[error("`{place}` names no schema")]
    NoSchema { place: String },
}

impl SchemaPlace {
    pub(super) fn new(server: ServerUrl, schema: String) -> Self {
        Self { server, schema }
    }

    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub(in crate::read_model) fn name(&self) -> ModelName {
        ModelName(self.to_string())
    }

    /// The schema's name in SQL.
    pub(super) fn quoted(&self) -> String {
        quote(&self.schema)
    }

    /// The table that says what this is.
    pub(super) fn own_table(&self) -> String {
        format!("{}.{TABLE}", self.quoted())
    }

    /// The table of decisions about events that could not be applied.
    pub(super) fn journal_table(&self) -> String {
        format!("{}.retell_journal", self.quoted())
    }

    /// The role that owns the schema and can touch nothing else.
    pub(super) fn owner(&self) -> String {
        quote(&self.schema)
    }

    /// The role that can only read from it.
    pub(super) fn reader(&self) -> String {
        quote(&format!("{}_r", self.schema))
    }

    /// A session that acts as the schema's owner, where there is such a role.
    pub(super) fn connect(&self) -> Result<Session, sqlx::Error> {
        let mut session = Session::open(&self.server)?;
        session.run(async |it| self.act_as(it, &self.owner()).await)?;
        Ok(session)
    }

    /// A session that acts as a role that can only read, where there is such a role.
    pub(super) fn connect_to_read(&self) -> Result<Session, sqlx::Error> {
        let mut session = Session::open(&self.server)?;
        session.run(async |it| self.act_as(it, &self.reader()).await)?;
        Ok(session)
    }

    /// Without roles of its own, where nobody may make them, the read model is the host's.
    async fn act_as(&self, connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
        let has_roles: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
                            WHERE n.nspname = $1 AND r.rolname = $1)",
        )
        .bind(&self.schema)
        .fetch_one(&mut *connection)
        .await?;
        if has_roles {
            let sql = format!("SET ROLE {role}");
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

impl FromStr for SchemaPlace {
    type Err = SchemaPlaceError;

    fn from_str(text: &str) -> Result<Self, SchemaPlaceError> {
        let (server, schema) = text
            .rsplit_once('#')
            .ok_or_else(|| SchemaPlaceError::NoSchema {
                place: text.to_owned(),
            })?;
        Ok(Self {
            server: server.parse()?,
            schema: schema.to_owned(),
        })
    }
}

impl fmt::Display for SchemaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.server, self.schema)
    }
}

//! Connections, set up alike: for threads that may block, and in a pool for those that may not.

use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection};
use tokio::runtime::{Builder, Runtime};

use super::ServerUrl;
use crate::limits::{
    POSTGRES_ANSWER_TIMEOUT, POSTGRES_CONNECT_TIMEOUT, POSTGRES_POOL_CONNECTIONS_MAX,
};

/// Whatever the role or the database has set otherwise. Names are written out with their schema.
const SET_UP: &str = "SET search_path = pg_catalog;
    SET client_encoding = 'UTF8';
    SET timezone = 'UTC';
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = '30s';
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = '60s'";

/// A connection of one thread, which waits for every answer. It has a runtime of its own, so that no
/// other thread has to be woken up for what comes over the socket.
pub(crate) struct Session {
    connection: PgConnection,
    /// For how long an answer was waited for in vain. What comes next would be that one's.
    silent: Option<Duration>,
    /// Taken only when dropped.
    runtime: Option<Runtime>,
}

impl Session {
    /// Connects. Blocking, as all of it.
    pub(crate) fn open(url: &ServerUrl) -> Result<Self, sqlx::Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(connect(url))?;
        Ok(Self {
            connection,
            silent: None,
            runtime: Some(runtime),
        })
    }

    /// Runs statements. After an error that is not the server's answer the session is of no use.
    pub(crate) fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.run_within(POSTGRES_ANSWER_TIMEOUT, work)
    }

    /// [`run`](Self::run), for what may take long.
    pub(crate) fn run_within<T>(
        &mut self,
        time: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        if let Some(waited) = self.silent {
            return Err(no_answer(waited));
        }
        let runtime = self.runtime.as_ref().expect("only dropping takes it");
        let done = runtime
            .block_on(async { tokio::time::timeout(time, work(&mut self.connection)).await });
        done.unwrap_or_else(|_| {
            self.silent = Some(time);
            Err(no_answer(time))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // May be dropped where blocking is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection, set up.
pub(crate) async fn connect(url: &ServerUrl) -> Result<PgConnection, sqlx::Error> {
    let connecting = async {
        let mut connection = url.options().connect().await?;
        sqlx::raw_sql(SET_UP).execute(&mut connection).await?;
        Ok(connection)
    };
    tokio::time::timeout(POSTGRES_CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(no_answer(POSTGRES_CONNECT_TIMEOUT)))
}

/// Connections for single answers, opened when they are needed.
pub(crate) fn pool(url: &ServerUrl) -> PgPool {
    PgPoolOptions::new()
        .max_connections(POSTGRES_POOL_CONNECTIONS_MAX)
        .acquire_timeout(POSTGRES_CONNECT_TIMEOUT)
        // As for the catalog in SQLite: sqlx's task that looks for idle connections may never end.
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(SET_UP).execute(connection).await?;
                Ok(())
            })
        })
        .connect_lazy_with(url.options().clone())
}

/// A single question to the pool, which waits no longer than for any other answer: a server that went
/// without a word never answers.
pub(crate) fn answered<T, E>(
    asking: impl Future<Output = Result<T, E>>,
    explain: impl FnOnce(sqlx::Error) -> E,
) -> impl Future<Output = Result<T, E>> {
    answered_within(POSTGRES_ANSWER_TIMEOUT, asking, explain)
}

/// [`answered`], for what may take long.
pub(crate) fn answered_within<T, E>(
    time: Duration,
    asking: impl Future<Output = Result<T, E>>,
    explain: impl FnOnce(sqlx::Error) -> E,
) -> impl Future<Output = Result<T, E>> {
    // The driver's futures are large.
    let answer = tokio::time::timeout(time, Box::pin(asking));
    async move {
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(explain(no_answer(time))))
    }
}

fn no_answer(waited: Duration) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!(
            "the server did not answer within {} seconds",
            waited.as_secs()
        ),
    ))
}

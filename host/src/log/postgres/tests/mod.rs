//! The conformance suite bound to PostgreSQL, and what only PostgreSQL can get wrong.

mod append_only;
mod faults;
mod function;
mod inbox;

use std::sync::Arc;

use async_trait::async_trait;

use super::PgLog;
use crate::clock::{self, Clock};
use crate::event::Position;
use crate::log::conformance::{Place, conformance_tests};
use crate::log::{EventLog, Head, OpenMode};
use crate::postgres::ServerUrl;
use crate::test_cluster::cluster;

struct Database {
    url: ServerUrl,
}

impl Database {
    fn new() -> Self {
        let url = cluster().new_database();
        Self {
            url: url.parse().expect("the cluster's URLs are right"),
        }
    }

    fn name(&self) -> &str {
        self.url.options().get_database().expect("it has a name")
    }

    async fn log(&self) -> PgLog {
        self.log_with(clock::system()).await
    }

    async fn log_with(&self, clock: Arc<dyn Clock>) -> PgLog {
        PgLog::open_with_clock(&self.url, OpenMode::CreateIfMissing, clock)
            .await
            .expect("the log can be opened")
    }

    /// Runs SQL as the superuser.
    fn psql(&self, sql: &str) -> String {
        cluster().psql(self.name(), sql)
    }

    /// The error of SQL that is refused, even to the superuser.
    fn refusal(&self, sql: &str) -> String {
        cluster()
            .try_psql("postgres", self.name(), sql)
            .expect_err("it must be refused")
    }
}

#[async_trait]
impl Place for Database {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        Arc::new(self.log_with(clock).await)
    }

    async fn verify_chain(&self) -> Result<Head, Position> {
        let log = self.log().await;
        let check = log.check_chain(crate::log::unwatched()).await;
        check.expect("the log can be read").into_result()
    }
}

conformance_tests!(Database::new());

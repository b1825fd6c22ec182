//! The conformance suite bound to SQLite, and what only SQLite can get wrong.

mod append_only;
mod group;
mod opening;
mod reading;
mod wal;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::SqliteLog;
use crate::clock::{self, Clock};
use crate::event::Position;
use crate::log::conformance::{Place, conformance_tests};
use crate::log::{EventLog, Head, OpenMode};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data").join("log.db")
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        let log = SqliteLog::open_with_clock(self.path(), OpenMode::CreateIfMissing, clock)
            .await
            .expect("the log can be opened");
        Arc::new(log)
    }

    async fn verify_chain(&self) -> Result<Head, Position> {
        let log = SqliteLog::open_with_clock(self.path(), OpenMode::Existing, clock::system());
        let log = log.await.expect("the log can be opened");
        let check = log.check_chain(crate::log::unwatched()).await;
        check.expect("the log can be read").into_result()
    }
}

conformance_tests!(Folder::new());

//! Scatter on a log ten times as long, in a process of its own, whose peak memory is measured: a
//! B-tree much larger than the cache, written in no order.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use retell::log::OpenMode;
use retell::log::sqlite::SqliteLog;
use retell::wasm::Engine;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::baselines::open_log;
use crate::host::{self, Instance};
use crate::workloads::SCATTER;

/// With this first argument the bench is only that one run.
pub(crate) const ARGUMENT: &str = "--scatter-alone";

/// What the process says of its run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Alone {
    seconds: f64,
    /// Largest resident set so far (0: this system does not say).
    pub(crate) peak_bytes: u64,
    pub(crate) rows: u64,
}

impl Alone {
    pub(crate) fn took(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Starts the process and waits for it.
pub(crate) fn run_alone(folder: &Path, log: &Path) -> anyhow::Result<Alone> {
    let output = Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        .args([folder, log])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "scatter failed");
    serde_json::from_slice(&output.stdout).context("it did not say how it went")
}

/// The whole run: deploys scatter, and compares what it made with the log.
pub(crate) fn alone(
    runtime: &Runtime,
    engine: &Engine,
    folder: &Path,
    log_path: &Path,
) -> anyhow::Result<Alone> {
    let bytes = host::module(engine, SCATTER.guest)?;
    runtime.block_on(async {
        let log = Arc::new(SqliteLog::open(log_path, OpenMode::Existing).await?);
        let instance = Instance::new(folder, engine, log).await?;
        let began = Instant::now();
        let mut deployed = instance.deploy(&bytes).await?;
        let seconds = began.elapsed().as_secs_f64();
        deployed.access.close().await;
        let peak_bytes = peak_bytes();
        let rows = check(&deployed.file(), log_path)?;
        Ok(Alone {
            seconds,
            peak_bytes,
            rows,
        })
    })
}

/// Rows in no order are compared by their number and their sums: sorting the log's bids by their
/// hashes takes longer than the run.
fn check(model: &Path, log: &Path) -> anyhow::Result<u64> {
    let sums = |connection: &Connection, sql: &str| -> rusqlite::Result<[i64; 4]> {
        connection.query_row(sql, [], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })
    };
    let made = sums(
        &Connection::open(model)?,
        "SELECT count(*), sum(auction), sum(bidder), sum(price) FROM bid_by_hash",
    )?;
    let wanted = sums(
        &open_log(log)?,
        "SELECT count(*), sum(payload ->> '$.auction'), sum(payload ->> '$.bidder'),
             sum(payload ->> '$.price')
         FROM events NOT INDEXED WHERE type = 'Bid'",
    )?;
    ensure!(made == wanted, "{made:?} instead of {wanted:?}");
    ensure!(made[0] > 0, "there are no rows");
    Ok(made[0].cast_unsigned())
}

/// 0 where the system does not say.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib << 10)
}

//! Writing to the log: an import of a file, and many appenders at once, beside raw inserts of the
//! same rows.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{bail, ensure};
use retell::event::NewEvent;
use retell::limits::IMPORT_BATCH_LINES;
use retell::log::OpenMode;
use retell::log::ndjson::{self, Input};
use retell::log::sqlite::SqliteLog;
use retell::log::{AppendRequest, EventLog, unwatched};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::baselines::{open_log, raw_log};
use crate::events;
use crate::run::{Bench, Times};

pub(crate) const APPENDERS: usize = 64;

/// An import of a file with so many of NEXMark's events, and raw inserts of the rows it made.
pub(crate) fn import(bench: &Bench, count: u64) -> anyhow::Result<[Times; 2]> {
    let mut times = [Times::new("retell"), Times::new("raw inserts")];
    let folder = tempfile::tempdir_in(&bench.folder)?;
    let file = folder.path().join("events.ndjson");
    let lines = write_ndjson(&file, count)?;
    for turn in 0..bench.repetitions {
        let folder = tempfile::tempdir_in(&bench.folder)?;
        let path = folder.path().join("log.db");
        let log = new_log(bench, &path)?;
        let began = Instant::now();
        let imported = ndjson::import(&log, Input::File(File::open(&file)?), false, &mut |_| {})?;
        times[0].add(began.elapsed());
        ensure!(imported.appended == lines, "{imported:?}");
        if turn == 0 {
            check(bench, &log, lines)?;
            same_events(&path, count)?;
        }
        let like = open_log(&path)?;
        let rows = raw_log::rows(&like)?;
        ensure!(rows.len() as u64 == lines, "{} rows", rows.len());
        let raw = raw_log::create(&folder.path().join("raw.db"), &like)?;
        let began = Instant::now();
        raw_log::insert(&raw, &rows, IMPORT_BATCH_LINES)?;
        times[1].add(began.elapsed());
    }
    Ok(times)
}

/// Many appenders, each of which waits for its event before it appends the next, and one raw
/// transaction for each event. Times for one event.
///
/// Both logs hold `count` events of NEXMark before. It must be enough for the journal to begin anew:
/// one that still grows with each transaction makes every sync slower (20,000 are too few).
pub(crate) fn appends(bench: &Bench, count: u64, each: usize) -> anyhow::Result<[Times; 2]> {
    let mut times = [
        Times::new("64 appenders"),
        Times::new("one transaction each"),
    ];
    let before: Vec<NewEvent> = events::events(count).collect();
    let total = APPENDERS * each;
    for _ in 0..bench.repetitions {
        let folder = tempfile::tempdir_in(&bench.folder)?;
        let path = folder.path().join("log.db");
        let log = Arc::new(new_log(bench, &path)?);
        events::import(&*log, before.iter().cloned())?;
        let began = Instant::now();
        bench
            .runtime
            .block_on(append_together(&log, &before[..total]))?;
        times[0].add_share(began.elapsed(), total as u64);
        check(bench, &log, (before.len() + total) as u64)?;

        let like = open_log(&path)?;
        let rows = raw_log::rows(&like)?;
        let (before, added) = rows.split_at(before.len());
        let raw = raw_log::create(&folder.path().join("raw.db"), &like)?;
        raw_log::insert(&raw, before, IMPORT_BATCH_LINES)?;
        let began = Instant::now();
        raw_log::insert(&raw, added, 1)?;
        times[1].add_share(began.elapsed(), total as u64);
    }
    Ok(times)
}

/// Appends the events one by one, each appender its share of them.
async fn append_together(log: &Arc<SqliteLog>, events: &[NewEvent]) -> anyhow::Result<()> {
    let mut appenders = JoinSet::new();
    for share in events.chunks(events.len() / APPENDERS) {
        let (log, share) = (log.clone(), share.to_vec());
        appenders.spawn(async move {
            for event in share {
                let request = AppendRequest {
                    events: vec![event],
                    expected: Vec::new(),
                };
                log.append(request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = appenders.join_next().await {
        done??;
    }
    Ok(())
}

fn new_log(bench: &Bench, path: &Path) -> anyhow::Result<SqliteLog> {
    let opened = SqliteLog::open(path, OpenMode::CreateIfMissing);
    Ok(bench.runtime.block_on(opened)?)
}

/// Everything is there, and the hash chain is whole.
fn check(bench: &Bench, log: &SqliteLog, events: u64) -> anyhow::Result<()> {
    let check = bench.runtime.block_on(log.check_chain(unwatched()))?;
    match check.into_result() {
        Ok(head) if head.position == events => Ok(()),
        Ok(head) => bail!("{} events instead of {events}", head.position),
        Err(position) => bail!("the chain is broken at {position}"),
    }
}

/// The log holds the file's events, in their order.
fn same_events(log: &Path, count: u64) -> anyhow::Result<()> {
    let log = open_log(log)?;
    let mut statement =
        log.prepare("SELECT stream, type, payload FROM events ORDER BY position")?;
    let mut rows = statement.query([])?;
    for event in events::events(count) {
        let Some(row) = rows.next()? else {
            bail!("the log is too short");
        };
        let stored: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        ensure!(
            stored == [event.stream, event.event_type, event.data],
            "{stored:?}"
        );
    }
    Ok(())
}

/// One event a line, as `retell append` reads it. Says how many there are.
fn write_ndjson(path: &Path, count: u64) -> anyhow::Result<u64> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        stream: &'a str,
        #[serde(rename = "type")]
        event_type: &'a str,
        data: &'a RawValue,
    }
    let mut file = BufWriter::new(File::create(path)?);
    let mut lines = 0;
    for event in events::events(count) {
        let line = Line {
            stream: &event.stream,
            event_type: &event.event_type,
            data: serde_json::from_str(&event.data)?,
        };
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
        lines += 1;
    }
    // Else the first syncs of the log wait for it.
    file.into_inner()?.sync_all()?;
    Ok(lines)
}

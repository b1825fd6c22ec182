//! The log that every workload reads: auctions as NEXMark makes them, the same on every machine.
//!
//! Of fifty events, one is a person, three are auctions and 46 are bids. To these come renames, one
//! after every hundred events, which NEXMark does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;
use retell::event::NewEvent;
use retell::log::OpenMode;
use retell::log::sqlite::SqliteLog;
use retell::log::{EventLog, ImportPlan, SealedEvent};

/// Part of the log's name on disk: raise it whenever other events are made.
const GENERATOR: u32 = 1;
/// 2026-01-01T00:00:00Z, in milliseconds: NEXMark would begin now.
const BEGINS_MS: u64 = 1_767_225_600_000;
const EVENTS_PER_RENAME: u64 = 100;
const EVENTS_PER_PERSON: u64 = 50;
const FIRST_PERSON: u64 = 1_000;
const BATCH: usize = 10_000;

/// The first `count` events of NEXMark, with the renames among them.
pub(crate) fn events(count: u64) -> impl Iterator<Item = NewEvent> {
    let config = NexmarkConfig {
        base_time: BEGINS_MS,
        ..NexmarkConfig::default()
    };
    // Without both, it repeats one event.
    let generator = EventGenerator::new(config).with_offset(0).with_step(1);
    generator.zip(1..=count).flat_map(|(event, number)| {
        let renames = number.is_multiple_of(EVENTS_PER_RENAME);
        [Some(new_event(&event)), renames.then(|| rename(number))]
            .into_iter()
            .flatten()
    })
}

fn new_event(event: &Event) -> NewEvent {
    let (event_type, stream, data) = match event {
        Event::Person(it) => (
            "Person",
            format!("person-{}", it.id),
            serde_json::to_string(it),
        ),
        Event::Auction(it) => (
            "Auction",
            format!("auction-{}", it.id),
            serde_json::to_string(it),
        ),
        Event::Bid(it) => (
            "Bid",
            format!("auction-{}", it.auction),
            serde_json::to_string(it),
        ),
    };
    NewEvent {
        stream,
        event_type: event_type.to_owned(),
        data: data.expect("numbers and texts have a JSON form"),
        occurred_at: i64::try_from(event.timestamp() * 1_000).ok(),
        ..NewEvent::default()
    }
}

/// Some person of those that there are after so many events.
fn rename(number: u64) -> NewEvent {
    let persons = number.div_ceil(EVENTS_PER_PERSON);
    let id = FIRST_PERSON + mix(number) % persons;
    NewEvent {
        stream: format!("person-{id}"),
        event_type: "PersonRenamed".to_owned(),
        data: format!(r#"{{"id":{id},"name":"renamed {number}"}}"#),
        ..NewEvent::default()
    }
}

/// The finalizer of SplitMix64: no two numbers have one hash.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The log with so many of NEXMark's events: the one that an earlier run left, or a new one.
pub(crate) async fn log(folder: &Path, count: u64) -> anyhow::Result<Arc<SqliteLog>> {
    let path = log_path(folder, count);
    if !path.exists() {
        make_log(&path, count).await?;
    }
    Ok(Arc::new(SqliteLog::open(path, OpenMode::Existing).await?))
}

/// Where that log is, once it is made.
pub(crate) fn log_path(folder: &Path, count: u64) -> PathBuf {
    folder
        .join(format!("log-{count}-{GENERATOR}"))
        .join("log.db")
}

/// Imports the events into a log.
pub(crate) fn import(
    log: &dyn EventLog,
    events: impl Iterator<Item = NewEvent>,
) -> anyhow::Result<()> {
    let mut import = log.import(ImportPlan::default())?;
    let mut events = events.map(SealedEvent::seal);
    loop {
        let batch: Vec<SealedEvent> = events.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            import.finish(batch)?;
            return Ok(());
        }
        import.append(batch, None)?;
    }
}

/// Makes it under another name, so that a log of the right name is a whole one.
async fn make_log(path: &Path, count: u64) -> anyhow::Result<()> {
    let whole = path.parent().context("a log is in a folder")?;
    let unfinished = whole.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let log = SqliteLog::open(unfinished.join("log.db"), OpenMode::CreateIfMissing).await?;
    import(&log, events(count))?;
    drop(log);
    // Into one file, which can be copied.
    rusqlite::Connection::open(unfinished.join("log.db"))?.query_row(
        "PRAGMA wal_checkpoint(TRUNCATE)",
        [],
        |_| Ok(()),
    )?;
    std::fs::rename(&unfinished, whole)?;
    Ok(())
}

//! How long an event takes from the call that appends it until a reader of the read model sees it,
//! while nothing else happens, and while other versions replay.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use retell::event::{NewEvent, Position};
use retell::lifecycle::View;
use retell::log::OpenMode;
use retell::log::sqlite::SqliteLog;
use retell::log::{AppendRequest, EventLog};
use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinSet;

use crate::host::{self, Instance};
use crate::run::Bench;
use crate::workloads::{FOLDS, HOT};

const EVENTS_PER_S: u32 = 500;
/// NEXMark's auctions begin at 1,000.
const AUCTION: i64 = 1;
/// How often the reader looks. It is part of what is measured.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Latencies in order.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

/// What came of the events of one phase.
#[derive(Debug)]
pub(crate) struct Phase {
    /// From the call to the append's return.
    pub(crate) append: Latencies,
    /// From the call until the reader saw it.
    pub(crate) visible: Latencies,
}

/// One event: when it was given to the log, how long that took, and where it came to be.
struct Appended {
    called: Instant,
    took: Duration,
    position: Position,
}

/// What the reader saw first when.
type Seen = (Instant, Position);

/// Latencies of `events` events alone, then of as many as come while all other folds are deployed.
pub(crate) fn run(bench: &Bench, events: u32) -> anyhow::Result<[Phase; 2]> {
    let folder = tempfile::tempdir_in(&bench.folder)?;
    let path = folder.path().join("log.db");
    std::fs::copy(bench.log.path(), &path)?;
    // Else the first syncs of the log wait for the copy.
    std::fs::File::open(&path)?.sync_all()?;
    let hot = host::module(&bench.engine, HOT.guest)?;
    let others = FOLDS
        .iter()
        .filter(|fold| fold.name != HOT.name)
        .map(|fold| host::module(&bench.engine, fold.guest))
        .collect::<anyhow::Result<Vec<_>>>()?;
    bench.runtime.block_on(async {
        let log = Arc::new(SqliteLog::open(&path, OpenMode::Existing).await?);
        let instance = Instance::new(&bench.folder, &bench.engine, log.clone()).await?;
        let mut deployed = instance.deploy(&hot).await?;
        let head = log.head().await?.position;
        let over = AtomicBool::new(false);
        // As `retell serve` does, the supervisor goes on looking.
        let model = deployed.file();
        let serving = async {
            let is_over = |_: &View| over.load(Ordering::Relaxed).then_some(());
            deployed.access.until(is_over).await?;
            deployed.access.close().await;
            anyhow::Ok(())
        };
        let measuring = async {
            let measured = measure(&instance, &model, events, &others).await;
            over.store(true, Ordering::Relaxed);
            measured
        };
        let ((), latencies) = tokio::try_join!(serving, measuring)?;
        let bids: u64 = read_only(&model)?.query_row(
            "SELECT bids FROM auction_bids WHERE auction = ?1",
            [AUCTION],
            |row| row.get(0),
        )?;
        let added = log.head().await?.position - head;
        ensure!(
            bids == added,
            "{bids} bids in the read model, {added} in the log"
        );
        Ok(latencies)
    })
}

async fn measure(
    instance: &Instance,
    model: &Path,
    events: u32,
    others: &[Vec<u8>],
) -> anyhow::Result<[Phase; 2]> {
    let log = &instance.host.log;
    let watch = Watch::start(model)?;
    let appended = append(log, || false, events).await?;
    let alone = Phase::new(&appended, &watch.until(last(&appended)?)?)?;

    let watch = Watch::start(model)?;
    let deployed_all = AtomicBool::new(false);
    let replays = async {
        for bytes in others {
            instance.deploy(bytes).await?.access.close().await;
        }
        deployed_all.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let appending = append(log, || deployed_all.load(Ordering::Relaxed), u32::MAX);
    let ((), appended) = tokio::try_join!(replays, appending)?;
    let beside = Phase::new(&appended, &watch.until(last(&appended)?)?)?;
    Ok([alone, beside])
}

/// Appends at a steady pace, whether or not earlier events are through, until told to end.
async fn append(
    log: &Arc<dyn EventLog>,
    end: impl Fn() -> bool,
    events: u32,
) -> anyhow::Result<Vec<Appended>> {
    let mut tasks = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / EVENTS_PER_S);
    for number in 0..events {
        pace.tick().await;
        if end() {
            break;
        }
        let log = log.clone();
        tasks.spawn(async move {
            let request = AppendRequest {
                events: vec![bid(number)],
                expected: Vec::new(),
            };
            let called = Instant::now();
            let appended = log.append(request).await?;
            anyhow::Ok(Appended {
                called,
                took: called.elapsed(),
                position: appended.first().context("no position")?,
            })
        });
    }
    let mut appended = Vec::new();
    while let Some(done) = tasks.join_next().await {
        appended.push(done??);
    }
    Ok(appended)
}

fn bid(number: u32) -> NewEvent {
    NewEvent {
        stream: format!("auction-{AUCTION}"),
        event_type: "Bid".to_owned(),
        data: format!(
            r#"{{"auction":{AUCTION},"bidder":{number},"price":{number},"date_time":{number}}}"#
        ),
        ..NewEvent::default()
    }
}

fn last(appended: &[Appended]) -> anyhow::Result<Position> {
    let positions = appended.iter().map(|it| it.position);
    positions.max().context("nothing was appended")
}

/// A reader of the read model on a thread of its own.
struct Watch {
    thread: JoinHandle<rusqlite::Result<Vec<Seen>>>,
    /// Ends once it has seen this; 0: not yet known.
    until: Arc<AtomicU64>,
}

impl Watch {
    fn start(model: &Path) -> anyhow::Result<Self> {
        let reader = read_only(model)?;
        let until = Arc::new(AtomicU64::new(0));
        let goal = until.clone();
        let thread = std::thread::spawn(move || {
            let mut position = reader.prepare("SELECT position FROM retell_read_model")?;
            let mut seen: Vec<Seen> = Vec::new();
            loop {
                let now: Position = position.query_row([], |row| row.get(0))?;
                if seen.last().is_none_or(|last| last.1 < now) {
                    seen.push((Instant::now(), now));
                }
                let goal = goal.load(Ordering::Relaxed);
                if goal > 0 && now >= goal {
                    return Ok(seen);
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        });
        Ok(Self { thread, until })
    }

    fn until(self, position: Position) -> anyhow::Result<Vec<Seen>> {
        self.until.store(position, Ordering::Relaxed);
        let joined = tokio::task::block_in_place(|| self.thread.join());
        Ok(joined.expect("the reader does not panic")?)
    }
}

fn read_only(model: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(model, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

impl Phase {
    fn new(appended: &[Appended], seen: &[Seen]) -> anyhow::Result<Self> {
        let visible = |event: &Appended| {
            let first = seen.partition_point(|it| it.1 < event.position);
            let (at, _) = seen.get(first).context("an event was never seen")?;
            Ok(at.saturating_duration_since(event.called))
        };
        let visible = appended.iter().map(visible);
        Ok(Self {
            append: Latencies::new(appended.iter().map(|it| it.took).collect()),
            visible: Latencies::new(visible.collect::<anyhow::Result<_>>()?),
        })
    }
}

impl Latencies {
    fn new(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; `share` is 0.5 for the median.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        let index = (last as f64 * share).round();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the last index"
        )]
        let index = index as usize;
        self.0[index].as_secs_f64() * 1e3
    }

    /// How many came within which time, as indented lines.
    pub(crate) fn histogram(&self) -> String {
        const BOUNDS_MS: [u64; 10] = [1, 2, 3, 4, 5, 10, 25, 50, 100, u64::MAX];
        const WIDTH: usize = 50;
        let mut text = String::new();
        let mut before = 0;
        for bound in BOUNDS_MS {
            let below = self
                .0
                .partition_point(|it| it.as_millis() < u128::from(bound));
            let count = below - before;
            before = below;
            let label = if bound == u64::MAX {
                "more".to_owned()
            } else {
                format!("< {bound} ms")
            };
            let bar = "#".repeat((count * WIDTH).div_ceil(self.0.len()));
            let line = format!("    {label:>8} {count:>7}  {bar}");
            writeln!(text, "{}", line.trim_end()).expect("a string takes every text");
        }
        text
    }
}

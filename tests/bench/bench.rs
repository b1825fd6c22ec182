//! `make bench`: replays and appends beside native code, on one log, in turns, with results checked
//! equal. `ONLY=hot,wide` picks workloads.
//!
//! It prints a table and writes `target/bench.json`; a run of everything also writes `BENCH.md`.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod appending;
mod baselines;
mod boundary;
#[path = "../support/cluster.rs"]
#[allow(dead_code, reason = "the bench needs only some of it")]
mod cluster;
mod compare;
mod events;
mod host;
mod large;
mod live;
mod machine;
mod postgres;
mod report;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod workloads;

use std::path::{Path, PathBuf};

use report::Report;
use run::{Bench, Times};
use workloads::{FOLDS, Fold, HOT, SPARSE_TARGET};

const EVENTS: u64 = 1_000_000;
const EVENTS_LARGE: u64 = 10_000_000;
const EVENTS_IMPORTED: u64 = 200_000;
const EVENTS_BEFORE_APPENDS: u64 = 100_000;
const REPETITIONS: usize = 5;
const REPETITIONS_LARGE: usize = 3;
const ROUNDS_OF_BOUNDARY: usize = 20;
/// The large log, and a read model beside it.
const LARGE_DISK_BYTES: u64 = 10 << 30;

fn main() -> anyhow::Result<()> {
    let target = support::guest_target();
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let engine = host::engine(&folder)?;
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [first, folder, log] = &arguments[..]
        && first == large::ARGUMENT
    {
        let alone = large::alone(&runtime, &engine, Path::new(folder), Path::new(log))?;
        println!("{}", serde_json::to_string(&alone)?);
        return Ok(());
    }

    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    say("the log");
    let log = runtime.block_on(events::log(&folder, EVENTS))?;
    run::warm_up(log.path())?;
    // What a run that was interrupted has left is large.
    let runs = folder.join("runs");
    if runs.exists() {
        std::fs::remove_dir_all(&runs)?;
    }
    std::fs::create_dir_all(&runs)?;
    let bench = Bench {
        runtime,
        engine,
        log,
        folder: runs,
        repetitions: REPETITIONS,
    };
    let mut report = Report::default();
    run_all(&bench, &only, &mut report)?;

    println!("{}", report.table());
    for note in report.notes() {
        println!("\n{note}");
    }
    report.write_json(&target.join("bench.json"))?;
    if only.is_empty() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCH.md");
        report.write_markdown(&page, &introduction(&bench.folder))?;
    }
    Ok(())
}

/// A workload that is no fold: its name, and how it is run.
type Other = (&'static str, fn(&Bench, &mut Report) -> anyhow::Result<()>);

const OTHERS: [Other; 6] = [
    ("together", run_together),
    ("large", run_large),
    ("boundary", run_boundary),
    ("live", run_live),
    ("appends", run_appends),
    ("import", run_import),
];

const PG_APPENDS: &str = "pg-appends";

fn run_all(bench: &Bench, only: &[&str], report: &mut Report) -> anyhow::Result<()> {
    let names = || {
        let folds = FOLDS.iter().map(|it| it.name);
        let on_server = postgres::FOLDS.iter().map(|it| it.name);
        folds
            .chain(OTHERS.iter().map(|it| it.0))
            .chain(on_server)
            .chain([PG_APPENDS])
    };
    for name in only {
        anyhow::ensure!(
            names().any(|it| it == *name),
            "there is no workload `{name}`; there are {}",
            names().collect::<Vec<_>>().join(", ")
        );
    }
    let wants = |name: &str| only.is_empty() || only.contains(&name);
    for fold in FOLDS.iter().filter(|it| wants(it.name)) {
        run_fold(bench, fold, report)?;
    }
    for (name, run) in OTHERS.iter().filter(|it| wants(it.0)) {
        say(name);
        run(bench, report)?;
    }
    if names().any(|name| name.starts_with("pg-") && wants(name)) {
        run_postgres(bench, &wants, report)?;
    }
    Ok(())
}

fn run_fold(bench: &Bench, fold: &Fold, report: &mut Report) -> anyhow::Result<()> {
    say(&format!("{}: {}", fold.name, fold.about));
    let (times, rows) = bench.fold(fold)?;
    report.times(fold.name, &times[0]);
    for (baseline, theirs) in fold.baselines.iter().zip(&times[1..]) {
        report.against(fold.name, &times[0], theirs, baseline.target);
    }
    if fold.name == "sparse" {
        let [sparse, hot] = bench.fold_in_turns([fold, &HOT])?;
        report.against(fold.name, &sparse, &hot, Some(SPARSE_TARGET));
    }
    report.note(format!("{}: {}, {rows} rows.", fold.name, fold.about));
    Ok(())
}

fn run_together(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let [at_once, in_turn] = bench.together()?;
    report.times("together", &at_once);
    report.against("together", &at_once, &in_turn, Some(0.7));
    report.note("together: hot and join, both at once and one after the other.");
    Ok(())
}

fn run_large(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let logs = support::guest_target().join("bench");
    let large = events::log_path(&logs, EVENTS_LARGE);
    let free = fs4::available_space(&logs)?;
    if !large.exists() && free < LARGE_DISK_BYTES {
        report.note(format!(
            "large: left out, since of {} GiB of disk that it needs only {} are free.",
            LARGE_DISK_BYTES >> 30,
            free >> 30
        ));
        return Ok(());
    }
    bench.runtime.block_on(events::log(&logs, EVENTS_LARGE))?;
    run::warm_up(&large)?;
    let small = bench.log.path().to_owned();
    let mut per_event = ["10,000,000 events, each", "1,000,000 events, each"].map(Times::new);
    let mut peak_bytes = 0;
    for _ in 0..REPETITIONS_LARGE {
        let logs: [(&PathBuf, u64); 2] = [(&large, EVENTS_LARGE), (&small, EVENTS)];
        for (times, (log, events)) in per_event.iter_mut().zip(logs) {
            let alone = large::run_alone(&bench.folder, log)?;
            times.add_share(alone.took(), events);
            peak_bytes = peak_bytes.max(alone.peak_bytes);
        }
    }
    let [large, small] = per_event;
    report.times("large", &large);
    report.against("large", &large, &small, Some(1.5));
    let peak_mib = (peak_bytes >> 20) as f64;
    report.value("large", "peak memory, MiB", peak_mib, Some(512.0));
    report.note("large: scatter on a log ten times as long, in a process of its own.");
    Ok(())
}

fn run_boundary(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let per_event = boundary::per_event(bench, 30, ROUNDS_OF_BOUNDARY)?;
    report.times("boundary", &per_event);
    report.value(
        "boundary",
        "ns per event",
        per_event.median() * 1e9,
        Some(40.0),
    );
    report.note(format!(
        "boundary: calls of a module that takes events with four fields, {} at a time, and does nothing \
         with them.",
        boundary::BATCH
    ));
    Ok(())
}

fn run_live(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let [alone, beside] = live::run(bench, 5_000)?;
    for (what, phase, targets) in [
        ("alone", &alone, [Some(5.0), Some(25.0)]),
        ("beside replays", &beside, [None, None]),
    ] {
        for (name, share, target) in [("p50", 0.5, targets[0]), ("p99", 0.99, targets[1])] {
            let value = phase.visible.percentile_ms(share);
            report.value("live", &format!("{what}: {name}, ms"), value, target);
        }
        report.note(format!(
            "live, {what}: from the call that appends an event, synced to disk, until a reader of the \
             read model sees it; {} events, 500 a second. The append itself returned after {:.2} ms \
             (p50) and {:.2} ms (p99).\n\n{}",
            phase.visible.len(),
            phase.append.percentile_ms(0.5),
            phase.append.percentile_ms(0.99),
            phase.visible.histogram()
        ));
    }
    Ok(())
}

fn run_appends(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let [ours, raw] = appending::appends(bench, EVENTS_BEFORE_APPENDS, 50)?;
    report.times("appends", &ours);
    report.against("appends", &ours, &raw, Some(0.1));
    report.note(format!(
        "appends: one event, from {} callers at once, each synced to disk when it returns, beside raw \
         inserts in a transaction each, on logs of 100,000 events.",
        appending::APPENDERS
    ));
    Ok(())
}

fn run_import(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let [ours, raw] = appending::import(bench, EVENTS_IMPORTED)?;
    report.times("import", &ours);
    report.against("import", &ours, &raw, Some(1.6));
    report.note(
        "import: 200,000 events and their renames from an NDJSON file, beside raw inserts of the \
         finished rows into the same table and indexes, which no trigger guards.",
    );
    Ok(())
}

/// All that runs on a server of its own, since its log takes a while to make.
fn run_postgres(
    bench: &Bench,
    wants: &dyn Fn(&str) -> bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    say("the log on a server");
    let server = postgres::Server::start(bench, EVENTS)?;
    server.find_latest_bids();
    for fold in postgres::FOLDS.iter().filter(|it| wants(it.name)) {
        say(fold.name);
        let times = server.fold(bench, fold)?;
        report.times(fold.name, &times[0]);
        for (baseline, theirs) in fold.baselines.iter().zip(&times[1..]) {
            report.against(fold.name, &times[0], theirs, Some(baseline.target));
        }
    }
    if wants(PG_APPENDS) {
        say(PG_APPENDS);
        let [ours, locked, plain] = postgres::appends(&server, bench, 50)?;
        report.times(PG_APPENDS, &ours);
        report.against(PG_APPENDS, &ours, &locked, Some(0.1));
        report.against(PG_APPENDS, &ours, &plain, Some(0.5));
    }
    report.note(format!(
        "pg-…: log and read model in one PostgreSQL database with `fsync` on. A fold waits for the disk \
         with its last commit, retell's and the others'. pg-appends: one event, from {} callers at once, \
         beside `retell.append` and plain inserts on {0} connections, in a transaction each, which is \
         synced when it returns.",
        appending::APPENDERS
    ));
    Ok(())
}

fn say(what: &str) {
    println!("{what}");
}

fn introduction(folder: &Path) -> String {
    format!(
        "# Bench\n\n\
         What `make bench` measured. A ratio is retell's median time divided by that of what it is\n\
         compared with, in the same run, on the same log, in turns, {REPETITIONS} times each (large\n\
         {REPETITIONS_LARGE} times, boundary {ROUNDS_OF_BOUNDARY} rounds, live once); less is better for retell. retell's time runs\n\
         from the deploy request to `ready`, through the whole host, checkpoints included; only the\n\
         compilation of the module is cached. In the first turn the rows of every fold are compared with\n\
         those of each baseline, one by one; of large, their number and sums; of live, appends and\n\
         import, that every event arrived.\n\n\
         The log: 1,000,000 events of NEXMark and 10,000 renames, in SQLite. *Best native* is one thread\n\
         that steps the statement, parses with serde_json, folds into a hash map and writes once,\n\
         sorted. *Naive native* does one statement or two for each event and commits every 1,000.\n\
         *SQL alone* is `INSERT … SELECT` with SQLite's JSON functions. They write into the same\n\
         tables through SQLite, with the settings of retell's writer, and keep no checkpoints.\n\n\
         The `pg-` rows have log and read model in one PostgreSQL database, beside sqlx against the same\n\
         server, whose files are in `{}`; baselines that take a minute were run once.\n\n\
         {}\n",
        std::env::temp_dir().display(),
        machine::describe(folder)
    )
}

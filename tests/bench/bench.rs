//! `make bench`: replays and appends beside native code, on one log, in turns, with results checked
//! equal. `ONLY=hot,wide` picks workloads.
//!
//! It prints a table and writes `target/bench.json`; a run of everything also writes `BENCH.md`.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod baselines;
mod compare;
mod events;
mod host;
mod machine;
mod report;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod workloads;

use std::path::Path;

use report::Report;
use run::Bench;
use workloads::{FOLDS, HOT, SPARSE_TARGET, TOGETHER_TARGET};

const EVENTS: u64 = 1_000_000;
const REPETITIONS: usize = 5;

fn main() -> anyhow::Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let wants = |name: &str| only.is_empty() || only.contains(&name);

    let target = support::guest_target();
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    say("the log");
    let log = runtime.block_on(events::log(&folder, EVENTS))?;
    let bench = Bench {
        runtime,
        engine: host::engine(&folder)?,
        log,
        folder,
        repetitions: REPETITIONS,
    };
    bench.warm_up()?;

    let mut report = Report::default();
    for fold in &FOLDS {
        if wants(fold.name) {
            run_fold(&bench, fold, &mut report)?;
        }
    }
    if wants("together") {
        say("together: hot and join, both at once and one after the other");
        let [at_once, in_turn] = bench.together()?;
        report.times("together", &at_once);
        report.against("together", &at_once, &in_turn, Some(TOGETHER_TARGET));
    }

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

fn run_fold(bench: &Bench, fold: &workloads::Fold, report: &mut Report) -> anyhow::Result<()> {
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

fn say(what: &str) {
    println!("{what}");
}

fn introduction(folder: &Path) -> String {
    format!(
        "# Bench\n\n\
         What `make bench` measured. A ratio is retell's median time divided by that of what it is\n\
         compared with, in the same run, on the same log, in turns, {REPETITIONS} times each; less is\n\
         better for retell. retell's time runs from the deploy request to `ready`, through the whole\n\
         host, checkpoints included; only the compilation of the module is cached. All results were\n\
         compared row by row.\n\n\
         The log: {EVENTS} events of NEXMark and {} renames, in SQLite. *Best native* is one thread\n\
         that steps the statement, parses with serde_json, folds into a hash map and writes once,\n\
         sorted. *Naive native* does one statement or two for each event and commits every 1,000.\n\
         *SQL alone* is `INSERT … SELECT` with SQLite's JSON functions. They write into the same\n\
         tables with the same settings, and keep no checkpoints.\n\n\
         {}\n",
        EVENTS / 100,
        machine::describe(folder)
    )
}

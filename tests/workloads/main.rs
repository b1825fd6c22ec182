//! The bench's workloads on a small log, so that they always work: what retell makes of the log
//! equals what the bench's baselines make of it, row by row.

#[path = "../bench/appending.rs"]
mod appending;
#[path = "../bench/baselines/mod.rs"]
mod baselines;
#[path = "../bench/boundary.rs"]
mod boundary;
#[path = "../support/cluster.rs"]
#[allow(dead_code, reason = "this binary needs only some of it")]
mod cluster;
#[path = "../bench/compare.rs"]
mod compare;
#[path = "../bench/events.rs"]
mod events;
#[path = "../bench/host.rs"]
mod host;
#[path = "../bench/large.rs"]
#[allow(dead_code, reason = "only the bench gives it a process of its own")]
mod large;
#[path = "../bench/live.rs"]
#[allow(dead_code, reason = "only the bench looks at times")]
mod live;
#[path = "../bench/postgres/mod.rs"]
#[allow(dead_code, reason = "only the bench has targets to reach")]
mod postgres;
#[path = "../bench/run.rs"]
#[allow(dead_code, reason = "only the bench looks at times")]
mod run;
#[path = "../support/mod.rs"]
mod support;
#[path = "../bench/workloads.rs"]
#[allow(dead_code, reason = "only the bench has targets to reach")]
mod workloads;

use run::Bench;
use tempfile::TempDir;

const EVENTS: u64 = 20_000;

/// A bench that does everything once. Its folder goes with it.
fn bench() -> (Bench, TempDir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let log = runtime
        .block_on(events::log(folder.path(), EVENTS))
        .expect("the log can be made");
    let bench = Bench {
        runtime,
        // Compiled code is kept from one run of the tests to the next.
        engine: host::engine(env!("CARGO_TARGET_TMPDIR").as_ref()).expect("wasmtime runs here"),
        log,
        folder: folder.path().to_owned(),
        repetitions: 1,
    };
    (bench, folder)
}

#[test]
fn retell_makes_the_same_rows_as_the_baselines() {
    let (bench, _folder) = bench();
    for fold in &workloads::FOLDS {
        let (_, rows) = bench.fold(fold).expect(fold.name);
        assert!(rows > 100, "{}: {rows} rows", fold.name);
    }
}

#[test]
fn two_versions_deployed_at_once_are_as_if_deployed_one_after_the_other() {
    let (bench, _folder) = bench();
    bench.together().expect("both are deployed");
}

#[test]
fn scatter_alone_holds_every_bid() {
    let (bench, _folder) = bench();
    let (runtime, engine, folder) = (&bench.runtime, &bench.engine, &bench.folder);
    let alone = large::alone(runtime, engine, folder, bench.log.path()).expect("it is deployed");
    assert_eq!(alone.rows, EVENTS / 50 * 46);
}

#[test]
fn a_module_that_does_nothing_takes_every_event() {
    let (bench, _folder) = bench();
    boundary::per_event(&bench, 6, 1).expect("it takes them");
}

#[test]
fn every_event_becomes_visible_alone_and_beside_replays() {
    let (bench, _folder) = bench();
    let [alone, beside] = live::run(&bench, 100).expect("events become visible");
    assert_eq!(alone.visible.len(), 100);
    assert!(beside.visible.len() > 0);
}

#[test]
fn imports_and_concurrent_appends_hold_every_event() {
    let (bench, _folder) = bench();
    appending::import(&bench, EVENTS).expect("the file is imported");
    appending::appends(&bench, 1_000, 5).expect("all are appended");
}

#[test]
fn on_a_server_too_retell_makes_the_same_rows_as_the_baselines() {
    let (bench, _folder) = bench();
    let server = postgres::Server::start(&bench, 5_000).expect("a server can be started");
    server.find_latest_bids();
    for fold in &postgres::FOLDS {
        let times = server.fold(&bench, fold);
        let times = times.unwrap_or_else(|error| panic!("{}: {error:#}", fold.name));
        assert_eq!(times.len(), 1 + fold.baselines.len());
    }
    postgres::appends(&server, &bench, 3).expect("every append arrives");
}

//! The bench's workloads on a small log, so that they always work: what retell makes of the log
//! equals what the bench's baselines make of it, row by row.

#[path = "../bench/baselines/mod.rs"]
mod baselines;
#[path = "../bench/compare.rs"]
mod compare;
#[path = "../bench/events.rs"]
mod events;
#[path = "../bench/host.rs"]
mod host;
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
        engine: host::engine(folder.path()).expect("wasmtime runs here"),
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

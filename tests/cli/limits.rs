//! Limits of modules: what hits one says which, its value, and how to change it; what is changed holds.

use serde_json::json;

use crate::instance::Instance;
use crate::scripted::{manifest, module};

fn ticks(events: usize) -> Instance {
    let it = Instance::new();
    it.append(events);
    it.write("ticks.wasm", module(&manifest("ticks", "1.0.0")));
    it
}

#[test]
fn a_limit_that_is_hit_by_a_batch_only_makes_batches_smaller() {
    let it = ticks(100);
    it.ok(&["deploy", "-q", "ticks.wasm", "--limit", "change-rows=7"]);
    let rows = it.json(&["query", "ticks@1.0.0", "SELECT count(*) AS n FROM seen"]);
    assert_eq!(rows[0]["n"], 100);
}

#[test]
fn one_that_a_single_event_hits_stops_the_version_whatever_was_chosen() {
    let it = ticks(3);
    let said = it.says(&[
        "deploy",
        "-q",
        "ticks.wasm",
        "--on-error",
        "skip",
        "--limit",
        "row-bytes=1",
    ]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    for part in [
        "event 1",
        "the limit of bytes of one row: 1 bytes",
        "--limit row-bytes=VALUE",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(it.version("ticks@1.0.0")["dead_letters"], 0);
    // It is changed by deploying the same module again.
    it.says(&[
        "deploy",
        "-q",
        "ticks.wasm",
        "--no-wait",
        "--limit",
        "row-bytes=1KiB",
    ]);
    it.ok(&["resume", "-q", "ticks@1.0.0"]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(it.version("ticks@1.0.0")["state"], "ready");
    assert_eq!(it.version("ticks@1.0.0")["checkpoint"], 3);
}

#[test]
fn time_and_memory_are_what_the_deployer_says() {
    let brittle = std::fs::read(crate::support::guest("brittle")).expect("the guest was built");
    for (how, limit, says) in [
        ("loop", "batch-time=300ms", "time for one batch: 300 ms"),
        ("hoard", "memory=8MiB", "memory: 8 MiB"),
    ] {
        let it = Instance::new();
        let event = json!({ "stream": "s", "type": "Misbehaved", "data": { "how": how } });
        it.write("events.ndjson", event.to_string());
        it.ok(&["append", "-q", "events.ndjson"]);
        it.write("notes.wasm", &brittle);
        let said = it.says(&["deploy", "-q", "notes.wasm", "--limit", limit]);
        assert!(said.starts_with("exit 1\n"), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_module_that_is_too_large_is_told_how_large_one_may_be() {
    let it = ticks(1);
    let said = it.says(&["deploy", "-q", "ticks.wasm", "--limit", "module-size=1KiB"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(said.contains("at most 1024"), "{said}");
    assert!(said.contains("--limit module-size=VALUE"), "{said}");
}

#[test]
fn a_limit_that_makes_no_sense_is_wrong_usage() {
    let it = ticks(1);
    for (limit, says) in [
        ("memory", "NAME=VALUE"),
        ("money=1", "there are memory, table-elements"),
        ("batch-time=5", "500ms, 10s or 2min"),
    ] {
        let said = it.says(&["deploy", "ticks.wasm", "--limit", limit]);
        assert!(said.starts_with("exit 2\n"), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

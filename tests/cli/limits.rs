//! Limits of modules: what hits one says which, its value, and how to change it; what is changed holds.

use serde_json::json;

use crate::instance::Instance;
use crate::scripted::{manifest, module, scripted};

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

/// All but two: no module here takes long for a batch and then ends, and log lines stop nobody.
const RAISED: [(&str, &str, &str, &str); 8] = [
    ("memory", "1MiB", "memory: 1 MiB", "64MiB"),
    ("table-elements", "1", "table elements: 1", "10000"),
    ("call-bytes", "1", "bytes of one call: 1 bytes", "1MiB"),
    ("change-rows", "1", "rows changed in one batch: 1", "100"),
    (
        "change-bytes",
        "1",
        "bytes changed in one batch: 1 bytes",
        "1MiB",
    ),
    ("row-bytes", "1", "bytes of one row: 1 bytes", "1KiB"),
    (
        "module-size",
        "1KiB",
        "a module may have at most 1024",
        "1MiB",
    ),
    ("compile-time", "1ms", "0.001 s", "2min"),
];

#[test]
fn what_hits_one_says_which_and_goes_on_where_it_is_raised() {
    let events = [
        json!({ "stream": "author-1", "type": "AuthorRegistered", "data": { "id": "1", "name": "Ada" } }),
        json!({ "stream": "article-1", "type": "ArticleCreated",
            "data": { "id": "1", "title": "Notes", "body": "On the engine", "author": "1" } }),
    ]
    .map(|it| format!("{it}\n"))
    .concat();
    for (name, value, says, raised) in RAISED {
        let it = Instance::new();
        it.write("events.ndjson", &events);
        it.ok(&["append", "-q", "events.ndjson"]);
        let file = it.guest("articles_v2");
        let limit = format!("{name}={value}");
        let said = it.says(&["deploy", "-q", &file, "--limit", &limit]);
        assert!(said.starts_with("exit 1\n"), "{limit}: {said}");
        for part in [says, &format!("--limit {name}=VALUE")] {
            assert!(said.contains(part), "{part}: {said}");
        }
        it.ok(&[
            "deploy",
            "-q",
            &file,
            "--limit",
            &format!("{name}={raised}"),
        ]);
        let version = it.version("articles@2.0.0");
        assert_eq!(version["state"], "ready", "{limit}");
        assert_eq!(version["checkpoint"], 2, "{limit}");
    }
}

#[test]
fn every_limit_is_met_by_a_test() {
    let said = ticks(1).says(&["deploy", "ticks.wasm", "--limit", "money=1"]);
    let names = said.split("there are ").nth(1).expect("a list of them");
    let names = names.lines().next().expect("it is one line").split(", ");
    let met = RAISED.map(|it| it.0);
    let left: Vec<_> = names.filter(|name| !met.contains(name)).collect();
    assert_eq!(left, ["batch-time", "log-lines"]);
}

#[test]
fn a_flood_of_log_lines_is_dammed() {
    let lines = |limit: &[&str]| {
        let it = Instance::new();
        it.append(1);
        let floods = scripted(&manifest("ticks", "1.0.0"), "floods_the_log");
        it.write("floods.wasm", floods);
        let said = it.output(&[&["-v", "deploy", "floods.wasm"][..], limit].concat());
        let said = String::from_utf8(said.stderr).expect("stderr is UTF-8");
        assert!(said.contains("too many log lines"), "{said}");
        said.lines().filter(|it| it.contains("line ")).count()
    };
    assert_eq!(lines(&[]), 100);
    assert_eq!(lines(&["--limit", "log-lines=7"]), 7);
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

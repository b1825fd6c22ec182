//! `retell verify`: a module that remembers, a read model that was changed, and those that are as they
//! should be.

use rusqlite::Connection;
use serde_json::json;

use crate::instance::Instance;
use crate::scripted::{manifest, scripted};

fn instance(events: usize, conduct: &str) -> Instance {
    let it = Instance::new();
    it.append(events);
    it.write("ticks.wasm", scripted(&manifest("ticks", "1.0.0"), conduct));
    it.ok(&["deploy", "-q", "ticks.wasm", "--promote"]);
    it
}

#[test]
fn a_projection_that_is_a_function_of_its_events_is_the_same_with_other_cuts() {
    let it = instance(3_000, "positions");
    let digest = it.json(&["digest", "ticks"]);
    let verified = it.json(&["verify", "ticks@1.0.0"]);
    assert_eq!(verified["verdict"], "same");
    assert_eq!(verified["position"], 3_000);
    assert_eq!(verified["digest"], digest["digest"]);
    let said = it.says(&["verify", "ticks", "--seed", "7"]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    assert!(said.contains("ticks@1.0.0 at 3000 is the same"), "{said}");
}

#[test]
fn one_that_remembers_is_found_out_and_where() {
    let it = instance(3_000, "remembers");
    let said = it.says(&["verify", "ticks@1.0.0", "--seed", "5"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    for part in [
        "depends on how events are cut into batches: at position ",
        "table seen, position=",
        "with large batches: ",
        "with random ones: ",
        "--seed 5",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let report = it.output(&["--json", "verify", "ticks@1.0.0", "--seed", "5"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["verdict"], "depends-on-cuts");
    let parts_at = report["parts_at"].as_u64().expect("a position");
    // The first batch has at most 1,000 events, and is the same for all.
    assert!((2..=1_001).contains(&parts_at), "{report}");
    assert_eq!(report["table"], "seen");
}

#[test]
fn the_order_of_a_hash_map_is_found_out_where_it_matters() {
    let it = instance(3_000, "keeps_the_first_of_a_map");
    let said = it.says(&["verify", "ticks@1.0.0", "--seed", "5"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(said.contains("depends on how events are cut"), "{said}");
    // Which row is changed first is no one's business.
    let it = instance(3_000, "emits_in_map_order");
    assert_eq!(it.json(&["verify", "ticks@1.0.0"])["verdict"], "same");
    let rows = it.json(&["query", "ticks", "select count(*) as n from seen"]);
    assert_eq!(rows, json!([{ "n": 3_000 }]));
}

#[test]
fn what_must_be_verified_is_not_ready_before() {
    let it = Instance::new();
    // Several batches, so that chance hardly ever cuts them alike twice.
    it.append(20_000);
    it.promoted(&["1.0.0"]);
    let remembers = scripted(&manifest("ticks", "1.1.0"), "remembers");
    it.write("remembers.wasm", remembers);
    let said = it.says(&["deploy", "-q", "remembers.wasm", "--verify", "--promote"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    for part in [
        "error: ticks@1.1.0 failed: ticks@1.1.0 depends on how events are cut",
        "table seen, position=",
        "retell verify ticks@1.1.0 --seed ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let failed = it.version("ticks@1.1.0");
    assert_eq!(
        (&failed["state"], &failed["halt"]),
        (&json!("replaying"), &json!("failed"))
    );
    assert_eq!(it.version("ticks")["version"], "1.0.0");
    // Trying again does not get it past that; only its deployer does.
    it.ok(&["resume", "-q", "ticks@1.1.0"]);
    assert!(it.says(&["catch-up"]).starts_with("exit 1\n"));
    it.ok(&["resume", "-q", "ticks@1.1.0"]);
    it.ok(&["deploy", "-q", "remembers.wasm", "--verify=false"]);
    assert_eq!(it.version("ticks@1.1.0")["state"], "ready");

    let file = it.ticks("1.2.0");
    it.ok(&["deploy", "-q", &file, "--verify", "--promote"]);
    assert_eq!(it.version("ticks")["version"], "1.2.0");
    // Once more: it was verified on the way. What was not is told so.
    it.ok(&["deploy", "-q", &file, "--verify"]);
    let said = it.says(&["deploy", "-q", "1.0.0.wasm", "--verify"]);
    assert!(said.starts_with("exit 3\n"), "{said}");
    assert!(said.contains("retell verify ticks@1.0.0"), "{said}");
}

#[test]
fn one_that_fails_with_other_cuts_is_found_out() {
    let it = instance(900, "shy");
    let said = it.says(&["verify", "ticks@1.0.0", "--seed", "4"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(said.contains("can't apply with other cuts"), "{said}");
}

#[test]
fn a_read_model_that_somebody_changed_is_told_from_a_bad_module() {
    let it = instance(100, "positions");
    let file = it.path("retell-data/read-models/ticks/live.db");
    let tool = Connection::open(file).expect("it opens");
    tool.execute_batch("DELETE FROM seen WHERE position = 50")
        .expect("a row goes");
    drop(tool);
    let said = it.says(&["verify", "ticks@1.0.0"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(
        said.contains("is not what its module makes of the log"),
        "{said}"
    );
    assert!(said.contains("retell replay ticks@1.0.0"), "{said}");
    assert!(
        said.contains("table seen, position=50\n    in the read model: no row\n    from the log:      position=50"),
        "{said}"
    );
    let report = it.output(&["--json", "verify", "ticks@1.0.0"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(
        [&report["key"], &report["usual"], &report["stored"]],
        [&json!("position=50"), &json!("position=50"), &json!(null)]
    );
    it.ok(&["replay", "-q", "ticks@1.0.0"]);
    assert_eq!(it.json(&["verify", "ticks@1.0.0"])["verdict"], "same");
}

#[test]
fn what_was_skipped_and_retried_is_verified_under_its_journal() {
    let it = Instance::new();
    let note = |stream: &str, id: &str| json!({ "stream": stream, "type": "NoteAdded", "data": { "id": id, "title": "T", "stars": 1 } });
    let needs = |stream: &str, id: &str| json!({ "stream": stream, "type": "Misbehaved", "data": { "how": format!("needs {id}") } });
    let events = [
        needs("a", "2"),
        note("a", "1"),
        needs("b", "fly"),
        note("c", "2"),
        needs("a", "1"),
    ];
    let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    it.write("events.ndjson", lines.join("\n"));
    it.ok(&["append", "-q", "events.ndjson"]);
    let module = std::fs::read(crate::support::guest("brittle")).expect("the guest was built");
    it.write("notes.wasm", module);
    it.ok(&["deploy", "-q", "notes.wasm", "--on-error", "park-stream"]);
    assert_eq!(it.json(&["verify", "notes@1.0.0"])["verdict"], "same");
    it.ok(&["dead-letters", "notes@1.0.0", "retry", "1"]);
    it.ok(&["dead-letters", "notes@1.0.0", "skip", "3"]);
    let verified = it.json(&["verify", "notes@1.0.0"]);
    assert_eq!(verified["verdict"], "same");
    assert_eq!(verified["position"], 5);
}

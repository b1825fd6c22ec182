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

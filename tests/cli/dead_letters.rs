//! Events that a module can't apply: what the deployer chose is done, everything is on record, and an
//! operator decides about the rest.

use serde_json::{Value, json};

use crate::instance::Instance;

fn note(stream: &str, id: &str) -> Value {
    json!({ "stream": stream, "type": "NoteAdded", "data": { "id": id, "title": "T", "stars": 1 } })
}

fn misbehave(stream: &str, how: &str) -> Value {
    json!({ "stream": stream, "type": "Misbehaved", "data": { "how": how } })
}

fn instance(events: &[Value]) -> Instance {
    let it = Instance::new();
    append(&it, events);
    let module = std::fs::read(crate::support::guest("brittle")).expect("the guest was built");
    it.write("notes.wasm", module);
    it
}

fn append(it: &Instance, events: &[Value]) {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    it.write("events.ndjson", lines.join("\n"));
    it.ok(&["append", "-q", "events.ndjson"]);
}

/// Position and decision of everything on record.
fn journal(it: &Instance) -> Vec<(u64, String)> {
    let listed = it.json(&["dead-letters", "notes@1.0.0"]);
    let lines = listed.as_array().expect("a list").iter();
    lines
        .map(|line| {
            let decision = line["decision"].as_str().expect("a word");
            (
                line["position"].as_u64().expect("a number"),
                decision.to_owned(),
            )
        })
        .collect()
}

/// `id:stars` of all notes.
fn notes(it: &Instance) -> String {
    let sql = "SELECT group_concat(id || ':' || stars, ' ') AS notes FROM (SELECT * FROM note ORDER BY id)";
    let rows = it.json(&["query", "notes@1.0.0", sql]);
    rows[0]["notes"].as_str().unwrap_or_default().to_owned()
}

fn words(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let expected = expected.iter();
    expected
        .map(|(at, word)| (*at, (*word).to_owned()))
        .collect()
}

#[test]
fn by_default_a_version_stops_before_the_event_until_somebody_decides() {
    let events = [
        note("a", "1"),
        misbehave("b", "panic"),
        note("c", "2"),
        misbehave("d", "fly"),
        note("e", "3"),
    ];
    let it = instance(&events);
    let said = it.shows(&["deploy", "-q", "notes.wasm"]);
    assert!(said.contains("retell dead-letters notes@1.0.0"), "{said}");
    let listed = it.json(&["dead-letters", "notes@1.0.0"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let dead = &listed[0];
    assert_eq!(dead["position"], 2);
    assert_eq!(dead["decision"], "waiting");
    assert_eq!(
        (&dead["stream"], &dead["type"]),
        (&json!("b"), &json!("Misbehaved"))
    );
    assert_eq!(dead["excerpt"], r#"{"how":"panic"}"#);
    let reason = dead["reason"].as_str().expect("a text");
    assert!(reason.contains("this note is torn"), "{reason}");
    assert_eq!(it.version("notes@1.0.0")["dead_letters"], 1);

    let again = it.says(&["dead-letters", "notes@1.0.0", "retry", "2"]);
    assert!(again.starts_with("exit 1\n"), "{again}");
    assert!(again.contains("this note is torn"), "{again}");
    assert_eq!(it.version("notes@1.0.0")["halt"], "failed");

    it.ok(&["dead-letters", "notes@1.0.0", "skip", "2"]);
    assert_eq!(it.version("notes@1.0.0")["halt"], "none");
    let caught_up = it.says(&["catch-up"]);
    assert!(caught_up.contains("a note can't fly"), "{caught_up}");
    assert_eq!(journal(&it), words(&[(2, "skipped"), (4, "waiting")]));
    it.ok(&["dead-letters", "notes@1.0.0", "skip", "4"]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(notes(&it), "1:1 2:1 3:1");
    assert_eq!(journal(&it), words(&[(2, "skipped"), (4, "skipped")]));

    for (args, says) in [
        (["skip", "4"], "event 4 is skipped already"),
        (["skip", "3"], "event 3 is not among the dead letters"),
        (["retry", "99"], "event 99 is not among the dead letters"),
    ] {
        let said = it.says(&["dead-letters", "notes@1.0.0", args[0], args[1]]);
        assert!(said.starts_with("exit 3\n"), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(it.version("notes@1.0.0")["halt"], "none");
}

#[test]
fn what_is_skipped_is_counted_told_and_in_the_way_of_a_promotion() {
    let events = [
        misbehave("a", "panic"),
        note("b", "1"),
        misbehave("c", "fly"),
        note("d", "2"),
        misbehave("e", "swim"),
    ];
    let it = instance(&events);
    let deployed = it.says(&[
        "deploy",
        "-q",
        "notes.wasm",
        "--on-error",
        "skip",
        "--promote",
    ]);
    assert!(deployed.starts_with("exit 3\n"), "{deployed}");
    assert!(deployed.contains("misses 3 events"), "{deployed}");
    let version = it.version("notes@1.0.0");
    assert_eq!(
        (
            &version["state"],
            &version["role"],
            &version["dead_letters"]
        ),
        (&json!("ready"), &json!("none"), &json!(3))
    );
    assert_eq!(notes(&it), "1:1 2:1");
    // Nor does it go live later, when it misses nothing any more.
    let is_wished: bool = rusqlite::Connection::open(it.log())
        .and_then(|log| {
            let sql = "SELECT promote_when_ready FROM versions";
            log.query_row(sql, [], |row| row.get(0))
        })
        .expect("the catalog is there");
    assert!(!is_wished);
    assert!(it.says(&["status"]).contains("misses 3 events"));
    it.ok(&["promote", "-q", "notes@1.0.0", "--accept-dead-letters"]);
    let waited = it.json(&["wait", "notes", "--position", "3"]);
    assert_eq!(waited["missing"], "skipped");
    let waited = it.json(&["wait", "notes", "--position", "2"]);
    assert_eq!(waited["missing"], Value::Null);
    // A new build decides anew.
    it.ok(&["replay", "-q", "notes@1.0.0"]);
    assert_eq!(journal(&it).len(), 3);
}

#[test]
fn no_more_are_skipped_than_the_deployer_allows() {
    let it = instance(&[
        misbehave("a", "panic"),
        misbehave("a", "fly"),
        misbehave("a", "swim"),
    ]);
    let skip = ["--on-error", "skip", "--dead-letters-max"];
    let deployed = it.says(&[&["deploy", "-q", "notes.wasm"][..], &skip, &["2"]].concat());
    assert!(deployed.starts_with("exit 1\n"), "{deployed}");
    assert!(
        deployed.contains("`--dead-letters-max` allows"),
        "{deployed}"
    );
    let decided = words(&[(1, "skipped"), (2, "skipped"), (3, "waiting")]);
    assert_eq!(journal(&it), decided);
    // More are allowed: it goes on.
    it.says(
        &[
            &["deploy", "-q", "notes.wasm", "--no-wait"][..],
            &skip,
            &["3"],
        ]
        .concat(),
    );
    it.ok(&["resume", "-q", "notes@1.0.0"]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(journal(&it)[2], (3, "skipped".to_owned()));
}

#[test]
fn a_parked_stream_waits_in_order_while_the_rest_goes_on() {
    let events = [
        note("a", "1"),
        misbehave("b", "needs 9"),
        note("b", "2"),
        note("c", "3"),
        misbehave("b", "needs 2"),
        misbehave("d", "fly"),
        note("d", "4"),
    ];
    let it = instance(&events);
    it.ok(&["deploy", "-q", "notes.wasm", "--on-error", "park-stream"]);
    assert_eq!(notes(&it), "1:1 3:1");
    let parked = [2, 3, 5, 6, 7].map(|at| (at, "parked"));
    assert_eq!(journal(&it), words(&parked));
    assert_eq!(it.version("notes@1.0.0")["checkpoint"], 7);

    let behind = it.says(&["dead-letters", "notes@1.0.0", "retry", "3"]);
    assert!(behind.starts_with("exit 3\n"), "{behind}");
    assert!(behind.contains("parked behind event 2"), "{behind}");
    let failed = it.says(&["dead-letters", "notes@1.0.0", "retry", "2"]);
    assert!(failed.starts_with("exit 1\n"), "{failed}");
    assert!(failed.contains("there is no note 9"), "{failed}");

    // What comes later of a parked stream is parked; what the first one needs comes in another.
    append(&it, &[note("b", "5"), note("e", "9")]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(notes(&it), "1:1 3:1 9:1");
    let retried = it.json(&["dead-letters", "notes@1.0.0", "retry", "2"]);
    assert_eq!(retried["applied"], 4);
    assert_eq!(notes(&it), "1:1 2:2 3:1 5:1 9:2");
    let skipped = it.json(&["dead-letters", "notes@1.0.0", "skip", "6"]);
    assert_eq!(skipped["applied"], 1);
    assert_eq!(notes(&it), "1:1 2:2 3:1 4:1 5:1 9:2");
    let listed = it.json(&["dead-letters", "notes@1.0.0"]);
    let first = &listed[0];
    assert_eq!(
        (&first["decision"], &first["retried_after"]),
        (&json!("retried"), &json!(9))
    );
    assert_eq!(
        it.version("notes@1.0.0")["dead_letters"],
        1,
        "the skipped one"
    );
    // The stream is as any other again.
    append(&it, &[note("b", "6")]);
    it.ok(&["catch-up", "-q"]);
    assert!(notes(&it).contains("6:1"));
}

#[test]
fn a_version_that_stopped_goes_on_when_it_is_deployed_with_other_rules() {
    let it = instance(&[note("a", "1"), misbehave("b", "fly"), note("c", "2")]);
    let stopped = it.says(&["deploy", "-q", "notes.wasm"]);
    assert!(stopped.starts_with("exit 1\n"), "{stopped}");
    let again = it.says(&["deploy", "-q", "notes.wasm"]);
    assert!(again.starts_with("exit 1\n"), "nothing changed: {again}");
    it.ok(&["deploy", "-q", "notes.wasm", "--on-error", "skip"]);
    assert_eq!(notes(&it), "1:1 2:1");
}

#[test]
fn what_a_version_meets_while_it_catches_up_is_in_the_way_of_its_promotion_too() {
    let it = instance(&[note("a", "1")]);
    let other = crate::scripted::module(&crate::scripted::manifest("notes", "0.9.0"));
    it.write("other.wasm", other);
    it.ok(&["deploy", "-q", "other.wasm", "--promote"]);
    it.ok(&["deploy", "-q", "notes.wasm", "--on-error", "skip"]);
    append(&it, &[misbehave("b", "fly"), note("c", "2")]);
    // Its readers are further than the one that comes.
    it.ok(&["catch-up", "-q", "notes@0.9.0"]);
    let promoted = it.says(&["promote", "notes@1.0.0"]);
    assert!(promoted.starts_with("exit 3\n"), "{promoted}");
    assert!(promoted.contains("misses 1 event"), "{promoted}");
    assert_eq!(it.version("notes")["version"], "0.9.0");
    it.ok(&["promote", "-q", "notes@1.0.0", "--accept-dead-letters"]);
    assert_eq!(it.version("notes")["version"], "1.0.0");
}

#[test]
fn a_retry_that_meets_a_limit_fails_and_the_version_goes_on() {
    let it = instance(&[misbehave("a", "outgrows 1"), note("b", "2")]);
    it.ok(&[
        "deploy",
        "-q",
        "notes.wasm",
        "--on-error",
        "park-stream",
        "--limit",
        "batch-time=300ms",
        "--promote",
        "--accept-dead-letters",
    ]);
    append(&it, &[note("c", "1")]);
    it.ok(&["catch-up", "-q"]);
    let retried = it.says(&["dead-letters", "notes@1.0.0", "retry", "1"]);
    assert!(retried.starts_with("exit 1\n"), "{retried}");
    assert!(retried.contains("--limit batch-time=VALUE"), "{retried}");
    let version = it.version("notes@1.0.0");
    assert_eq!(
        (&version["halt"], &version["role"]),
        (&json!("none"), &json!("live"))
    );
    let listed = it.json(&["dead-letters", "notes@1.0.0"]);
    let reason = listed[0]["reason"].as_str().expect("a text");
    assert!(reason.contains("time for one batch: 300 ms"), "{reason}");
    append(&it, &[note("d", "3")]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(notes(&it), "1:1 2:1 3:1");
    it.ok(&["dead-letters", "notes@1.0.0", "skip", "1"]);
}

#[test]
fn a_build_up_to_a_position_that_fails_is_not_taken_for_the_one_that_is_there() {
    let it = instance(&[note("a", "1"), misbehave("b", "fly"), note("c", "2")]);
    it.says(&["deploy", "-q", "notes.wasm"]);
    it.ok(&["dead-letters", "notes@1.0.0", "skip", "2"]);
    it.ok(&["catch-up", "-q"]);
    // A new build decides anew, and stops before the event.
    let said = it.says(&["deploy", "notes.wasm", "--until", "3", "--promote"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(said.contains("the old one stays in its place"), "{said}");
    let version = it.version("notes@1.0.0");
    assert_eq!(
        (&version["state"], &version["role"]),
        (&json!("ready"), &json!("none"))
    );
    assert_eq!(notes(&it), "1:1 2:1");
    it.ok(&["deploy", "-q", "notes.wasm", "--until", "1"]);
    assert_eq!(notes(&it), "1:1");
}

#[test]
fn a_running_host_goes_on_with_what_is_decided() {
    let it = instance(&[note("a", "1")]);
    it.ok(&[
        "deploy",
        "-q",
        "notes.wasm",
        "--on-error",
        "park-stream",
        "--promote",
    ]);
    let host = crate::serve::Serving::begin(&it);
    append(
        &it,
        &[misbehave("b", "needs 2"), note("b", "3"), note("c", "2")],
    );
    let waited = it.json(&["wait", "notes", "--position", "3"]);
    assert_eq!(waited["missing"], "parked");
    it.ok(&["wait", "notes", "--position", "4"]);
    assert_eq!(notes(&it), "1:1 2:1");
    it.ok(&["dead-letters", "notes@1.0.0", "retry", "2"]);
    assert_eq!(notes(&it), "1:1 2:2 3:1");
    append(&it, &[note("b", "4")]);
    it.ok(&["wait", "notes", "--position", "5"]);
    assert_eq!(notes(&it), "1:1 2:2 3:1 4:1");
    drop(host);
}

//! Events that can't be applied, where the journal is a table on a server.

use serde_json::{Value, json};

use crate::cluster::cluster;
use crate::everywhere::database_of;
use crate::instance::{Instance, Where, signal, wait_for};

fn instance() -> (Instance, String) {
    let url = cluster().new_database();
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url.clone()));
    let module = std::fs::read(crate::support::guest("brittle")).expect("the guest was built");
    it.write("notes.wasm", module);
    (it, url)
}

fn append(it: &Instance, stream: &str, event_type: &str, data: &Value) {
    let data = data.to_string();
    it.ok(&[
        "append", "-q", "--stream", stream, "--type", event_type, "--data", &data,
    ]);
}

fn note(it: &Instance, stream: &str, id: &str) {
    let data = json!({ "id": id, "title": "T", "stars": 1 });
    append(it, stream, "NoteAdded", &data);
}

#[test]
fn a_parked_stream_waits_for_a_decision_while_the_host_follows() {
    let (it, url) = instance();
    note(&it, "a", "1");
    it.ok(&[
        "deploy",
        "-q",
        "notes.wasm",
        "--on-error",
        "park-stream",
        "--promote",
    ]);
    let host = it.start(&["serve"]);
    append(&it, "b", "Misbehaved", &json!({ "how": "needs 2" }));
    note(&it, "b", "3");
    note(&it, "c", "2");
    let waited = it.json(&["wait", "notes", "--position", "3"]);
    assert_eq!(waited["missing"], "parked");
    it.ok(&["wait", "notes", "--position", "4"]);
    let notes = |it: &Instance| {
        let sql = "SELECT string_agg(id || ':' || stars, ' ' ORDER BY id) AS notes FROM note";
        it.json(&["query", "notes", sql])[0]["notes"].clone()
    };
    assert_eq!(notes(&it), "1:1 2:1");
    let retried = it.json(&["dead-letters", "notes@1.0.0", "retry", "2"]);
    assert_eq!(retried["applied"], 2);
    assert_eq!(notes(&it), "1:1 2:2 3:1");
    let listed = it.json(&["dead-letters", "notes@1.0.0"]);
    let decisions: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| (it["decision"].clone(), it["retried_after"].clone()))
        .collect();
    assert_eq!(decisions, vec![(json!("retried"), json!(4)); 2]);
    // The journal is retell's own: it is no view of the live schema.
    let shown = cluster().psql(
        database_of(&url),
        "SELECT count(*) FROM pg_views WHERE schemaname = 'notes' AND viewname LIKE '%journal%'",
    );
    assert_eq!(shown, "0");
    signal(&host, "TERM");
    assert_eq!(wait_for(host).code, Some(0));
}

#[test]
fn what_stops_a_version_is_on_record_and_can_be_left_out() {
    let (it, _) = instance();
    append(&it, "a", "Misbehaved", &json!({ "how": "break\u{0}" }));
    append(&it, "a", "Misbehaved", &json!({ "how": "panic" }));
    note(&it, "a", "1");
    it.run(&["deploy", "-q", "notes.wasm"]);
    for position in ["1", "2"] {
        let listed = it.json(&["dead-letters", "notes@1.0.0"]);
        let last = listed.as_array().and_then(|all| all.last()).cloned();
        let last = last.expect("an entry");
        assert_eq!(last["decision"], "waiting");
        assert_eq!(last["position"].to_string(), position);
        it.ok(&["dead-letters", "notes@1.0.0", "skip", position]);
        it.run(&["catch-up", "-q"]);
    }
    let version = it.version("notes@1.0.0").expect("it is there");
    assert_eq!(
        (
            &version["state"],
            &version["checkpoint"],
            &version["dead_letters"]
        ),
        (&json!("ready"), &json!(3), &json!(2))
    );
}

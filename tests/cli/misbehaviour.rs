//! Modules that break while they run, and events that do not fit: the version stops, says where and
//! why, and nobody else is harmed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::instance::Instance;
use crate::scripted::{column, manifest, module, scripted};

fn note(id: &str) -> Value {
    json!({ "stream": "notes", "type": "NoteAdded", "data": { "id": id, "title": "T", "stars": 1 } })
}

fn ndjson(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    lines.join("\n")
}

fn misbehave(how: &str) -> Value {
    json!({ "stream": "notes", "type": "Misbehaved", "data": { "how": how } })
}

/// `notes@0.9.0` is live with everything; then 1.0.0, which breaks, is deployed. Returns what that
/// says, having checked what must hold whatever it is that breaks.
fn broken(events: &[Value], stops_at: u64, breaks: &[u8]) -> String {
    let it = Instance::new();
    it.write("events.ndjson", ndjson(events));
    it.ok(&["append", "-q", "events.ndjson"]);
    it.write("live.wasm", module(&manifest("notes", "0.9.0")));
    it.ok(&["deploy", "-q", "live.wasm", "--promote"]);
    let live = (it.version("notes@0.9.0"), it.json(&["digest", "notes"]));

    it.write("breaks.wasm", breaks);
    let said = it.shows(&["deploy", "-q", "breaks.wasm", "--promote"]);
    assert!(said.starts_with("exit 1\n"), "{said}");

    let failed = it.version("notes@1.0.0");
    assert_eq!(failed["halt"], "failed");
    assert_eq!(failed["role"], "none");
    assert_eq!(
        failed["checkpoint"],
        stops_at - 1,
        "everything before it is applied"
    );
    let reason = failed["halt_reason"].as_str().expect("a reason");
    assert!(
        said.contains(reason.lines().next().expect("a line")),
        "{said}\n{reason}"
    );
    let shown = it.shows(&["status", "notes@1.0.0"]);
    assert!(
        shown.contains(reason.lines().next().expect("a line")),
        "{shown}"
    );

    assert_eq!(
        live,
        (it.version("notes@0.9.0"), it.json(&["digest", "notes"]))
    );
    it.write("corrected.wasm", module(&manifest("notes", "1.0.1")));
    it.ok(&["deploy", "-q", "corrected.wasm", "--promote"]);
    assert_eq!(it.version("notes")["version"], "1.0.1");
    it.ok(&["retire", "-q", "notes@1.0.0"]);
    said
}

fn brittle() -> Vec<u8> {
    std::fs::read(crate::support::guest("brittle")).expect("the guest was built")
}

#[test]
fn a_panic_is_shown_with_its_message_and_place() {
    let events = [note("1"), note("2"), misbehave("panic"), note("3")];
    insta::assert_snapshot!(broken(&events, 3, &brittle()), @r#"
    exit 1
    error: notes@1.0.0 failed: event 3, `Misbehaved`: panicked at brittle/src/lib.rs:52:20: this note is torn
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`
    "#);
}

#[test]
fn a_refused_event_is_named() {
    let events = [note("1"), misbehave("fly"), note("2")];
    insta::assert_snapshot!(broken(&events, 2, &brittle()), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`
    "#);
}

#[test]
fn an_endless_loop_is_ended() {
    // Alone in its batch, so that the limit is met once.
    let other = json!({ "stream": "others", "type": "Other", "data": null });
    insta::assert_snapshot!(broken(&[other, misbehave("loop")], 2, &brittle()), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: the module hit the limit of time for one batch: 5 s; `retell deploy FILE --limit batch-time=VALUE` changes it
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`
    "#);
}

#[test]
fn a_recursion_without_end_and_a_hoard_are_ended() {
    insta::assert_snapshot!(broken(&[note("1"), misbehave("recurse")], 2, &brittle()), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: wasm trap: out of bounds memory access
        in brittle::dig
        in brittle::dig
        in brittle::dig
        in brittle::dig
        in brittle::dig
        in brittle::dig
        in brittle::dig
        in brittle::dig
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`
    "#);
    insta::assert_snapshot!(broken(&[note("1"), misbehave("hoard")], 2, &brittle()), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: the module hit the limit of memory: 256 MiB; `retell deploy FILE --limit memory=VALUE` changes it
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`
    "#);
}

#[test]
fn fields_that_do_not_fit() {
    let payloads = [
        json!({ "id": "2", "title": 7, "stars": 1 }),
        json!({ "id": "2", "stars": 1 }),
        json!({ "id": "2", "title": null, "stars": 1 }),
        json!({ "id": "2", "title": "T", "stars": 9_223_372_036_854_775_808_u64 }),
        json!({ "id": "2", "title": "T", "stars": 1.5 }),
        json!({ "id": "2", "title": "T", "stars": { "n": 1 } }),
        json!({ "id": "2", "title": "with\u{0}nul", "stars": 1 }),
        json!([1, 2]),
        json!("text"),
    ];
    let mut said = String::new();
    for payload in payloads {
        let bad = json!({ "stream": "notes", "type": "NoteAdded", "data": payload });
        let all = broken(&[note("1"), bad, note("3")], 2, &brittle());
        let error = all
            .lines()
            .find(|line| line.starts_with("error: "))
            .expect("an error");
        writeln!(said, "{payload}\n  {error}").expect("a text");
    }
    insta::assert_snapshot!(said, @r#"
    {"id":"2","stars":1,"title":7}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `title`: expected text, found number
    {"id":"2","stars":1}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `title`: expected text, but it is missing
    {"id":"2","stars":1,"title":null}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `title`: expected text, found null
    {"id":"2","stars":9223372036854775808,"title":"T"}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `stars`: the number is outside 64 bits
    {"id":"2","stars":1.5,"title":"T"}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `stars`: expected integer, found number
    {"id":"2","stars":{"n":1},"title":"T"}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `stars`: expected integer, found object
    {"id":"2","stars":1,"title":"with\u0000nul"}
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `title`: text must not hold U+0000
    [1,2]
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `id`: expected text, but it is missing
    "text"
      error: notes@1.0.0 failed: event 2, `NoteAdded`: field `id`: expected text, but it is missing
    "#);
}

#[test]
fn modules_that_break_the_contract() {
    let events = [note("1"), note("2"), note("3")];
    let mut said = String::new();
    for conduct in [
        "unknown_table",
        "reads_another_table",
        "broken_row",
        "uneven_lists",
        "apply_traps",
        "refuses_another",
        "ends_out_of_range",
        "unsorted_ends",
        "wrong_columns",
        "wrong_types",
        "not_utf8",
        "grows_and_copies",
        "huge_row",
        "calls_while_returning",
        "nan",
        "negative_zero",
    ] {
        let mut it = manifest("notes", "1.0.0");
        if ["nan", "negative_zero"].contains(&conduct) {
            let columns = it["tables"][0]["columns"].as_array_mut();
            columns.expect("a list").push(column("value", "real"));
        }
        let breaks = scripted(&it, conduct);
        let all = broken(&events, 1, &breaks);
        writeln!(said, "{conduct}\n{all}").expect("a text");
    }
    insta::assert_snapshot!(said, @r#"
    unknown_table
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: change 0 names an event, a table or a kind that does not exist, or has a row where none belongs
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    reads_another_table
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: table 7 is not in the manifest
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    broken_row
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the module handed over a row that is none of table `seen`: the row is not a CBOR array of definite length
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    uneven_lists
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the lists of a change-set differ in length
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    apply_traps
    exit 1
    error: notes@1.0.0 failed: event 1, `NoteAdded`: wasm trap: wasm `unreachable` instruction executed
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`

    refuses_another
    exit 1
    error: notes@1.0.0 failed: event 1, `NoteAdded`: not this one
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`

    ends_out_of_range
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the ends of a change-set's keys make no sense
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    unsorted_ends
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the ends of a change-set's keys make no sense
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    wrong_columns
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the module handed over a row that is none of table `seen`: the row has 2 columns instead of 1
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    wrong_types
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the module handed over a row that is none of table `seen`: column 0 of the row: expected integer, found the CBOR byte 0x63
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    not_utf8
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: invalid utf-8 sequence of 1 bytes from index 0
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    grows_and_copies
    exit 1
    error: notes@1.0.0 failed: event 1, `NoteAdded`: the module hit the limit of memory: 256 MiB; `retell deploy FILE --limit memory=VALUE` changes it
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    huge_row
    exit 1
    error: notes@1.0.0 failed: event 1, `NoteAdded`: the module hit the limit of bytes of one row: 16 MiB; `retell deploy FILE --limit row-bytes=VALUE` changes it
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    calls_while_returning
    exit 1
    error: notes@1.0.0 failed: event 1, `NoteAdded`: wasm trap: cannot leave component instance
        in (unnamed)
        in <raw_manifest::allocator::Talkative as core::alloc::global::GlobalAlloc>::dealloc
        in cabi_post_apply
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`

    nan
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the module handed over a row that is none of table `seen`: column 1 of the row: the real is not finite
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    negative_zero
    exit 1
    error: notes@1.0.0 failed: events 1 to 3: the module handed over a row that is none of table `seen`: column 1 of the row: the real is a negative zero
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`
    "#);
}

#[test]
fn sql_after_the_replay_that_fails() {
    let mut said = String::new();
    for sql in [
        "SELEC 1",
        "DROP TABLE seen",
        "INSERT INTO seen VALUES (99)",
        "ATTACH 'x.db' AS x",
    ] {
        let mut manifest = manifest("notes", "1.0.0");
        manifest["after_replay"] = json!([{ "dialect": "sqlite", "sql": sql }]);
        // Everything is applied by then.
        let all = broken(&[note("1")], 2, &module(&manifest));
        writeln!(said, "{sql}\n{all}").expect("a text");
    }
    insta::assert_snapshot!(said, @r#"
    SELEC 1
    exit 1
    error: notes@1.0.0 failed: the module's after-replay SQL failed: statement 1 of script 1: near "SELEC": syntax error in SELEC 1 at offset 0
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    DROP TABLE seen
    exit 1
    error: notes@1.0.0 failed: the module's after-replay SQL failed: statement 1 of script 1: it would drop the table `seen`
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    INSERT INTO seen VALUES (99)
    exit 1
    error: notes@1.0.0 failed: the module's after-replay SQL failed: statement 1 of script 1: it would insert into the table `seen`
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`

    ATTACH 'x.db' AS x
    exit 1
    error: notes@1.0.0 failed: the module's after-replay SQL failed: statement 1 of script 1: it can't attach or detach databases
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`
    "#);
}

#[test]
fn a_failed_version_may_try_again() {
    let it = Instance::new();
    let lines = format!("{}\n{}\n", note("1"), misbehave("fly"));
    it.write("events.ndjson", lines);
    it.ok(&["append", "-q", "events.ndjson"]);
    let file = it.guest("brittle");
    insta::assert_snapshot!(it.shows(&["deploy", &file]), @r#"
    exit 1
    notes@1.0.0 is registered
    error: notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "notes@1.0.0"]), @r#"
    exit 3
    error: notes@1.0.0: it failed before it was ready
      hint: see why: `retell status notes@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state              role  checkpoint  lag  events/s  left  names 
     notes@1.0.0  replaying, failed  none           1    1         0              
    notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
    notes@1.0.0 misses 1 event that it could not apply: `retell dead-letters notes@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
      hint: correct the projection, raise its version and deploy that, or try again with `retell resume`; `retell dead-letters NAME` lists events that can't be applied and can be left out
    "#);
    insta::assert_snapshot!(it.shows(&["resume", "notes@1.0.0"]), @r#"
    exit 0
    notes@1.0.0 may go on; `retell serve` works on it, or `retell catch-up` once
    "#);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 1
    error: notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
      hint: correct the projection, raise its version and deploy that, or try again with `retell resume`; `retell dead-letters NAME` lists events that can't be applied and can be left out
    "#);
    // The same file again says that it failed, too.
    insta::assert_snapshot!(it.shows(&["deploy", &file]), @r#"
    exit 1
    notes@1.0.0 is deployed already
    error: notes@1.0.0 failed: event 2, `Misbehaved`: a note can't fly
      hint: correct the projection, raise its version and deploy that; what is live was not touched. To try this version once more: `retell resume notes@1.0.0`; to leave the event out: `retell dead-letters notes@1.0.0`
    "#);
    // But a build that stops before the trouble is another one, and fine.
    insta::assert_snapshot!(it.shows(&["deploy", &file, "--until", "1"]), @r#"
    exit 0
    notes@1.0.0 is deployed already
    notes@1.0.0 is ready at position 1
    look at it:   retell query notes@1.0.0 'SELECT …'
    make it live: retell promote notes@1.0.0
    "#);
    assert_eq!(it.version("notes@1.0.0")["halt"], "none");
}

#[test]
fn a_live_version_that_fails_goes_on_answering() {
    let it = Instance::new();
    it.write("events.ndjson", format!("{}\n", note("1")));
    it.ok(&["append", "-q", "events.ndjson"]);
    let file = it.guest("brittle");
    it.ok(&["deploy", "-q", &file, "--promote"]);
    it.write(
        "more.ndjson",
        format!("{}\n{}\n", note("2"), misbehave("panic")),
    );
    it.ok(&["append", "-q", "more.ndjson"]);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 1
    error: notes@1.0.0 failed: event 3, `Misbehaved`: panicked at brittle/src/lib.rs:52:20: this note is torn
      hint: correct the projection, raise its version and deploy that, or try again with `retell resume`; `retell dead-letters NAME` lists events that can't be applied and can be left out
    "#);
    let rows = it.json(&["query", "notes", "select id from note order by id"]);
    assert_eq!(rows, json!([{ "id": "1" }, { "id": "2" }]));
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state          role  checkpoint  lag  events/s  left  names          
     notes@1.0.0  ready, failed  live           2    1         0        notes, notes@1 
    notes@1.0.0 failed: event 3, `Misbehaved`: panicked at brittle/src/lib.rs:52:20: this note is torn
    notes@1.0.0 misses 1 event that it could not apply: `retell dead-letters notes@1.0.0`
    "#);
    // Appending was never stopped by it.
    it.write("more.ndjson", format!("{}\n", note("3")));
    it.ok(&["append", "-q", "more.ndjson"]);
    insta::assert_snapshot!(it.shows(&["wait", "notes", "--position", "4", "--timeout-ms", "50"]), @r#"
    exit 4
    error: notes@1.0.0 is at position 2, not at 4 after 50 ms, and it failed
      hint: see why: `retell status notes@1.0.0`
    "#);
}

#[test]
fn a_module_sees_only_the_events_it_asks_for() {
    let it = Instance::new();
    let event = |kind: &str| json!({ "stream": "notes", "type": kind, "data": { "secret": kind } });
    let kinds = ["Asked", "Other", "Asked", "Other", "Other"];
    it.write("events.ndjson", ndjson(&kinds.map(event)));
    it.ok(&["append", "-q", "events.ndjson"]);
    let deploy = |name: &str, kind: &str| {
        let mut it_says = manifest(name, "1.0.0");
        it_says["shapes"][0]["event_type"] = kind.into();
        let file = format!("{name}.wasm");
        it.write(&file, module(&it_says));
        it.ok(&["deploy", "-q", &file, "--promote"]);
        it.json(&["query", name, "select position from seen order by position"])
    };
    let rows = |positions: &[u64]| {
        let rows = positions.iter().map(|it| json!({ "position": it }));
        Value::Array(rows.collect())
    };
    assert_eq!(deploy("asked", "Asked"), rows(&[1, 3]));
    assert_eq!(deploy("other", "Other"), rows(&[2, 4, 5]));
}

/// Modules that count in their memory how often they are called, folded by one process at the same time:
/// one that shared its memory with another, even after it, would miss some of the numbers.
#[test]
fn a_module_sees_only_its_own_memory() {
    /// Several batches, and too few for an instance to be thrown away after some of them.
    const EVENTS: usize = 20_000;
    let it = Instance::new();
    it.append(EVENTS);
    let versions = ["first@1.0.0", "first@1.1.0", "second@1.0.0"];
    for version in versions {
        let (name, number) = version.split_once('@').expect("NAME@VERSION");
        let file = format!("{version}.wasm");
        it.write(&file, scripted(&manifest(name, number), "remembers"));
        it.ok(&["deploy", "-q", &file, "--no-wait"]);
    }
    it.ok(&["catch-up", "-q"]);
    for version in versions {
        let sql =
            "select position / 1000000 as call, count(*) as events from seen group by 1 order by 1";
        let calls = it.json(&["query", version, sql]);
        let calls = calls.as_array().expect("a list");
        let numbers = calls.iter().map(|it| it["call"].as_u64());
        let numbers: Vec<_> = numbers.map(|it| it.expect("a number")).collect();
        let one_by_one: Vec<_> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, one_by_one, "{version}: {calls:?}");
        assert!(numbers.len() > 3, "{version} had hardly a batch: {calls:?}");
        let events = calls.iter().filter_map(|it| it["events"].as_u64());
        assert_eq!(events.sum::<u64>(), EVENTS as u64, "{version}: {calls:?}");
    }
}

/// Whoever gives the guest a new conduct says what must happen, and tests it.
#[test]
fn every_conduct_is_told_and_tested() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it can be read");
    let source = read("guests/raw_manifest/src/lib.rs");
    let conducts = source.split("enum Conduct {").nth(1).expect("the enum");
    let conducts = conducts.split("\n}").next().expect("its end");
    let conducts: Vec<&str> = conducts
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert!(conducts.len() >= 18, "{conducts:?}");
    let told = read("guests/README.md");
    let tests: String = std::fs::read_dir(folder.join("cli"))
        .expect("the tests are there")
        .map(|entry| std::fs::read_to_string(entry.expect("a file").path()).expect("a text"))
        .collect();
    for conduct in conducts {
        let mut name = String::new();
        for (at, letter) in conduct.char_indices() {
            if letter.is_uppercase() && at > 0 {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        assert!(
            told.contains(&format!("| `{name}` |")),
            "{name} is not in README.md"
        );
        assert!(
            tests.contains(&format!("\"{name}\"")),
            "{name} is not tested"
        );
    }
}

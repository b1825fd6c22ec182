//! `retell append`, and what it says of bad input.

use std::fs::File;
use std::process::Stdio;

use insta::assert_snapshot;
use rusqlite::{Connection, OpenFlags};

use crate::instance::{Instance, line, lines, shown};

#[test]
fn one_event_by_flags() {
    let instance = Instance::new();
    let one = [
        "append",
        "--stream",
        "a",
        "--type",
        "T",
        "--data",
        "{\"n\": 1.0}",
    ];
    assert_snapshot!(instance.says(&one), @r"
    exit 0
    appended 1 event at position 1
    created the event log ./retell-data/log.db
    ");
    assert_snapshot!(instance.says(&[&one[..], &["--id", "x", "--expect-revision", "1"]].concat()), @r"
    exit 0
    appended 1 event at position 2
    ");
    assert_snapshot!(instance.says(&[&one[..], &["--id", "x", "--json"]].concat()), @r#"
    exit 0
    {"first":2,"last":2,"appended":0,"already_there":1}
    "#);
    let full = [
        "--id",
        "y",
        "--metadata",
        "{ \"by\": \"ada\" }",
        "--occurred-at",
        "2020-02-29T12:00:00.5+01:00",
    ];
    instance.ok(&[&one[..], &full].concat());
    let event = &instance.events()[2];
    assert_eq!(event["metadata"], serde_json::json!({"by": "ada"}));
    assert_eq!(event["occurred_at"], "2020-02-29T11:00:00.5Z");
}

#[test]
fn refusals_exit_with_3() {
    let instance = Instance::new();
    instance.ok(&[
        "append", "--stream", "order 9", "--type", "Placed", "--data", "{}", "--id", "x",
    ]);
    let again = [
        "append", "--stream", "order 9", "--type", "Placed", "--data",
    ];
    assert_snapshot!(instance.says(&[&again[..], &["{\"n\":1}", "--id", "x"]].concat()), @r"
    exit 3
    error: the id `x` is already in the log, at position 1, with another data
      hint: an id names one event for ever: give the new event an id of its own
    ");
    assert_snapshot!(instance.says(&[&again[..], &["{}", "--expect-revision", "0"]].concat()), @r"
    exit 3
    error: stream `order 9` is at revision 1, not at 0 as expected
      hint: look at what was appended since with `retell events --stream 'order 9'`, then expect 1
    ");
    let file = "{\"stream\":\"s\",\"type\":\"T\",\"data\":1}\n{\"stream\":\"s\",\"type\":\"T\",\"data\":1,\"id\":\"x\"}\n";
    instance.write("events.ndjson", file);
    assert_snapshot!(instance.says(&["append", "events.ndjson"]), @r"
    exit 3
    error: the import of events.ndjson stopped at line 2
      caused by: line 2 was refused
      caused by: the id `x` is already in the log, at position 1, with another stream
      hint: nothing was appended: correct line 2, then run the same command again
    ");
    assert_eq!(instance.events().len(), 1);
}

#[test]
fn wrong_usage_exits_with_2() {
    let instance = Instance::new();
    let wrong: [&[&str]; 7] = [
        &["append"],
        &["append", "--stream", "s"],
        &[
            "append", "file", "--stream", "s", "--type", "T", "--data", "1",
        ],
        &[
            "append",
            "--stream",
            "s",
            "--type",
            "T",
            "--data",
            "1",
            "--expect-revision",
            "-1",
        ],
        &[
            "append",
            "--stream",
            "s",
            "--type",
            "T",
            "--data",
            "1",
            "--occurred-at",
            "yesterday",
        ],
        &[
            "append",
            "--stream",
            "s",
            "--type",
            "T",
            "--data",
            "1",
            "--metadata",
            "[]",
        ],
        &["append", "."],
    ];
    for args in wrong {
        let output = instance
            .command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = shown(&output);
        // An empty standard input is a file without lines.
        let expected = if args.len() == 1 { "exit 0" } else { "exit 2" };
        assert!(said.starts_with(expected), "{args:?}: {said}");
    }
    assert_snapshot!(instance.says(wrong[4]), @r"
    exit 2
    error: --occurred-at is not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z: the 'year' component could not be parsed
      hint: write it as 2026-01-31T12:00:00Z
    ");
    assert_snapshot!(instance.says(wrong[5]), @r#"
    exit 2
    error: --metadata must be a JSON object
      hint: for example --metadata '{"user":"ada"}'
    "#);
    assert_snapshot!(instance.says(wrong[6]), @r"
    exit 2
    error: . is a folder
      hint: name a file with one event a line
    ");
    assert_snapshot!(instance.says(&["append", "missing.ndjson"]), @r"
    exit 1
    error: can't open missing.ndjson
      caused by: No such file or directory (os error 2)
      hint: name a file with one event a line, or `-` for standard input
    ");
}

#[test]
fn a_payload_that_is_no_json() {
    let instance = Instance::new();
    let with = |data| {
        instance.says(&[
            "append", "-q", "--stream", "s", "--type", "T", "--data", data,
        ])
    };
    assert_snapshot!(with("{\"title\":"), @r"
    exit 1
    error: `data` is not valid JSON: EOF while parsing a value, at byte 9
    ");
    assert_snapshot!(with("{\"n\":1e400}"), @r"
    exit 1
    error: `data` is not valid JSON: number out of range, at byte 10
    ");
    assert_snapshot!(with("\"\\ud800\""), @r"
    exit 1
    error: `data` is not valid JSON: unexpected end of hex escape, at byte 8
    ");
    assert!(instance.events().is_empty());
}

#[test]
fn a_bad_line_is_named() {
    let good = line("s", 1);
    let bad: [(&str, &[u8]); 5] = [
        ("no JSON", b"oops\n"),
        (
            "cut off",
            b"{\"stream\":\"s\",\"type\":\"T\",\"data\":{\"ti",
        ),
        (
            "not UTF-8",
            b"{\"stream\":\"s\",\"type\":\"T\",\"data\":\"\xff\"}\n",
        ),
        ("lacks a key", b"{\"stream\":\"s\",\"data\":1}\n"),
        (
            "number too large",
            b"{\"stream\":\"s\",\"type\":\"T\",\"data\":-1e999}\n",
        ),
    ];
    let mut said = String::new();
    for (what, line) in bad {
        let instance = Instance::new();
        instance.ok(&["init"]);
        instance.write("events.ndjson", [good.as_bytes(), b"\n", line].concat());
        said.push_str(what);
        said.push_str(": ");
        said.push_str(&instance.says(&["append", "events.ndjson"]));
        assert!(instance.events().is_empty(), "{what}");
    }
    assert_snapshot!(said, @r"
    no JSON: exit 1
    error: the import of events.ndjson stopped at line 3
      caused by: line 3: it is not valid JSON: expected value, at byte 1
      hint: nothing was appended: correct line 3, then run the same command again
    cut off: exit 1
    error: the import of events.ndjson stopped at line 3
      caused by: line 3: it ends in the middle of its JSON: it was cut off
      hint: nothing was appended: correct line 3, then run the same command again
    not UTF-8: exit 1
    error: the import of events.ndjson stopped at line 3
      caused by: line 3: it is not UTF-8, from byte 34 of the line on
      hint: nothing was appended: correct line 3, then run the same command again
    lacks a key: exit 1
    error: the import of events.ndjson stopped at line 3
      caused by: line 3: `type` is missing
      hint: nothing was appended: correct line 3, then run the same command again
    number too large: exit 1
    error: the import of events.ndjson stopped at line 3
      caused by: line 3: `data` is not valid JSON: number out of range, at byte 6
      hint: nothing was appended: correct line 3, then run the same command again
    ");
}

#[test]
fn a_line_of_100_mb_is_refused_unread() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    let file = File::create(instance.path("events.ndjson")).unwrap();
    file.set_len(100 << 20).unwrap();
    assert_snapshot!(instance.says(&["append", "events.ndjson"]), @r"
    exit 1
    error: the import of events.ndjson stopped at line 1
      caused by: line 1: it is longer than 8 MiB, the longest a line may be; nothing behind its beginning was read
      hint: nothing was appended: correct line 1, then run the same command again
    ");
    let output = instance
        .command(&["append", "-"])
        .stdin(File::open(instance.path("events.ndjson")).unwrap())
        .output()
        .unwrap();
    assert_snapshot!(shown(&output), @r"
    exit 1
    error: the import of standard input stopped at line 1
      caused by: line 1: it is longer than 8 MiB, the longest a line may be; nothing behind its beginning was read
      hint: nothing was appended: correct line 1, then run the same command again
    ");
}

#[test]
fn an_import_goes_on_after_a_correction() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    let good = lines(10_003);
    instance.write("events.ndjson", format!("{good}{{\"stream\":\"s\"}}\n"));
    assert_snapshot!(instance.says(&["append", "events.ndjson"]), @r"
    exit 1
    error: the import of events.ndjson stopped at line 10004
      caused by: line 10004: `type` is missing
      hint: lines 1 to 10000 are in the log: correct line 10004, then run the same command again, and it goes on after line 10000
    ");
    assert_eq!(instance.events().len(), 10_000);
    instance.write("events.ndjson", &good);
    assert_snapshot!(instance.says(&["append", "events.ndjson"]), @r"
    exit 0
    appended 3 events at positions 10001 to 10003
    resuming: lines 1 to 10000 of events.ndjson are in the log already, from an import that was interrupted
    ");
    assert_eq!(instance.verify_chain(), 10_003);
    assert!(
        instance
            .events()
            .iter()
            .map(|event| event["data"].as_u64())
            .eq((1..=10_003).map(Some))
    );
}

#[test]
fn atomic_is_all_or_nothing() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    let good = lines(10_003);
    instance.write("events.ndjson", format!("{good}oops"));
    assert_snapshot!(instance.says(&["append", "--atomic", "events.ndjson"]), @r"
    exit 1
    error: the import of events.ndjson stopped at line 10004
      caused by: line 10004: it is not valid JSON: expected value, at byte 1
      hint: nothing was appended: correct line 10004, then run the same command again
    ");
    assert!(instance.events().is_empty());
    instance.write("events.ndjson", good);
    assert_snapshot!(instance.says(&["append", "--atomic", "events.ndjson", "--json"]), @r#"
    exit 0
    {"first":1,"last":10003,"appended":10003,"already_there":0}
    "#);
}

#[test]
fn others_append_while_an_atomic_stream_is_silent() {
    use std::io::Write as _;
    let instance = Instance::new();
    instance.ok(&["init"]);
    let mut slow = instance.spawn(&["append", "--atomic", "-"]);
    let mut stdin = slow.stdin.take().expect("it is piped");
    stdin.write_all(lines(20_000).as_bytes()).expect("it reads");
    let begun = std::time::Instant::now();
    // Whenever the stream's lines are taken: nobody else waits for its end.
    while begun.elapsed() < std::time::Duration::from_secs(1) {
        instance.ok(&["append", "--stream", "s", "--type", "T", "--data", "1"]);
    }
    let others = instance.events().len();
    drop(stdin);
    let ended = slow.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", crate::instance::shown(&ended));
    assert_eq!(instance.events().len(), others + 20_000);
}

#[test]
fn standard_input_and_cloud_events() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    let cloud = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"Sold\",\"subject\":\"order-7\",\
                 \"time\":\"2026-01-02T03:04:05Z\",\"data\":{\"n\":1}}\n";
    let input = [cloud, cloud, &line("s", 2)].concat();
    assert_snapshot!(instance.says_to(&["append", "-"], input), @r"
    exit 0
    appended 2 events at positions 1 to 2, 1 already there
    ");
    let events = instance.events();
    assert_eq!(events[0]["id"], "/shop 1");
    assert_eq!(events[0]["stream"], "order-7");
    assert_snapshot!(instance.says_to(&["append", "-"], "\n\n"), @r"
    exit 0
    appended 0 events
    ");
}

#[test]
fn what_events_prints_can_be_appended_elsewhere() {
    let (one, other) = (Instance::new(), Instance::new());
    one.write("events.ndjson", lines(25));
    one.ok(&["append", "events.ndjson"]);
    one.ok(&[
        "append",
        "--stream",
        "s",
        "--type",
        "T",
        "--data",
        "1",
        "--metadata",
        "{\"a\":1.0}",
        "--occurred-at",
        "2020-01-01T00:00:00Z",
    ]);
    let printed = one.ok(&["events"]);
    other.says_to(&["append", "-"], &printed);
    let part = |event: &serde_json::Value| {
        let mut event = event.clone();
        for own in ["recorded_at", "hash"] {
            event.as_object_mut().unwrap().remove(own);
        }
        event
    };
    assert!(
        other
            .events()
            .iter()
            .map(part)
            .eq(one.events().iter().map(part))
    );
    // And once more: everything has an id by now.
    assert_snapshot!(other.says_to(&["append", "-"], &printed), @r"
    exit 0
    appended 0 events at positions 1 to 26, 26 already there
    ");
}

#[test]
fn a_folder_that_can_not_be_written_to() {
    let instance = Instance::new();
    let one = ["append", "--stream", "s", "--type", "T", "--data", "1"];
    // A file where the folder should be stops root too, whom permissions don't.
    instance.write("retell-data", "");
    assert_snapshot!(instance.says(&one), @r"
    exit 1
    error: the event log at ./retell-data/log.db can't be written to
      caused by: Not a directory (os error 20)
      hint: check the owner and the permissions of the folder, or name another with --data
    ");
    assert_snapshot!(instance.says(&["init"]), @r"
    exit 1
    error: the event log at ./retell-data/log.db can't be written to
      caused by: Not a directory (os error 20)
      hint: check the owner and the permissions of the folder, or name another with --data
    ");
    assert_snapshot!(instance.says(&["events"]), @r"
    exit 1
    error: the event log at ./retell-data/log.db can't be written to
      caused by: Not a directory (os error 20)
      hint: check the owner and the permissions of the folder, or name another with --data
    ");
}

#[test]
fn a_log_from_a_newer_retell() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    Connection::open(instance.log())
        .unwrap()
        .execute_batch("INSERT INTO retell_log_migrations VALUES (999, 'later', 0, true, x'00', 0)")
        .unwrap();
    let one = ["append", "--stream", "s", "--type", "T", "--data", "1"];
    assert_snapshot!(instance.says(&one), @r"
    exit 1
    error: the event log at ./retell-data/log.db was written by a newer retell: its schema is 999, this one knows up to 1
      hint: use the newer retell, `retell --version` says which one this is
    ");
    for args in [&["events"][..], &["migrate"], &["init"]] {
        let said = instance.says(args);
        assert!(
            said.contains("was written by a newer retell"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_full_disk_harms_nothing() {
    let instance = Instance::new();
    instance.write("first.ndjson", lines(100));
    instance.ok(&["append", "first.ndjson"]);
    let padded = format!(
        "\"metadata\":{{\"pad\":\"{}\"}},\"data\":",
        "x".repeat(1_000)
    );
    let large = lines(3_000).replace("\"data\":", &padded);
    instance.write("large.ndjson", large);
    // A limit on file sizes fails a write the way a full disk does, on every machine.
    let no_room = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
    let output = instance
        .shell(no_room, &["append", "large.ndjson"])
        .output()
        .unwrap();
    assert_snapshot!(shown(&output), @r"
    exit 1
    error: can't write to the event log at ./retell-data/log.db: the disk is full, or a quota is reached
      caused by: disk I/O error
      caused by: Error code 778: disk I/O error
      hint: nothing of this transaction was kept: make room, then run the same command again
    ");
    assert_eq!(instance.verify_chain(), 100);
    instance.ok(&["append", "large.ndjson"]);
    assert_eq!(instance.verify_chain(), 3_100);
}

#[test]
fn several_processes_append_at_once() {
    let instance = Instance::new();
    let each = 300;
    for process in 0..4 {
        let content: String = (1..=each)
            .map(|n| line(&format!("s{process}"), n))
            .collect();
        instance.write(&format!("{process}.ndjson"), content);
    }
    // Two by files and two by one event after the other; nobody has created the log.
    let files: Vec<_> = (0..4)
        .map(|process| instance.spawn(&["append", &format!("{process}.ndjson")]))
        .collect();
    for n in 1..=10 {
        let n = n.to_string();
        instance.ok(&["append", "--stream", "one", "--type", "T", "--data", &n]);
    }
    for file in files {
        let output = file.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    }
    assert_eq!(instance.verify_chain(), 4 * each as u64 + 10);
    for stream in ["s0", "s1", "s2", "s3"] {
        let events = instance.ok(&["events", "--stream", stream]);
        let data = events.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["revision"], event["data"]);
            event["data"].as_u64()
        });
        assert!(data.eq((1..=each as u64).map(Some)));
    }
}

/// The head as another process sees it, without opening the log properly.
fn position(instance: &Instance) -> u64 {
    Connection::open_with_flags(instance.log(), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|log| {
            log.query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| {
                row.get(0)
            })
        })
        .unwrap_or(0)
}

#[test]
fn an_import_that_is_killed_goes_on_exactly() {
    let instance = Instance::new();
    let count = 43_210;
    instance.write("events.ndjson", lines(count));
    let mut reached = 0;
    for kill_after in [0, 10_000, 10_000, 30_000] {
        let mut import = instance.spawn(&["append", "events.ndjson"]);
        while position(&instance) < kill_after && import.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        import.kill().unwrap();
        import.wait().unwrap();
        if instance.log().exists() && position(&instance) > 0 {
            let head = instance.verify_chain();
            assert!(
                head >= reached && head.is_multiple_of(10_000),
                "half a batch: {head} after {reached}"
            );
            reached = head;
        }
    }
    assert!(reached >= 30_000, "it was not killed in the middle");
    let said = instance.says(&["append", "events.ndjson"]);
    assert!(said.contains("resuming: lines 1 to "), "{said}");
    assert_eq!(instance.verify_chain(), count as u64);
    assert!(
        instance
            .events()
            .iter()
            .map(|event| event["data"].as_u64())
            .eq((1..=count as u64).map(Some))
    );
}

#[test]
fn an_append_that_is_killed_happened_or_did_not() {
    let instance = Instance::new();
    instance.ok(&["init"]);
    for n in 0..20_u32 {
        let (id, data) = (format!("id-{n}"), n.to_string());
        let args = [
            "append", "--stream", "s", "--type", "T", "--data", &data, "--id", &id,
        ];
        let mut append = instance.spawn(&args);
        // Each a little later than the one before, so that every moment is hit.
        for _ in 0..n * 2_000 {
            std::hint::spin_loop();
        }
        append.kill().unwrap();
        append.wait().unwrap();
        let head = instance.verify_chain();
        assert!(head == u64::from(n) || head == u64::from(n) + 1);
        instance.ok(&args);
        assert_eq!(instance.verify_chain(), u64::from(n) + 1);
    }
}

//! `retell check`: whether the log is whole, and where it is not.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use rusqlite::Connection;
use serde_json::json;

use crate::instance::Instance;

/// A log of some pages, in one file and nothing beside it.
fn instance(events: u64) -> Instance {
    let it = Instance::new();
    let lines = (1..=events).map(|n| {
        let data = format!("number {n:0>200}");
        json!({ "stream": "s", "type": "T", "data": data }).to_string()
    });
    let lines: Vec<String> = lines.collect();
    it.write("events.ndjson", lines.join("\n"));
    it.ok(&["append", "-q", "events.ndjson"]);
    let tool = Connection::open(it.log()).expect("it opens");
    tool.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("the WAL is moved");
    it
}

fn tamper(it: &Instance, sql: &str) {
    let tool = Connection::open(it.log()).expect("it opens");
    tool.execute_batch("DROP TRIGGER events_update; DROP TRIGGER events_delete")
        .expect("triggers go");
    tool.execute_batch(sql).expect("it is changed");
}

#[test]
fn a_log_that_is_whole() {
    let it = instance(300);
    let said = it.says(&["check"]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    assert!(said.contains("the log up to 300"), "{said}");
    let report = it.json(&["check"]);
    assert_eq!(report["whole_up_to"], 300);
    assert_eq!(report["hash"].as_str().map(str::len), Some(64));
    assert!(report["fault"].is_null());
    let empty = Instance::new();
    empty.ok(&["init", "-q"]);
    assert_eq!(empty.json(&["check"])["whole_up_to"], 0);
    // It makes nothing where there is nothing.
    let none = Instance::new();
    assert!(none.says(&["check"]).starts_with("exit 1\n"));
    assert!(!none.path("retell-data").exists());
}

#[test]
fn the_first_event_that_does_not_fit_is_named() {
    for (sql, says) in [
        (
            "UPDATE events SET payload = '1' WHERE position = 7",
            "whole up to position 6, and then event 7 does not follow",
        ),
        (
            "DELETE FROM events WHERE position = 9",
            "whole up to position 8, and then event 9 is missing",
        ),
        (
            "DELETE FROM events WHERE position > 290",
            "whole up to position 290, and then event 291 is missing",
        ),
        (
            "UPDATE events SET type = CAST(x'ff' AS TEXT) WHERE position = 5",
            "whole up to position 4, and then event 5 can't be read",
        ),
    ] {
        let it = instance(300);
        tamper(&it, sql);
        let said = it.says(&["check"]);
        assert!(said.starts_with("exit 1\n"), "{sql}: {said}");
        assert!(said.contains(says), "{sql}: {said}");
        assert!(said.contains("retell events --limit"), "{sql}: {said}");
    }
}

#[test]
fn a_damaged_file_is_whole_up_to_the_damage() {
    let it = instance(2_000);
    let length = std::fs::metadata(it.log()).expect("it is there").len();
    let whole = std::fs::read(it.log()).expect("it can be read");
    let at = |needle: &str| {
        let found = whole
            .windows(needle.len())
            .position(|it| it == needle.as_bytes());
        found.expect("the payload is in the file") as u64
    };
    // One byte of one payload.
    let place = at(&format!("number {:0>200}", 1_234)) + 3;
    flip(&it, place);
    let report = it.says(&["check"]);
    assert!(report.contains("whole up to position 1,233"), "{report}");
    flip(&it, place);
    assert_eq!(it.json(&["check"])["whole_up_to"], 2_000);
    // The end of the file is gone.
    let file = OpenOptions::new().write(true).open(it.log());
    let file = file.expect("it can be written");
    file.set_len(length * 2 / 3).expect("it is cut");
    assert!(it.says(&["events"]).contains("retell check"));
    let said = it.says(&["check"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    let after = "whole up to position ";
    let number = said
        .split(after)
        .nth(1)
        .and_then(|rest| rest.split(", and").next());
    let number = number.expect("a position").replace(',', "");
    let whole: u64 = number.parse().expect("a number");
    assert!((1_000..2_000).contains(&whole), "{said}");
}

fn flip(it: &Instance, at: u64) {
    let mut byte = [0];
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(it.log())
        .expect("it opens");
    file.seek(SeekFrom::Start(at)).expect("it is that long");
    file.read_exact(&mut byte).expect("a byte");
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(at)).expect("it is that long");
    file.write_all(&byte).expect("it is written");
}

#[test]
fn an_index_that_lost_an_entry_is_noticed() {
    let it = instance(300);
    let tool = Connection::open(it.log()).expect("it opens");
    // The index is told that it has no entries.
    tool.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (
             SELECT rootpage FROM sqlite_schema WHERE name = 'imports')
         WHERE name = 'events_type';
         PRAGMA writable_schema = OFF;",
    )
    .expect("the schema is changed");
    drop(tool);
    let said = it.says(&["check"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(
        said.contains("all events are whole") || said.contains("damaged"),
        "{said}"
    );
}

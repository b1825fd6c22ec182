//! `retell events`.

use std::io::{BufRead, BufReader};

use insta::assert_snapshot;
use serde_json::Value;

use crate::instance::{Instance, lines};

/// Positions printed by a command.
fn positions(instance: &Instance, args: &[&str]) -> Vec<u64> {
    instance
        .ok(&[&["events"], args].concat())
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["position"].as_u64().unwrap()
        })
        .collect()
}

#[test]
fn every_key_in_order() {
    let instance = Instance::new();
    instance.ok(&[
        "append",
        "--stream",
        "a",
        "--type",
        "T",
        "--data",
        "{\"b\":1.50,\"a\":\"ü\"}",
        "--id",
        "x",
        "--metadata",
        "{\"by\":1}",
        "--occurred-at",
        "2026-01-02T03:04:05Z",
    ]);
    instance.ok(&[
        "append", "--stream", "a", "--type", "T", "--data", "null", "--id", "y",
    ]);
    let printed = instance.ok(&["events"]);
    let mut plain = printed.clone();
    for line in printed.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["hash"].as_str().unwrap().len(), 64);
        for changing in ["hash", "recorded_at"] {
            plain = plain.replace(event[changing].as_str().unwrap(), changing);
        }
    }
    assert_snapshot!(plain, @r#"
    {"position":1,"stream":"a","revision":1,"id":"x","type":"T","data":{"b":1.50,"a":"ü"},"metadata":{"by":1},"occurred_at":"2026-01-02T03:04:05Z","recorded_at":"recorded_at","hash":"hash"}
    {"position":2,"stream":"a","revision":2,"id":"y","type":"T","data":null,"metadata":null,"occurred_at":null,"recorded_at":"recorded_at","hash":"hash"}
    "#);
}

#[test]
fn filters_and_limits() {
    let instance = Instance::new();
    assert_snapshot!(instance.says(&["events"]), @r"
    exit 1
    error: there is no event log at ./retell-data/log.db
      hint: create one with `retell init`, or name another folder with --data
    ");
    instance.write("events.ndjson", lines(30));
    instance.ok(&["append", "events.ndjson"]);
    instance.ok(&["append", "--stream", "s1", "--type", "U", "--data", "1"]);
    assert_eq!(positions(&instance, &["--limit", "2"]), [1, 2]);
    assert_eq!(positions(&instance, &["--after", "29"]), [30, 31]);
    assert_eq!(positions(&instance, &["--stream", "s1"]), [1, 11, 21, 31]);
    assert_eq!(
        positions(
            &instance,
            &["--stream", "s1", "--type", "T", "--after", "1"]
        ),
        [11, 21]
    );
    assert_eq!(positions(&instance, &["--type", "U"]), [31]);
    assert!(positions(&instance, &["--type", "V"]).is_empty());
    assert!(positions(&instance, &["--limit", "0"]).is_empty());
    assert!(positions(&instance, &["--after", "99"]).is_empty());
}

#[test]
fn following_prints_what_other_processes_append() {
    let instance = Instance::new();
    instance.write("events.ndjson", lines(3));
    instance.ok(&["append", "events.ndjson"]);
    let mut follow = instance.spawn(&["events", "--follow", "--after", "1", "--limit", "4"]);
    let mut printed = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: Value = serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap();
        event["position"].as_u64().unwrap()
    };
    assert_eq!((next(), next()), (2, 3));
    for position in 4..=5 {
        instance.ok(&["append", "--stream", "s", "--type", "T", "--data", "1"]);
        assert_eq!(next(), position);
    }
    // The limit ends it by itself.
    assert!(follow.wait().unwrap().success());
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let instance = Instance::new();
    instance.write("events.ndjson", lines(5_000));
    instance.ok(&["append", "events.ndjson"]);
    let output = instance
        .shell("\"$@\" | head -n 1", &["events"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

#[test]
fn init_and_migrate_say_what_they_did() {
    let instance = Instance::new();
    assert_snapshot!(instance.says(&["migrate"]), @r"
    exit 3
    error: there is no event log at ./retell-data/log.db
      hint: create one with `retell init`
    ");
    assert_snapshot!(instance.says(&["init"]), @r"
    exit 0
    created the event log ./retell-data/log.db
    ");
    assert_snapshot!(instance.says(&["init"]), @r"
    exit 0
    the event log ./retell-data/log.db is there already
    ");
    assert_snapshot!(instance.says(&["migrate"]), @r"
    exit 0
    ./retell-data/log.db is up to date
    ");
    let id = |said: String| serde_json::from_str::<Value>(&said).unwrap()["log_id"].clone();
    assert_eq!(
        id(instance.ok(&["init", "--json"])),
        id(instance.ok(&["--json", "init"]))
    );
    assert_snapshot!(instance.says(&["migrate", "--json"]), @r#"
    exit 0
    {"log":"./retell-data/log.db","migrated":false}
    "#);
    // Behind the command, --data is understood too.
    assert_snapshot!(instance.says(&["init", "--data", "elsewhere"]), @r"
    exit 0
    created the event log elsewhere/log.db
    ");
    assert_snapshot!(instance.says(&["events", "--log", "sqlite://nowhere/log.db"]), @r"
    exit 1
    error: there is no event log at nowhere/log.db
      hint: create one with `retell init`, or name another folder with --data
    ");
}

//! `retell status`: what it lists, in which words and under which keys.

use std::io::{BufRead, BufReader};

use crate::instance::Instance;
use crate::shown::keys;

#[test]
fn nothing_is_deployed_yet() {
    let it = Instance::new();
    it.ok(&["init", "-q"]);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
    nothing is deployed yet; begin with `retell deploy FILE.wasm`
    "#);
    insta::assert_snapshot!(it.shows(&["--json", "status"]), @r#"
    exit 0
    []
    "#);
    insta::assert_snapshot!(it.shows(&["status", "ticks"]), @r#"
    exit 3
    error: there is no projection `ticks`; none is deployed
      hint: deploy one: `retell deploy FILE.wasm`
    "#);
}

#[test]
fn reading_commands_make_no_folder() {
    let it = Instance::new();
    let commands: [&[&str]; 7] = [
        &["status"],
        &["query", "ticks", "select 1"],
        &["digest", "ticks@1.0.0"],
        &["wait", "ticks", "--position", "1", "--timeout-ms", "10"],
        &["events"],
        &["promote", "ticks@1.0.0"],
        &["catch-up"],
    ];
    for command in commands {
        let said = it.shows(command);
        assert!(
            said.starts_with("exit 1\nerror: there is no event log"),
            "{command:?}: {said}"
        );
        assert!(said.contains("hint: "), "{command:?}: {said}");
        assert!(
            !it.path("retell-data").exists(),
            "{command:?} made a folder"
        );
    }
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 1
    error: there is no event log at ./retell-data/log.db
      hint: create one with `retell init`, or name another folder with --data
    "#);
}

#[test]
fn its_json() {
    let it = Instance::new();
    it.append(5);
    it.promoted(&["1.0.0"]);
    it.write("more.ndjson", crate::instance::line("more", 1).repeat(2));
    it.ok(&["append", "-q", "more.ndjson"]);
    let document = it.ok(&["--json", "status"]);
    let object = document
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']');
    assert_eq!(
        keys(object),
        [
            "projection",
            "version",
            "state",
            "role",
            "halt",
            "halt_reason",
            "trouble",
            "checkpoint",
            "head",
            "lag",
            "events_per_s",
            "eta_s",
            "dead_letters",
            "location",
            "digest",
            "names",
            "stale_names",
            "successor",
        ]
    );
    let version = it.version("ticks");
    assert_eq!(version["checkpoint"], 5);
    assert_eq!(version["head"], 7);
    assert_eq!(version["lag"], 2);
    assert_eq!(version["halt"], "none");
    assert_eq!(version["dead_letters"], 0);
    assert_eq!(version["names"], serde_json::json!(["ticks", "ticks@1"]));
    assert_eq!(version["stale_names"], serde_json::json!([]));
    let link = it.path("retell-data/read-models/ticks/live.db");
    std::fs::remove_file(&link).expect("there is a link");
    let version = it.version("ticks");
    assert_eq!(version["stale_names"], serde_json::json!(["ticks"]));
    let location = it.path("retell-data/read-models/ticks/build-1-1.0.0.db");
    assert_eq!(version["location"], *location.to_str().expect("UTF-8"));
    let digest = it.json(&["inspect", "1.0.0.wasm"])["digest"].clone();
    assert_eq!(version["digest"], digest);

    it.promoted(&["2.0.0"]);
    it.ok(&["retire", "-q", "ticks@1.0.0"]);
    let retired = it.version("ticks@1.0.0");
    assert!(retired["location"].is_null(), "{retired}");
    assert_eq!(retired["lag"], 0);
}

#[test]
fn one_projection_and_one_version() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    let other = crate::scripted::manifest("clocks", "0.1.0");
    it.write("clocks.wasm", crate::scripted::module(&other));
    it.ok(&["deploy", "-q", "clocks.wasm"]);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version       state  role      checkpoint  lag  events/s  left  names          
     clocks@0.1.0  ready  none               3    0                  clocks@0       
     ticks@1.0.0   ready  previous           3    0                  ticks@1        
     ticks@2.0.0   ready  live               3    0                  ticks, ticks@2
    "#);
    insta::assert_snapshot!(it.shows(&["status", "clocks"]), @r#"
    exit 0
     version       state  role  checkpoint  lag  events/s  left  names    
     clocks@0.1.0  ready  none           3    0                  clocks@0
    "#);
    insta::assert_snapshot!(it.shows(&["status", "ticks@1.0.0"]), @r#"
    exit 0
     version      state  role      checkpoint  lag  events/s  left  names   
     ticks@1.0.0  ready  previous           3    0                  ticks@1
    "#);
    insta::assert_snapshot!(it.shows(&["status", "ticks@2"]), @r#"
    exit 0
     version      state  role  checkpoint  lag  events/s  left  names          
     ticks@2.0.0  ready  live           3    0                  ticks, ticks@2
    "#);
    insta::assert_snapshot!(it.shows(&["status", "tocks"]), @r#"
    exit 3
    error: there is no projection `tocks`; there are clocks, ticks
      hint: `retell status` lists all projections
    "#);
    insta::assert_snapshot!(it.shows(&["status", "ticks@9.0.0"]), @r#"
    exit 3
    error: `ticks` has no version 9.0.0; it has 1.0.0, 2.0.0
      hint: `retell status ticks` lists its versions
    "#);
    insta::assert_snapshot!(it.shows(&["query", "clocks", "select 1"]), @r#"
    exit 3
    error: `clocks` has no live version yet
      hint: make one live: `retell promote clocks@0.1.0`
    "#);
}

#[test]
fn watching_shows_it_again_and_again_until_it_is_told_to_stop() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let mut child = it.spawn(&["--json", "status", "--watch"]);
    let stdout = child.stdout.take().expect("it is piped");
    let lists: Vec<serde_json::Value> = BufReader::new(stdout)
        .lines()
        .take(2)
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("a list a line"))
        .collect();
    assert_eq!(lists[0], lists[1]);
    crate::serve::interrupt(&child);
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

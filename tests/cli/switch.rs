//! Promote, rollback, retire, pause, resume, replay and catch-up.

use crate::instance::Instance;
use crate::shown::keys;

const COUNT: &str = "select count(*) as n from seen";

/// Events counted by the version that a name leads to.
fn count(it: &Instance, name: &str) -> i64 {
    it.json(&["query", name, COUNT])[0]["n"]
        .as_i64()
        .expect("a count")
}

/// `version role` of every version, and who holds the major names.
fn roles(it: &Instance) -> String {
    let list = it.json(&["status"]);
    let lines = list.as_array().expect("a list").iter().map(|line| {
        let names: Vec<&str> = line["names"]
            .as_array()
            .expect("names")
            .iter()
            .filter_map(|name| name.as_str())
            .collect();
        let word = |key: &str| line[key].as_str().expect("a word").to_owned();
        let (version, state, role) = (word("version"), word("state"), word("role"));
        format!("{version} {state} {role} [{}]\n", names.join(" "))
    });
    lines.collect()
}

#[test]
fn the_switch_and_the_switch_back() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file]);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0"]), @r#"
    exit 0
    ticks: 2.0.0 is live at position 3; 1.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready previous [ticks@1]
    2.0.0 ready live [ticks ticks@2]
    "#);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 3; 2.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready live [ticks ticks@1]
    2.0.0 ready previous [ticks@2]
    "#);
    // The second one undoes the first.
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 0
    ticks: 2.0.0 is live at position 3; 1.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready previous [ticks@1]
    2.0.0 ready live [ticks ticks@2]
    "#);
}

#[test]
fn a_rollback_is_of_a_projection() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    let before = roles(&it);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks@2.0.0"]), @r#"
    exit 2
    error: `ticks@2.0.0` names a version, and what is live goes back
      hint: `retell rollback ticks` makes the previous version live; another one becomes live with `retell promote ticks@VERSION`
    "#);
    assert_eq!(roles(&it), before);
}

#[test]
fn a_version_without_a_read_model_is_not_made_live() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    let before = roles(&it);
    let lost = it.version("ticks@1.0.0");
    let lost = lost["location"].as_str().expect("a path");
    std::fs::remove_file(it.path("retell-data").join(lost)).expect("it is there");
    let shown = it.says(&["rollback", "ticks", "--accept-older"]);
    assert!(
        shown.starts_with("exit 1\nerror: there is no read model"),
        "{shown}"
    );
    assert_eq!(roles(&it), before);
    assert_eq!(count(&it, "ticks"), 3);
}

#[test]
fn a_third_version_makes_the_first_a_plain_one() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "1.1.0", "2.0.0"]);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready none []
    1.1.0 ready previous [ticks@1]
    2.0.0 ready live [ticks ticks@2]
    "#);
}

#[test]
fn a_switch_as_json() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    it.ok(&["deploy", "-q", &file]);
    let document = it.ok(&["--json", "promote", "ticks@1.0.0"]);
    assert_eq!(keys(&document), ["projection", "from", "to", "position"]);
    insta::assert_snapshot!(document, @r#"{"projection":"ticks","from":null,"to":"1.0.0","position":3}"#);
    it.promoted(&["2.0.0"]);
    insta::assert_snapshot!(it.ok(&["--json", "rollback", "ticks"]), @r#"{"projection":"ticks","from":"2.0.0","to":"1.0.0","position":3}"#);
}

#[test]
fn what_is_live_already_or_not_there_is_not_promoted() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is live already
      hint: `retell status ticks` shows all versions
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@3.0.0"]), @r#"
    exit 3
    error: `ticks` has no version 3.0.0; it has 1.0.0
      hint: `retell status ticks` lists its versions
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "clocks@1.0.0"]), @r#"
    exit 3
    error: there is no projection `clocks`; there are ticks
      hint: `retell status` lists all projections
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "Ticks!"]), @r#"
    exit 2
    error: `Ticks!` is not a name: write articles (the live version), articles@2 (its major 2) or articles@2.1.0 (one version)
      hint: `retell status` lists all names
    "#);
}

#[test]
fn a_version_that_is_not_ready_is_not_promoted() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file, "--no-wait"]);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0: it is not ready: it is still created
      hint: `retell serve` builds it, or `retell catch-up ticks@2.0.0` once
    "#);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready live [ticks ticks@1]
    2.0.0 created none []
    "#);
}

#[test]
fn a_version_that_stays_behind_is_promoted_only_on_request() {
    let it = Instance::new();
    it.append(5);
    it.promoted(&["1.0.0"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file, "--until", "2"]);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0 is at position 2, behind 5, where readers are, and stops where it was told to
      hint: wait for it, or accept that readers go back with --accept-older
    "#);
    assert_eq!(count(&it, "ticks"), 5);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0", "--accept-older"]), @r#"
    exit 0
    ticks: 2.0.0 is live at position 2; 1.0.0 is kept up to date for a rollback
    "#);
    assert_eq!(count(&it, "ticks"), 2);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 5; 2.0.0 is kept up to date for a rollback
    "#);
    assert_eq!(count(&it, "ticks"), 5);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 3
    error: ticks@2.0.0 is at position 2, behind 5, where readers are, and stops where it was told to
      hint: wait for it, or accept that readers go back with --accept-older
    "#);
}

#[test]
fn readers_of_a_lasting_name_do_not_go_back_either() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    it.ok(&["pause", "-q", "ticks@1.0.0"]);
    it.write("more.ndjson", crate::instance::line("more", 1).repeat(2));
    it.ok(&["append", "-q", "more.ndjson"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file]);
    let file = it.ticks("2.1.0");
    it.ok(&["deploy", "-q", &file, "--until", "4"]);
    assert_eq!((count(&it, "ticks"), count(&it, "ticks@2")), (3, 5));
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.1.0"]), @r#"
    exit 3
    error: ticks@2.1.0 is at position 4, behind 5, where readers are, and stops where it was told to
      hint: wait for it, or accept that readers go back with --accept-older
    "#);
    it.ok(&["promote", "-q", "ticks@2.0.0"]);
    assert_eq!((count(&it, "ticks"), count(&it, "ticks@2")), (5, 5));
}

#[test]
fn a_version_catches_up_before_it_is_promoted() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file]);
    it.write("more.ndjson", crate::instance::line("more", 1).repeat(4));
    it.ok(&["append", "-q", "more.ndjson"]);
    it.ok(&["catch-up", "-q", "ticks@1.0.0"]);
    assert_eq!(it.version("ticks@2.0.0")["checkpoint"], 3);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0"]), @r#"
    exit 0
    ticks: 2.0.0 is live at position 7; 1.0.0 is kept up to date for a rollback
    "#);
    assert_eq!(count(&it, "ticks"), 7);
}

#[test]
fn nothing_to_go_back_to() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    it.ok(&["deploy", "-q", &file]);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 3
    error: `ticks` has no live version yet
      hint: make one live: `retell promote ticks@1.0.0`
    "#);
    it.ok(&["promote", "-q", "ticks@1.0.0"]);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 3
    error: ticks has no previous version to go back to
      hint: promote the version you want: `retell promote ticks@VERSION`
    "#);
    insta::assert_snapshot!(it.shows(&["rollback", "clocks"]), @r#"
    exit 3
    error: there is no projection `clocks`; there are ticks
      hint: `retell status` lists all projections
    "#);
}

#[test]
fn retired_versions() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    insta::assert_snapshot!(it.shows(&["retire", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0: it is live, and the live version is never retired
      hint: promote another version first: `retell promote ticks@VERSION`
    "#);
    let file = it.path("retell-data/read-models/ticks/build-1-1.0.0.db");
    assert!(file.exists());
    insta::assert_snapshot!(it.shows(&["retire", "ticks@1.0.0"]), @r#"
    exit 0
    ticks@1.0.0 is retired; its read model is gone
    "#);
    assert!(!file.exists(), "its read model is dropped");
    assert!(!it.path("retell-data/read-models/ticks/v1.db").is_symlink());
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 retired none []
    2.0.0 ready live [ticks ticks@2]
    "#);
    insta::assert_snapshot!(it.shows(&["retire", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is retired already
      hint: build it again: `retell replay ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is retired
      hint: build it again: `retell replay ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["query", "ticks@1.0.0", COUNT]), @r#"
    exit 3
    error: ticks@1.0.0 is retired and has no read model
      hint: build it again: `retell replay ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["pause", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is retired
      hint: build it again: `retell replay ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 3
    error: ticks has no previous version to go back to
      hint: promote the version you want: `retell promote ticks@VERSION`
    "#);

    let json = it.ok(&["--json", "replay", "ticks@1.0.0"]);
    assert_eq!(keys(&json), ["projection", "version", "position"]);
    insta::assert_snapshot!(json, @r#"{"projection":"ticks","version":"1.0.0","position":3}"#);
    assert_eq!(count(&it, "ticks@1.0.0"), 3);
    let json = it.ok(&["--json", "retire", "ticks@1.0.0"]);
    assert_eq!(keys(&json), ["projection", "version", "state", "halt"]);
    insta::assert_snapshot!(json, @r#"{"projection":"ticks","version":"1.0.0","state":"retired","halt":"none"}"#);
}

#[test]
fn the_live_version_is_replayed_beside_itself() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let before = it.version("ticks");
    insta::assert_snapshot!(it.shows(&["replay", "ticks"]), @r#"
    exit 0
    ticks@1.0.0 is replayed, at position 3
    "#);
    let after = it.version("ticks");
    assert_eq!(
        (&after["role"], &after["state"]),
        (&before["role"], &before["state"])
    );
    assert_ne!(after["location"], before["location"]);
    let old = before["location"].as_str().expect("a path");
    assert!(!std::path::Path::new(old).exists(), "the old build is gone");
    assert_eq!(count(&it, "ticks"), 3);
    insta::assert_snapshot!(it.shows(&["replay", "ticks@1.0.0", "--until", "2"]), @r#"
    exit 3
    error: ticks@1.0.0 is live, and a build that stops at 2 would take readers back, or leave them there
      hint: promote another version first: `retell promote ticks@VERSION`
    "#);
    insta::assert_snapshot!(it.shows(&["replay", "ticks@1.0.0", "--no-wait"]), @r#"
    exit 0
    ticks@1.0.0 is being replayed
    "#);
    // Asked for again, it goes on with the build that was begun.
    insta::assert_snapshot!(it.shows(&["replay", "ticks@1.0.0", "--no-wait"]), @r#"
    exit 0
    ticks@1.0.0 is being replayed
    "#);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state                  role  checkpoint  lag  events/s  left  names          
     ticks@1.0.0  ready, replaying anew  live           3    0                  ticks, ticks@1
    "#);
    it.ok(&["catch-up", "-q"]);
    assert!(it.version("ticks")["successor"].is_null());
}

#[test]
fn a_version_that_can_not_be_moved_is_moved_elsewhere() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    it.write("blocked", "");
    let there = ["move", "ticks@1.0.0", "--read-models"];
    let moved = it.says(&[&there[..], &["blocked/here"]].concat());
    assert!(moved.starts_with("exit 1\n"), "{moved}");
    assert!(moved.contains("blocked/here"), "{moved}");
    assert_eq!(count(&it, "ticks"), 3, "it is where it was");
    it.ok(&[&there[..], &["elsewhere", "-q"]].concat());
    assert_eq!(count(&it, "ticks"), 3);
    let location = it.version("ticks")["location"].clone();
    let location = location.as_str().expect("a path");
    assert!(location.contains("elsewhere"), "{location}");
    it.ok(&["catch-up", "-q"]);
}

#[test]
fn a_version_that_is_paused_while_it_is_replayed_stays_so() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    it.ok(&["replay", "-q", "ticks@2.0.0", "--no-wait"]);
    it.ok(&["pause", "-q", "ticks@2.0.0"]);
    it.write("more.ndjson", crate::instance::line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    ticks@2.0.0 is paused and left out; let it go on with `retell resume ticks@2.0.0`
    ticks@1.0.0 is at position 4
    "#);
    let paused = it.version("ticks");
    assert_eq!(
        (&paused["halt"], &paused["checkpoint"]),
        (&"paused".into(), &3.into())
    );
    assert!(!paused["successor"].is_null(), "nobody works on it");
    insta::assert_snapshot!(it.shows(&["catch-up", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0 is paused
      hint: let it go on: `retell resume ticks@2.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["replay", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0 is paused
      hint: let it go on first: `retell resume ticks@2.0.0`
    "#);
    it.ok(&["resume", "-q", "ticks@2.0.0"]);
    it.ok(&["catch-up", "-q"]);
    let ready = it.version("ticks");
    assert_eq!(
        (&ready["halt"], &ready["checkpoint"]),
        (&"none".into(), &4.into())
    );
    assert!(ready["successor"].is_null(), "it is in its place");
}

#[test]
fn a_paused_version_stands_still_and_goes_on_answering() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    insta::assert_snapshot!(it.shows(&["pause", "ticks@1.0.0"]), @r#"
    exit 0
    ticks@1.0.0 is paused; let it go on with `retell resume ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["pause", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is paused already
      hint: `retell status ticks` shows what it is doing
    "#);
    it.write("more.ndjson", crate::instance::line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    ticks@1.0.0 is paused and left out; let it go on with `retell resume ticks@1.0.0`
    "#);
    assert_eq!(count(&it, "ticks"), 3);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state          role  checkpoint  lag  events/s  left  names          
     ticks@1.0.0  ready, paused  live           3    1         0        ticks, ticks@1
    "#);
    insta::assert_snapshot!(it.shows(&["deploy", "1.0.0.wasm"]), @r#"
    exit 3
    ticks@1.0.0 is deployed already
    error: ticks@1.0.0 is paused
      hint: let it go on: `retell resume ticks@1.0.0`
    "#);

    let json = it.ok(&["--json", "resume", "ticks@1.0.0"]);
    assert_eq!(keys(&json), ["projection", "version", "state", "halt"]);
    insta::assert_snapshot!(json, @r#"{"projection":"ticks","version":"1.0.0","state":"ready","halt":"none"}"#);
    insta::assert_snapshot!(it.shows(&["resume", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is neither paused nor failed
      hint: `retell status ticks` shows what it is doing
    "#);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    ticks@1.0.0 is at position 4
    "#);
    assert_eq!(count(&it, "ticks"), 4);
}

#[test]
fn a_paused_version_is_promoted_only_on_request() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    it.ok(&["pause", "-q", "ticks@1.0.0"]);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 3
    error: ticks@1.0.0: it is halted, so it would fall behind
      hint: let it go on with `retell resume ticks@1.0.0`, or take it as it is with --accept-older
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@1.0.0", "--accept-older"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 3; 2.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(it.shows(&["resume", "ticks@1"]), @r#"
    exit 0
    ticks@1.0.0 may go on; `retell serve` works on it, or `retell catch-up` once
    "#);
}

#[test]
fn catch_up_of_all_of_one_and_of_nothing() {
    let it = Instance::new();
    it.ok(&["init", "-q"]);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    there is nothing to catch up
    "#);
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    it.write("more.ndjson", crate::instance::line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    let json = it.ok(&["--json", "catch-up", "ticks@2.0.0"]);
    insta::assert_snapshot!(json, @r#"[{"projection":"ticks","version":"2.0.0","position":4}]"#);
    insta::assert_snapshot!(it.ok(&["--json", "catch-up"]), @r#"[{"projection":"ticks","version":"1.0.0","position":4},{"projection":"ticks","version":"2.0.0","position":4}]"#);
    insta::assert_snapshot!(it.shows(&["catch-up", "clocks"]), @r#"
    exit 3
    error: there is no projection `clocks`; there are ticks
      hint: `retell status` lists all projections
    "#);
    insta::assert_snapshot!(it.shows(&["catch-up", "ticks@7.0.0"]), @r#"
    exit 3
    error: `ticks` has no version 7.0.0; it has 1.0.0, 2.0.0
      hint: `retell status ticks` lists its versions
    "#);
}

#[test]
fn names_of_majors() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0", "2.1.0"]);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready none [ticks@1]
    2.0.0 ready previous []
    2.1.0 ready live [ticks ticks@2]
    "#);
    let file = it.ticks("2.2.0");
    it.ok(&["deploy", "-q", &file]);
    // Reading: the lasting name is held by the newest promoted one. Acting: the newest of all.
    let digest = it.json(&["digest", "ticks@2"]);
    assert_eq!(digest["version"], "2.1.0");
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2"]), @r#"
    exit 0
    ticks: 2.2.0 is live at position 3; 2.1.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(roles(&it), @r#"
    1.0.0 ready none [ticks@1]
    2.0.0 ready none []
    2.1.0 ready previous []
    2.2.0 ready live [ticks ticks@2]
    "#);
    insta::assert_snapshot!(it.shows(&["query", "ticks@3", COUNT]), @r#"
    exit 3
    error: `ticks` has no version 3; it has 1.0.0, 2.0.0, 2.1.0, 2.2.0
      hint: `retell status ticks` lists its versions
    "#);
    insta::assert_snapshot!(it.shows(&["retire", "ticks@3"]), @r#"
    exit 3
    error: `ticks` has no version 3; it has 1.0.0, 2.0.0, 2.1.0, 2.2.0
      hint: `retell status ticks` lists its versions
    "#);
    let nothing = it.shows(&["digest", "ticks@"]);
    insta::assert_snapshot!(nothing, @r#"
    exit 2
    error: `ticks@` is not a name: write articles (the live version), articles@2 (its major 2) or articles@2.1.0 (one version)
      hint: `retell status` lists all names
    "#);
    let links = it.path("retell-data/read-models/ticks");
    let target = |link: &str| std::fs::canonicalize(links.join(link)).expect("it leads somewhere");
    assert_eq!(target("live.db"), target("v2.db"));
    assert_ne!(target("live.db"), target("v1.db"));
}

#[test]
fn what_is_deployed_again_while_it_is_live_is_not_promoted_later() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    let file = it.ticks("2.0.0");
    it.ok(&["deploy", "-q", &file, "--promote"]);
    it.ok(&["deploy", "-q", &file, "--promote", "--no-wait"]);
    it.ok(&["rollback", "-q", "ticks"]);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(it.version("ticks")["version"], "1.0.0");
    it.ok(&["replay", "-q", "ticks@2.0.0"]);
    assert_eq!(it.version("ticks")["version"], "1.0.0");
}

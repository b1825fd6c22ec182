//! `retell wait`: reading one's own writes.

use crate::instance::Instance;
use crate::shown::keys;

#[test]
fn what_is_there_already_is_not_waited_for() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    assert_eq!(it.says(&["wait", "ticks", "--position", "3"]), "exit 0\n");
    let document = it.ok(&["--json", "wait", "ticks", "--position", "2"]);
    assert_eq!(
        keys(&document),
        ["projection", "version", "position", "missing"]
    );
    insta::assert_snapshot!(document, @r#"{"projection":"ticks","version":"1.0.0","position":3,"missing":null}"#);
}

#[test]
fn it_gives_up_in_time() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let wait = ["wait", "ticks", "--position", "9", "--timeout-ms", "50"];
    insta::assert_snapshot!(it.shows(&wait), @r#"
    exit 4
    error: ticks@1.0.0 is at position 3, not at 9 after 50 ms
      hint: is a host running? `retell serve` keeps versions up to date
    "#);
    it.ok(&["pause", "-q", "ticks@1.0.0"]);
    insta::assert_snapshot!(it.shows(&wait), @r#"
    exit 4
    error: ticks@1.0.0 is at position 3, not at 9 after 50 ms, and it is paused
      hint: let it go on: `retell resume ticks@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["wait", "clocks", "--position", "1"]), @r#"
    exit 3
    error: there is no projection `clocks`; there are ticks
      hint: `retell status` lists all projections
    "#);
    insta::assert_snapshot!(it.shows(&["wait", "ticks"]), @r#"
    exit 2
    error: the following required arguments were not provided:
      --position <POSITION>

    Usage: retell wait --position <POSITION> <NAME>

    For more information, try '--help'.
    "#);
}

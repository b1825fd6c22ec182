//! `retell serve`: it follows the log, takes work from other commands, and stops cleanly.

use std::process::Child;

use crate::instance::{Instance, line};
use crate::waiting::wait_until;

/// A host that serves an instance until it is told to stop.
pub(crate) struct Serving(Child);

impl Serving {
    pub(crate) fn begin(it: &Instance) -> Self {
        Self(it.spawn(&["serve"]))
    }

    /// Stops it and gives what it said.
    fn end(mut self, signal: &str) -> std::process::Output {
        send(&self.0, signal);
        let child = std::mem::replace(&mut self.0, finished());
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Serving {
    /// A test that fails must not leave a process behind.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn finished() -> Child {
    std::process::Command::new("true")
        .spawn()
        .expect("`true` runs")
}

pub(crate) fn interrupt(child: &Child) {
    send(child, "INT");
}

fn send(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status()
        .expect("`kill` runs");
    assert!(sent.success());
}

/// What the host said. Where the log was when it began depends on who was faster.
fn said(it: &Instance, output: &std::process::Output) -> String {
    let shown = crate::shown::steady(&crate::instance::shown(output), it);
    (0..=8).fold(shown, |shown, position| {
        shown.replace(&format!("at position {position};"), "at position N;")
    })
}

#[test]
fn appended_events_show_up_by_themselves() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let host = Serving::begin(&it);
    it.write("more.ndjson", line("more", 1).repeat(5));
    let appended = it.json(&["append", "more.ndjson"]);
    assert_eq!(appended["last"], 8);
    it.ok(&["wait", "ticks", "--position", "8", "--timeout-ms", "60000"]);
    let rows = it.json(&["query", "ticks", "select count(*) as n from seen"]);
    assert_eq!(rows[0]["n"], 8);
    let output = host.end("TERM");
    insta::assert_snapshot!(said(&it, &output), @r#"
    exit 0
    serving ./retell-data/log.db at position N; stop with Ctrl-C
    stopped; everything applied is in the read models
    "#);
}

#[test]
fn other_commands_hand_their_work_over() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let host = Serving::begin(&it);
    // From here on the host holds the lease, so all of this is its work.
    it.write("more.ndjson", line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    it.ok(&["wait", "ticks", "--position", "4", "--timeout-ms", "60000"]);
    let file = it.ticks("2.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", &file]), @r#"
    exit 0
    ticks@2.0.0 is registered
    ticks@2.0.0 is ready at position 4: 4 events in TIME (RATE)
    look at it:   retell query ticks@2.0.0 'SELECT …'
    make it live: retell promote ticks@2.0.0
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "ticks@2.0.0"]), @r#"
    exit 0
    ticks: 2.0.0 is live at position 4; 1.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(it.shows(&["retire", "ticks@2.0.0"]), @r#"
    exit 3
    error: ticks@2.0.0: it is live, and the live version is never retired
      hint: promote another version first: `retell promote ticks@VERSION`
    "#);
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 4; 2.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(it.shows(&["pause", "ticks@2.0.0"]), @r#"
    exit 0
    ticks@2.0.0 is paused; let it go on with `retell resume ticks@2.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["resume", "ticks@2.0.0"]), @r#"
    exit 0
    ticks@2.0.0 may go on; `retell serve` works on it, or `retell catch-up` once
    "#);
    insta::assert_snapshot!(it.shows(&["replay", "ticks@1.0.0"]), @r#"
    exit 0
    ticks@1.0.0 is replayed, at position 4
    "#);
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    ticks@1.0.0 is at position 4
    ticks@2.0.0 is at position 4
    "#);
    insta::assert_snapshot!(it.shows(&["retire", "ticks@2.0.0"]), @r#"
    exit 0
    ticks@2.0.0 is retired; its read model is gone
    "#);
    let third = it.ticks("3.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", &third, "--promote"]), @r#"
    exit 0
    ticks@3.0.0 is registered
    ticks@3.0.0 is ready at position 4: 4 events in TIME (RATE)
    ticks@3.0.0 is live
    "#);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state    role      checkpoint  lag  events/s  left  names          
     ticks@1.0.0  ready    previous           4    0                  ticks@1        
     ticks@2.0.0  retired  none               0    0                                 
     ticks@3.0.0  ready    live               4    0                  ticks, ticks@3
    "#);
    let output = host.end("INT");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Without it, commands work themselves again.
    insta::assert_snapshot!(it.shows(&["rollback", "ticks"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 4; 3.0.0 is kept up to date for a rollback
    "#);
}

#[test]
fn a_fresh_folder_is_served_and_an_address_is_not() {
    let it = Instance::new();
    let host = Serving(it.spawn(&["serve", "--listen", "127.0.0.1:0"]));
    let file = it.ticks("1.0.0");
    it.append(2);
    it.ok(&["deploy", "-q", &file, "--no-wait", "--promote"]);
    // The host builds and promotes it.
    let live = || it.version("ticks@1.0.0")["role"] == "live";
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !live() {
        assert!(
            std::time::Instant::now() < deadline,
            "the host did not promote it"
        );
    }
    it.ok(&["wait", "ticks", "--position", "2", "--timeout-ms", "60000"]);
    let output = host.end("TERM");
    insta::assert_snapshot!(said(&it, &output), @r#"
    exit 0
    serving ./retell-data/log.db at position N; stop with Ctrl-C
    there is no HTTP API yet: nothing listens on 127.0.0.1:0
    stopped; everything applied is in the read models
    "#);
}

#[test]
fn a_fault_of_the_host_is_told_and_passes() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let _host = Serving::begin(&it);
    // Once this is seen, the host holds the lease, so the rest is its work.
    it.write("more.ndjson", line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    it.ok(&["wait", "ticks", "--position", "4", "--timeout-ms", "60000"]);
    it.write("blocked", "a file where a folder should be");
    let file = it.ticks("2.0.0");
    it.ok(&[
        "--read-models",
        "blocked",
        "deploy",
        "-q",
        &file,
        "--no-wait",
    ]);
    let told = |it: &Instance| {
        it.version("ticks@2.0.0")["trouble"]
            .as_str()
            .map(str::to_owned)
    };
    wait_until("its trouble is told", || {
        told(&it).is_some_and(|trouble| trouble.contains("blocked"))
    });
    assert_eq!(it.version("ticks@2.0.0")["halt"], "none");
    std::fs::remove_file(it.path("blocked")).expect("out of the way");
    wait_until("it is ready", || {
        it.version("ticks@2.0.0")["state"] == "ready"
    });
    wait_until("its trouble is over", || told(&it).is_none());
}

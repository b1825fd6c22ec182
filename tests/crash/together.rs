//! Several processes at once on one folder: one works on a projection, the others watch, and each
//! takes over when the one before it is gone.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::content;
use crate::instance::{Instance, Running, file_of};
use crate::waiting::wait_until;

fn with_events() -> (Instance, Vec<content::Content>) {
    let instance = Instance::new();
    let events = content::seeded(17, 400);
    instance.append(&events, 0);
    (instance, events)
}

/// Requests that nobody answered yet.
fn open_requests(instance: &Instance) -> i64 {
    let log = instance.data().join("log.db");
    let connection = Connection::open_with_flags(log, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = connection.expect("the log is there");
    let sql = "SELECT count(*) FROM requests WHERE outcome IS NULL";
    let found = connection.query_row(sql, [], |row| row.get(0));
    found.expect("the catalog can be read")
}

/// A host that holds the lease and answers nobody, but leaves others the log to write in.
fn frozen(instance: &Instance) -> Running {
    let serve = serving(instance);
    wait_until("it holds no lock on the log", || {
        serve.freeze();
        let log = Connection::open(instance.data().join("log.db")).expect("the log is there");
        log.busy_timeout(Duration::ZERO).expect("a setting");
        let is_free = log.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        if !is_free {
            serve.thaw();
        }
        is_free
    });
    serve
}

/// A host that works on all there is.
fn serving(instance: &Instance) -> Running {
    let lease = instance.data().join("read-models/articles/lease.lock");
    let serve = instance.serve();
    wait_until("a host takes the lease", || is_locked(&lease));
    serve
}

fn is_locked(lease: &Path) -> bool {
    let file = std::fs::File::open(lease);
    file.is_ok_and(|file| file.try_lock().is_err())
}

#[test]
fn the_same_deployment_twice_at_once() {
    let (instance, events) = with_events();
    let file = file_of("articles_v1");
    let deploys: Vec<_> = (0..3)
        .map(|_| instance.start(&["deploy", &file, "--promote"]))
        .collect();
    for deploy in deploys {
        deploy.wait().ok();
    }
    instance.assert_as_undisturbed(&events, &["articles_v1"]);
}

#[test]
fn two_versions_and_another_projection_at_once_in_a_fresh_folder() {
    let instance = Instance::new();
    let guests = ["articles_v1", "articles_v2", "discussions_v1"];
    // The log is made by whoever comes first.
    let deploys = guests.map(|guest| instance.start(&["deploy", &file_of(guest), "--promote"]));
    let events = content::seeded(17, 400);
    instance.append(&events, 0);
    for deploy in deploys {
        deploy.wait().ok();
    }
    instance.run(&["catch-up"]).ok();
    instance.assert_as_undisturbed(&events, &guests);
}

#[test]
fn a_second_host_waits_and_takes_over() {
    let (instance, mut events) = with_events();
    instance
        .run(&["deploy", &file_of("articles_v1"), "--promote"])
        .ok();
    let first = serving(&instance);
    let mut second = instance.serve();
    let more = content::seeded(18, 20);
    let append = |events: &mut Vec<content::Content>, part: &[content::Content]| {
        instance.append(part, events.len());
        events.extend_from_slice(part);
        let head = events.len().to_string();
        let wait = [
            "wait",
            "articles",
            "--position",
            &head,
            "--timeout-ms",
            "60000",
        ];
        instance.run(&wait).ok();
    };
    append(&mut events, &more[..10]);
    assert!(second.is_alive());
    first.kill();
    append(&mut events, &more[10..]);
    second.terminate().ok();
    instance.assert_as_undisturbed(&events, &["articles_v1"]);
}

#[test]
fn catching_up_while_a_host_serves() {
    let (instance, mut events) = with_events();
    instance
        .run(&["deploy", &file_of("articles_v1"), "--promote"])
        .ok();
    let serve = serving(&instance);
    let more = content::seeded(19, 300);
    instance.append(&more, events.len());
    events.extend(more);
    let reached = instance.run(&["catch-up", "--json"]).json();
    assert_eq!(reached[0]["position"], events.len());
    serve.terminate().ok();
    instance.assert_as_undisturbed(&events, &["articles_v1"]);
}

#[test]
fn commands_take_over_when_their_host_dies_while_they_wait() {
    let (instance, events) = with_events();
    instance
        .run(&["deploy", &file_of("articles_v1"), "--promote"])
        .ok();
    instance.run(&["deploy", &file_of("articles_v2")]).ok();
    let commands: [&[&str]; 4] = [
        &["promote", "articles@2.0.0"],
        &["rollback", "articles"],
        &["replay", "articles@1.0.0"],
        &["retire", "articles@2.0.0"],
    ];
    for command in commands {
        let serve = frozen(&instance);
        let waiting = instance.start(command);
        wait_until("the command leaves its request", || {
            open_requests(&instance) == 1
        });
        serve.kill();
        waiting.wait().ok();
        assert_eq!(open_requests(&instance), 0, "{command:?}");
    }
    let live = instance.version("articles@1.0.0").expect("it is deployed");
    assert_eq!(live["role"], "live");
    instance.assert_as_undisturbed(&events, &["articles_v1"]);
}

#[test]
fn a_deployment_goes_on_when_its_host_dies() {
    let (instance, events) = with_events();
    instance
        .run(&["deploy", &file_of("articles_v1"), "--promote"])
        .ok();
    let serve = frozen(&instance);
    let mut deploy = instance.start(&["deploy", &file_of("articles_v2"), "--promote"]);
    wait_until("it is registered", || {
        instance.version("articles@2.0.0").is_some()
    });
    assert!(deploy.is_alive());
    serve.kill();
    deploy.wait().ok();
    let live = instance.version("articles@2.0.0").expect("it is deployed");
    assert_eq!(live["role"], "live");
    // The first one is previous, and as far as the moment of the switch.
    instance.run(&["catch-up"]).ok();
    instance.assert_as_undisturbed(&events, &["articles_v1", "articles_v2"]);
}

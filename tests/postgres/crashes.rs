//! Servers that crash, are away, or are not what they were.

use std::fs::File;
use std::time::Duration;

use crate::cluster::{Cluster, cluster};
use crate::content::{Content, seeded};
use crate::everywhere::database_of;
use crate::instance::{Instance, Where, signal, wait_for};
use crate::scripts::manifest;
use crate::support::guest;
use crate::waiting::wait_until;

const EVENTS: usize = 30_000;

/// The digests of an instance that nothing ever happened to.
fn undisturbed(events: &[Content]) -> [(u64, String); 2] {
    let it = Instance::initialised(Where::Files, Where::Files);
    it.append(events, 0);
    it.promote("articles_v1");
    it.promote("articles_v2");
    ["articles@1.0.0", "articles@2.0.0"].map(|name| it.digest(name))
}

#[test]
fn a_server_that_crashes_costs_time_and_nothing_else() {
    let server = Cluster::new();
    let url = server.new_database();
    let events = seeded(11, EVENTS);
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url.clone()));
    it.append(&events[..1_000], 0);
    it.promote("articles_v1");
    let host = it.start(&["serve"]);
    // While events come in, a version replays, and one is promoted.
    let lines: String = (0..).zip(&events).map(|(n, it)| it.line(n)).collect();
    it.write("all.ndjson", lines);
    let file = guest("articles_v2");
    let file = file.to_str().expect("paths here are UTF-8");
    it.ok(&["deploy", "-q", file, "--no-wait"]);
    let mut appended = false;
    for _ in 0..12 {
        let appending = it.start(&["append", "-q", "all.ndjson"]);
        std::thread::sleep(Duration::from_millis(150));
        server.restart_immediately();
        let ended = wait_for(appending);
        appended = ended.code == Some(0);
        if !appended {
            assert!(
                ended.stderr.contains("error:"),
                "it explains itself: {ended:?}"
            );
        }
    }
    if !appended {
        it.ok(&["append", "-q", "all.ndjson"]);
    }
    let promoting = it.start(&["promote", "articles@2.0.0"]);
    std::thread::sleep(Duration::from_millis(30));
    server.restart_immediately();
    let promoted = wait_for(promoting);
    wait_until("the second version is ready", || {
        it.run(&[
            "wait",
            "articles@2.0.0",
            "--position",
            &EVENTS.to_string(),
            "--timeout-ms",
            "1",
        ])
        .code
            == Some(0)
    });
    let role = || {
        let version = it.version("articles@2.0.0").expect("it is there");
        version["role"].as_str().expect("a text").to_owned()
    };
    if role() != "live" {
        assert_ne!(promoted.code, Some(0), "{promoted:?}");
        it.ok(&["promote", "-q", "articles@2.0.0"]);
    }
    it.ok(&["wait", "articles", "--position", &EVENTS.to_string()]);
    signal(&host, "TERM");
    let host = wait_for(host);
    assert_eq!(host.code, Some(0), "{host:?}");
    it.ok(&["catch-up", "-q"]);
    let digests = ["articles@1.0.0", "articles@2.0.0"].map(|name| it.digest(name));
    assert_eq!(digests, undisturbed(&events));
    let live = server.psql(
        database_of(&url),
        "SELECT version || ' ' || position FROM articles.retell_read_model",
    );
    assert_eq!(live, format!("2.0.0 {EVENTS}"));
}

#[test]
fn a_server_that_is_away_is_named_and_waited_for_by_who_serves() {
    let server = Cluster::new();
    let url = server.new_database();
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url));
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ]);
    it.ok(&["deploy", "-q", &file, "--promote"]);
    let said = it.path("serve.err");
    let host = it
        .command(&["serve"])
        .stderr(File::create(&said).expect("the folder can be written to"))
        .spawn()
        .expect("retell runs");
    // That it is there, nothing else shows: the deploy was at 1 before it came.
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "2",
    ]);
    it.ok(&["wait", "ticks", "--position", "2"]);
    server.stop();
    for args in [
        &["status"][..],
        &["append", "--stream", "s", "--type", "T", "--data", "3"],
        &["serve"],
        &["query", "ticks", "SELECT 1"],
    ] {
        let failed = it.run(args);
        assert_eq!(failed.code, Some(1), "{args:?}: {failed:?}");
        assert!(
            failed.stderr.contains("can't be reached"),
            "{args:?}: {failed:?}"
        );
        assert!(
            failed.stderr.contains("hint: see that the server runs"),
            "{failed:?}"
        );
    }
    server.start();
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "3",
    ]);
    let waited = it.run(&["wait", "ticks", "--position", "3", "--timeout-ms", "60000"]);
    assert_eq!(
        waited.code,
        Some(0),
        "{waited:?}; the host said: {}",
        std::fs::read_to_string(&said).expect("made above")
    );
    signal(&host, "TERM");
    assert_eq!(wait_for(host).code, Some(0));
}

#[test]
fn connections_that_are_cut_in_the_middle_of_a_copy_are_made_anew() {
    let url = cluster().new_database();
    let events = seeded(5, EVENTS);
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url.clone()));
    it.append(&events, 0);
    // It stops when it is told to, and after so many cuts that replays still come to an end.
    cluster().psql(
        database_of(&url),
        "CREATE TABLE ready ();
         CREATE FUNCTION cut(cuts_max int) RETURNS bigint LANGUAGE plpgsql AS $$
         DECLARE cut bigint := 0; now_cut bigint; patience timestamptz := clock_timestamp() + '2 minutes';
         BEGIN
             WHILE cut < cuts_max AND NOT EXISTS (SELECT FROM ready) AND clock_timestamp() < patience LOOP
                 PERFORM pg_stat_clear_snapshot();
                 SELECT count(pg_terminate_backend(pid)) INTO now_cut FROM pg_stat_activity
                 WHERE datname = current_database() AND query ILIKE 'copy%' AND state = 'active';
                 cut := cut + now_cut;
                 PERFORM pg_sleep(CASE now_cut WHEN 0 THEN 0.001 ELSE 0.05 END);
             END LOOP;
             RETURN cut;
         END $$",
    );
    let host = it.start(&["serve"]);
    let cut = std::thread::scope(|scope| {
        let cutting = scope.spawn(|| cluster().psql(database_of(&url), "SELECT cut(20)"));
        for name in ["articles_v1", "articles_v2"] {
            let file = guest(name);
            let file = file.to_str().expect("UTF-8");
            it.ok(&["deploy", "-q", file, "--promote", "--no-wait"]);
        }
        wait_until("both are ready", || {
            ["articles@1.0.0", "articles@2.0.0"].iter().all(|it_is| {
                it.version(it_is)
                    .is_some_and(|it| it["state"] == "ready" && it["lag"] == 0)
            })
        });
        cluster().psql(database_of(&url), "INSERT INTO ready DEFAULT VALUES");
        cutting.join().expect("nobody cuts the cutter")
    });
    assert_ne!(cut, "0", "no COPY was met");
    signal(&host, "TERM");
    assert_eq!(wait_for(host).code, Some(0));
    let digests = ["articles@1.0.0", "articles@2.0.0"].map(|name| it.digest(name));
    assert_eq!(digests, undisturbed(&events));
}

#[test]
fn a_schema_that_was_dropped_by_hand_is_missed_and_built_again() {
    let url = cluster().new_database();
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url.clone()));
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ]);
    it.ok(&["deploy", "-q", &file, "--promote"]);
    let schema = cluster().psql(
        database_of(&url),
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_b1\\_ticks'",
    );
    cluster().psql(database_of(&url), &format!("DROP SCHEMA {schema} CASCADE"));
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "2",
    ]);
    let missed = it.run(&["catch-up"]);
    assert_eq!(missed.code, Some(1), "{missed:?}");
    assert!(
        missed.stderr.contains("there is no read model"),
        "{missed:?}"
    );
    assert!(missed.stderr.contains("retell replay"), "{missed:?}");
    let asked = it.run(&["query", "ticks", "SELECT * FROM seen"]);
    assert_ne!(asked.code, Some(0), "{asked:?}");
    it.ok(&["replay", "-q", "ticks@1.0.0"]);
    assert_eq!(
        it.json(&["query", "ticks", "SELECT count(*) AS n FROM seen"])[0]["n"],
        2
    );
    let seen = cluster().psql(database_of(&url), "SELECT count(*) FROM ticks.seen");
    assert_eq!(seen, "2");
}

fn append_one(it: &Instance, data: &str) {
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", data,
    ]);
}

/// A log in a database, and files of a version that is live.
fn with_ticks_of_one_event(log: &str) -> Instance {
    let it = Instance::initialised(Where::Server(log.to_owned()), Where::Files);
    append_one(&it, "1");
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    it
}

/// A host that is at the head has no session to read with: the one that it opens for what comes next may
/// lead to another log.
#[test]
fn a_log_that_went_another_way_behind_a_running_host_is_noticed() {
    let url = cluster().new_database();
    let database = database_of(&url);
    let it = with_ticks_of_one_event(&url);
    let append = |data: &str| append_one(&it, data);
    let psql = |sql: &str| cluster().psql("postgres", sql);
    psql(&format!(
        "CREATE DATABASE {database}_backup TEMPLATE {database}"
    ));
    append("2");
    it.ok(&["catch-up", "-q"]);
    let mut host = it.start(&["serve", "-q"]);
    wait_until("the host works on it", || {
        let held = "SELECT count(*) FROM retell.leases WHERE expires_at > clock_timestamp()";
        cluster().psql(database, held) == "1"
    });
    signal(&host, "STOP");
    psql(&format!("DROP DATABASE {database} WITH (FORCE)"));
    psql(&format!(
        "ALTER DATABASE {database}_backup RENAME TO {database}"
    ));
    for data in ["3", "4", "5"] {
        append(data);
    }
    signal(&host, "CONT");
    wait_until("it is noticed", || {
        it.version("ticks@1.0.0").expect("it is there")["halt"] == "failed"
    });
    assert_eq!(it.digest("ticks@1.0.0").0, 2);
    host.kill().expect("it runs");
    host.wait().expect("it ends");
}

#[test]
fn a_log_that_was_restored_and_went_another_way_is_noticed() {
    let url = cluster().new_database();
    let database = database_of(&url);
    let it = with_ticks_of_one_event(&url);
    let append = |data: &str| append_one(&it, data);
    let backup = format!("{database}_backup");
    let disconnect = || {
        cluster().psql(
            "postgres",
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            ),
        )
    };
    disconnect();
    cluster().psql(
        "postgres",
        &format!("CREATE DATABASE {backup} TEMPLATE {database}"),
    );
    append("2");
    it.ok(&["catch-up", "-q"]);
    disconnect();
    cluster().psql("postgres", &format!("DROP DATABASE {database}"));
    cluster().psql(
        "postgres",
        &format!("ALTER DATABASE {backup} RENAME TO {database}"),
    );
    // Shorter than what the read model has seen …
    let noticed = it.run(&["catch-up"]);
    assert_eq!(noticed.code, Some(1), "{noticed:?}");
    // … and then another log with the same id.
    append("3");
    append("4");
    let noticed = it.run(&["catch-up"]);
    assert_eq!(noticed.code, Some(1), "{noticed:?}");
    assert!(noticed.stderr.contains("replay"), "{noticed:?}");
    it.ok(&["replay", "-q", "ticks@1.0.0"]);
    assert_eq!(it.digest("ticks@1.0.0").0, 3);
}

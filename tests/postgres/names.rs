//! The schemas of views by which readers come to the live version and to majors.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cluster::{Session, cluster};
use crate::everywhere::database_of;
use crate::instance::{Instance, Where, wait_for};
use crate::scripts::{column, manifest};
use crate::waiting::wait_until;

/// An instance with everything in one database.
fn instance() -> (Instance, String) {
    let url = cluster().new_database();
    let server = Where::Server(url.clone());
    let it = Instance::initialised(server.clone(), server);
    let line = |n: u64| format!("{{\"stream\":\"s\",\"type\":\"T\",\"data\":{n}}}");
    let lines: Vec<String> = (1..=20).map(line).collect();
    it.write("events.ndjson", lines.join("\n"));
    it.ok(&["append", "-q", "events.ndjson"]);
    (it, database_of(&url).to_owned())
}

/// A projection `ticks` with a table `seen (position)`, and more.
fn ticks(version: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = manifest("ticks", version);
    change(&mut manifest);
    manifest
}

fn promote(it: &Instance, manifest: &Value) {
    let file = it.scripted(manifest);
    it.ok(&["deploy", "-q", &file, "--promote"]);
}

fn script(sql: &str) -> Value {
    json!([{ "dialect": "postgres", "sql": sql }])
}

#[test]
fn grants_survive_whatever_becomes_of_the_columns() {
    let (it, database) = instance();
    let psql = |sql: &str| cluster().psql(&database, sql);
    promote(
        &it,
        &ticks("1.0.0", |it| {
            it["after_replay"] =
                script("CREATE VIEW even AS SELECT position FROM seen WHERE position % 2 = 0");
        }),
    );
    let role = format!("reader_{database}");
    psql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA ticks TO {role};
         GRANT SELECT ON ticks.seen, ticks.even TO {role} WITH GRANT OPTION"
    ));
    let read = |sql: &str| cluster().try_psql(&role, &database, sql);
    assert_eq!(
        read("SELECT count(*), count(*) FILTER (WHERE position > 0) FROM ticks.seen").unwrap(),
        "20|20"
    );
    assert_eq!(read("SELECT count(*) FROM ticks.even").unwrap(), "10");
    // Another type, one column more in front, and a view that is gone.
    promote(
        &it,
        &ticks("2.0.0", |it| {
            it["after_replay"] = script(
                "CREATE VIEW even AS SELECT 'x' AS mark, position::text FROM seen WHERE position % 2 = 0",
            );
        }),
    );
    assert_eq!(
        read("SELECT mark, position FROM ticks.even ORDER BY 2 LIMIT 1").unwrap(),
        "x|10"
    );
    assert_eq!(read("SELECT count(*) FROM ticks.seen").unwrap(), "20");
    // The major's name is another schema, on which nothing was granted.
    assert!(
        read("SELECT * FROM ticks_v1.even")
            .unwrap_err()
            .contains("42501")
    );
    it.ok(&["rollback", "-q", "ticks"]);
    assert_eq!(read("SELECT max(position) FROM ticks.even").unwrap(), "20");
    let grantable = psql(
        "SELECT bool_and(is_grantable) FROM pg_class, aclexplode(relacl)
         WHERE oid = 'ticks.even'::regclass AND grantee <> relowner",
    );
    assert_eq!(grantable, "t");
    // Nobody but retell may write what readers see.
    assert!(
        read("DELETE FROM ticks.seen")
            .unwrap_err()
            .contains("42501")
    );
    assert!(
        read("SELECT * FROM retell.events")
            .unwrap_err()
            .contains("42501")
    );
}

#[test]
fn a_view_of_a_users_own_is_named_before_the_switch_and_never_dropped() {
    let (it, database) = instance();
    let psql = |sql: &str| cluster().psql(&database, sql);
    promote(&it, &ticks("1.0.0", |_| {}));
    psql("CREATE VIEW public.mine AS SELECT position FROM ticks.seen");
    // A column more behind the others harms nobody.
    let wider = ticks("1.1.0", |it| {
        it["tables"].as_array_mut().expect("a list").push(json!({
            "name": "other", "columns": [column("id", "text")], "key": [0], "indexes": [],
        }));
    });
    promote(&it, &wider);
    assert_eq!(psql("SELECT count(*) FROM public.mine"), "20");
    // One that is gone does.
    let file = it.scripted(&ticks("2.0.0", |it| {
        it["tables"][0]["name"] = json!("noticed");
    }));
    it.ok(&["deploy", "-q", &file]);
    let refused = it.run(&["promote", "ticks@2.0.0"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("view public.mine depends on view ticks.seen"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("hint:"), "{refused:?}");
    assert_eq!(it.version("ticks@1.1.0").expect("there")["role"], "live");
    assert_eq!(psql("SELECT count(*) FROM public.mine"), "20");
    psql("DROP VIEW public.mine");
    it.ok(&["promote", "-q", "ticks@2.0.0"]);
    assert_eq!(psql("SELECT count(*) FROM ticks.noticed"), "20");
}

#[test]
fn what_others_keep_in_its_schema_is_left_alone() {
    let (it, database) = instance();
    let psql = |sql: &str| cluster().psql(&database, sql);
    promote(&it, &ticks("1.0.0", |_| {}));
    psql("CREATE VIEW ticks.top AS SELECT position FROM ticks.seen");
    psql("CREATE TABLE ticks.notes (note text); INSERT INTO ticks.notes VALUES ('mine')");
    promote(&it, &ticks("1.1.0", |_| {}));
    it.ok(&["rollback", "-q", "ticks"]);
    assert_eq!(psql("SELECT count(*) FROM ticks.top"), "20");
    assert_eq!(psql("SELECT note FROM ticks.notes"), "mine");
    // A table of that name would have no place.
    let file = it.scripted(&ticks("2.0.0", |it| {
        it["tables"][0]["name"] = json!("notes");
    }));
    it.ok(&["deploy", "-q", &file]);
    psql("DROP VIEW ticks.top");
    let refused = it.run(&["promote", "ticks@2.0.0"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("ticks.notes"), "{refused:?}");
    assert_eq!(psql("SELECT note FROM ticks.notes"), "mine");
    // A schema that is of no more use stays for them, without what retell had in it.
    it.ok(&["move", "-q", "ticks@1.1.0", "--read-models", "files"]);
    it.ok(&["move", "-q", "ticks@1.0.0", "--read-models", "files"]);
    assert_eq!(psql("SELECT note FROM ticks.notes"), "mine");
    assert_eq!(psql("SELECT to_regclass('ticks.seen') IS NULL"), "t");
    psql("DROP TABLE ticks.notes");
    it.ok(&["promote", "-q", "ticks@2.0.0"]);
    assert_eq!(psql("SELECT count(*) FROM ticks.notes"), "20");
}

#[test]
fn a_schema_of_somebody_else_is_left_alone() {
    let (it, database) = instance();
    cluster().psql(
        &database,
        "CREATE SCHEMA ticks; CREATE TABLE ticks.mine (x int)",
    );
    let file = it.scripted(&ticks("1.0.0", |_| {}));
    it.ok(&["deploy", "-q", &file]);
    let refused = it.run(&["promote", "ticks@1.0.0"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(
        refused.stderr.contains("not marked as one of retell's"),
        "{refused:?}"
    );
    assert_eq!(
        cluster().psql(&database, "SELECT count(*) FROM ticks.mine"),
        "0"
    );
    assert_eq!(it.version("ticks@1.0.0").expect("there")["role"], "none");
}

#[test]
fn two_logs_share_a_server_and_keep_apart() {
    let read_models = cluster().new_database();
    let server = || Where::Server(cluster().new_database());
    let one = Instance::initialised(server(), Where::Server(read_models.clone()));
    let other = Instance::initialised(server(), Where::Server(read_models.clone()));
    for it in [&one, &other] {
        it.ok(&[
            "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
        ]);
    }
    promote(&one, &ticks("1.0.0", |_| {}));
    // Its builds have names of their own, but the readers' name is taken.
    let file = other.scripted(&ticks("1.0.0", |_| {}));
    other.ok(&["deploy", "-q", &file]);
    assert_eq!(other.digest("ticks@1.0.0"), one.digest("ticks@1.0.0"));
    let refused = other.run(&["promote", "ticks@1.0.0"]);
    assert!(
        refused
            .stderr
            .contains("it holds the views of ticks of the log"),
        "{refused:?}"
    );
    assert_eq!(
        one.json(&["query", "ticks", "SELECT count(*) AS n FROM seen"])[0]["n"],
        1
    );
}

/// A reader with explicit columns and an ordinary session must not notice a switch, whatever its
/// transactions and prepared statements are like.
#[test]
fn clients_with_explicit_columns_see_no_error_at_a_switch() {
    let (it, database) = instance();
    promote(&it, &ticks("1.0.0", |_| {}));
    let file = it.scripted(&ticks("1.1.0", |it| {
        it["tables"][0]["name"] = json!("seen");
        it["after_replay"] = script("CREATE VIEW more AS SELECT position, 1 AS one FROM seen");
    }));
    it.ok(&["deploy", "-q", &file]);
    let stop = AtomicBool::new(false);
    let loops = [
        // Prepared, outside of transactions.
        "PREPARE q AS SELECT position FROM ticks.seen ORDER BY position;",
        "PREPARE q AS SELECT count(position) FROM ticks.seen;",
    ];
    std::thread::scope(|scope| {
        let readers: Vec<_> = loops
            .iter()
            .map(|prepare| {
                let (database, stop) = (&database, &stop);
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let many = "EXECUTE q; SELECT pg_sleep(0.002);".repeat(40);
                        let in_transaction =
                            "BEGIN; EXECUTE q; SELECT pg_sleep(0.002); EXECUTE q; COMMIT;"
                                .repeat(10);
                        let sql = format!("{prepare} {many} {in_transaction}");
                        let read = cluster().try_psql("postgres", database, &sql);
                        assert!(read.is_ok(), "{read:?}");
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for _ in 0..6 {
            it.ok(&["promote", "-q", "ticks@1.1.0"]);
            it.ok(&["rollback", "-q", "ticks"]);
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().expect("no reader saw an error") > 1);
        }
    });
}

/// What `SELECT *` sees depends on when its columns were looked up.
#[test]
fn what_select_star_sees_at_a_switch() {
    let (it, database) = instance();
    promote(
        &it,
        &ticks("1.0.0", |it| {
            it["after_replay"] = script("CREATE VIEW marks AS SELECT position FROM seen");
        }),
    );
    let file = it.scripted(&ticks("2.0.0", |it| {
        it["after_replay"] = script("CREATE VIEW marks AS SELECT 'm' AS mark, position FROM seen");
    }));
    it.ok(&["deploy", "-q", &file]);
    let mut session = cluster().session(&database);
    let asked = |session: &mut Session, sql: &str| session.ask(sql);
    let first = "SELECT * FROM ticks.marks ORDER BY position LIMIT 1";
    asked(&mut session, &format!("PREPARE star AS {first}"));
    asked(
        &mut session,
        "PREPARE named AS SELECT position FROM ticks.marks ORDER BY position LIMIT 1",
    );
    assert_eq!(asked(&mut session, "EXECUTE star"), "1");
    // A transaction that has read holds its views as they are: the switch waits for it.
    asked(&mut session, "BEGIN");
    assert_eq!(asked(&mut session, first), "1");
    let promoting = it.start(&["promote", "ticks@2.0.0"]);
    wait_until("the switch waits", || {
        let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database =
                       (SELECT oid FROM pg_database WHERE datname = current_database())";
        cluster().psql(&database, waiting) == "t"
    });
    assert_eq!(asked(&mut session, first), "1");
    // Nobody waits behind the switch that waits.
    assert_eq!(cluster().psql(&database, first), "1");
    asked(&mut session, "COMMIT");
    let promoted = wait_for(promoting);
    assert_eq!(promoted.code, Some(0), "{promoted:?}");
    assert_eq!(asked(&mut session, first), "m|1");
    assert_eq!(asked(&mut session, "EXECUTE named"), "1");
    assert!(asked(&mut session, "EXECUTE star").contains("must not change result type"));
}

#[test]
fn names_that_do_not_follow_are_told_and_repaired() {
    let [log, read_models] = [(); 2].map(|()| cluster().new_database());
    let it = Instance::initialised(Where::Server(log), Where::Server(read_models.clone()));
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ]);
    promote(&it, &ticks("1.0.0", |_| {}));
    let stale = || it.version("ticks@1.0.0").expect("there")["stale_names"].clone();
    assert_eq!(stale(), json!([]));
    let database = database_of(&read_models);
    cluster().psql(database, "DROP SCHEMA ticks CASCADE");
    assert_eq!(stale(), json!(["ticks"]));
    assert!(
        it.ok(&["status"])
            .contains("ticks: programs that open it themselves")
    );
    it.ok(&["catch-up", "-q"]);
    assert_eq!(stale(), json!([]));
    assert_eq!(
        cluster().psql(database, "SELECT count(*) FROM ticks.seen"),
        "1"
    );
}

#[test]
fn schemas_that_no_version_uses_are_listed() {
    let (it, database) = instance();
    promote(&it, &ticks("1.0.0", |_| {}));
    let orphans = || it.json(&["check"])["orphans"].clone();
    assert_eq!(orphans(), json!([]));
    let log_id = cluster().psql(&database, "SELECT log_id FROM retell.log_head");
    for (schema, log_id) in [("of_this_log", log_id.as_str()), ("of_another", "none")] {
        cluster().psql(
            &database,
            &format!(
                "CREATE SCHEMA {schema};
                 COMMENT ON SCHEMA {schema} IS 'retell: articles@9.0.0, build 99 of the log {log_id}'"
            ),
        );
    }
    let found = orphans();
    let found = found.as_array().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .as_str()
            .is_some_and(|it| it.ends_with("#of_this_log")),
        "{found:?}"
    );
}

//! What a version, a query and a host's role can't do.

use serde_json::{Value, json};

use crate::cluster::cluster;
use crate::everywhere::database_of;
use crate::instance::{Instance, Where};
use crate::scripts::manifest;

/// An instance that is run by a role that may do just what it needs, in a database of the cluster.
fn instance(create_role: bool) -> (Instance, String, String) {
    let owner = cluster().new_database();
    let database = database_of(&owner).to_owned();
    let role = format!("host_{database}");
    let it = Instance::new(Where::Server(owner), Where::Files);
    it.ok(&["init", "--host-role", &role]);
    if create_role {
        cluster().psql(&database, &format!("ALTER ROLE {role} CREATEROLE"));
    }
    let url = cluster().url(&role, &database);
    let it = Instance::new(Where::Server(url.clone()), Where::Server(url));
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ]);
    (it, database, role)
}

fn with_script(name: &str, sql: &str) -> Value {
    let mut manifest = manifest(name, "1.0.0");
    manifest["after_replay"] = json!([{ "dialect": "postgres", "sql": sql }]);
    manifest
}

#[test]
fn sql_of_a_module_reaches_nothing_but_its_own_schema() {
    let (it, database, role) = instance(true);
    let file = it.scripted(&manifest("victim", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    let victim = cluster().psql(
        &database,
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_victim'",
    );
    let mut number = 0;
    for (sql, says) in [
        (
            format!("UPDATE {victim}.seen SET position = 9"),
            "permission denied",
        ),
        (
            format!("CREATE TABLE {victim}.mine (x int)"),
            "permission denied",
        ),
        (
            "SELECT * FROM retell.events".to_owned(),
            "permission denied",
        ),
        (
            "CREATE VIEW v AS SELECT * FROM retell.events".to_owned(),
            "permission denied",
        ),
        (format!("SET ROLE {role}"), "security-definer"),
        ("RESET ROLE".to_owned(), "security-definer"),
        (
            "SELECT set_config('role', 'none', false)".to_owned(),
            "security-definer",
        ),
        ("COMMIT".to_owned(), "transaction"),
        (
            "UPDATE seen SET position = position + 100".to_owned(),
            "it changed",
        ),
        ("DELETE FROM seen".to_owned(), "it changed"),
        ("TRUNCATE seen".to_owned(), "it changed"),
        ("ALTER TABLE seen ADD COLUMN x int".to_owned(), "it changed"),
        (
            "ALTER TABLE seen ADD CHECK (position < 5)".to_owned(),
            "it changed",
        ),
        (
            "CREATE UNIQUE INDEX u ON seen ((position % 3))".to_owned(),
            "it changed",
        ),
        ("DROP TABLE seen".to_owned(), "it changed"),
        (
            "UPDATE retell_read_model SET version = '9.9.9'".to_owned(),
            "it changed",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
            "it changed or made a function",
        ),
        (
            "DROP FUNCTION retell_query(text);
             CREATE FUNCTION retell_query(query text) RETURNS SETOF text LANGUAGE sql AS 'SELECT 1::text'"
                .to_owned(),
            "it changed or made a function",
        ),
        (
            "CREATE RULE r AS ON INSERT TO seen DO INSTEAD NOTHING".to_owned(),
            "it changed",
        ),
        ("SELECT * FROM not_there".to_owned(), "not_there"),
    ] {
        number += 1;
        let name = format!("attacker{number}x");
        let file = it.scripted(&with_script(&name, &sql));
        let failed = it.run(&["deploy", &file]);
        assert_eq!(failed.code, Some(1), "{sql}: {failed:?}");
        assert!(failed.stderr.contains(says), "{sql}: {failed:?}");
    }
    // And what is its own, it may do.
    let file = it.scripted(&with_script(
        "honest",
        "CREATE TABLE totals AS SELECT count(*) AS n FROM seen; CREATE VIEW v AS SELECT * FROM totals;
         CREATE INDEX i ON seen ((position % 3))",
    ));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    assert_eq!(it.json(&["query", "honest", "SELECT n FROM v"])[0]["n"], 1);
    assert_eq!(
        it.json(&["query", "victim", "SELECT position FROM seen"])[0]["position"],
        1
    );
}

#[test]
fn a_query_reads_one_read_model_and_writes_nothing() {
    let (it, _, _) = instance(true);
    for name in ["mine", "theirs"] {
        let file = it.scripted(&manifest(name, "1.0.0"));
        it.ok(&["deploy", "-q", &file, "--promote"]);
    }
    let rows = it.json(&[
        "query",
        "mine",
        "SELECT position, true AS yes, NULL AS nothing, 1.5::float8 AS real, 'x' AS text FROM seen",
    ]);
    assert_eq!(
        rows,
        json!([{ "position": 1, "yes": true, "nothing": null, "real": 1.5, "text": "x" }])
    );
    let odd = it.json(&[
        "query",
        "mine",
        "SELECT E'a \"b\" \\\\ (c), d\ne' AS text, '' AS empty, '\\x00ff'::bytea AS bytes, 'é' AS \"ü\"",
    ]);
    assert_eq!(odd[0]["text"], "a \"b\" \\ (c), d\ne");
    assert_eq!((&odd[0]["empty"], &odd[0]["ü"]), (&json!(""), &json!("é")));
    assert!(
        it.ok(&["query", "mine", "EXPLAIN SELECT * FROM seen"])
            .contains("seen")
    );
    assert!(
        it.ok(&["query", "mine", "SHOW server_version"])
            .contains('.')
    );
    for (sql, says) in [
        ("SELECT * FROM theirs.seen", "permission denied"),
        ("SELECT * FROM retell.events", "permission denied"),
        (
            "SELECT set_config('role', 'none', true)",
            "security-definer",
        ),
        (
            "SELECT query_to_xml('SELECT set_config(''role'', ''none'', true)', true, true, '')",
            "security-definer",
        ),
        (
            "SELECT set_config('transaction_read_only', 'off', true)",
            "read-write",
        ),
        ("DELETE FROM seen", "it returns no rows"),
        (
            "DELETE FROM seen RETURNING position",
            "not for reading only",
        ),
        (
            "SELECT position FROM seen FOR UPDATE",
            "not for reading only",
        ),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT $1::text", "parameter `$1`"),
        (" ; ", "the query is empty"),
        (
            "SELECT * FROM unknown",
            "the tables here are retell_read_model, seen",
        ),
        ("SELECT nope FROM seen", "column \"nope\" does not exist"),
        ("SELEC 1", "syntax error"),
        ("CREATE TEMP TABLE t (x int)", "it returns no rows"),
    ] {
        let refused = it.run(&["query", "mine", sql]);
        assert_eq!(refused.code, Some(1), "{sql}: {refused:?}");
        assert!(refused.stderr.contains(says), "{sql}: {refused:?}");
    }
}

#[test]
fn without_the_right_to_make_roles_everything_works_with_less_walls() {
    let (it, database, role) = instance(false);
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    assert_eq!(
        it.json(&["query", "ticks", "SELECT position FROM seen"])[0]["position"],
        1
    );
    let owner = cluster().psql(
        &database,
        "SELECT nspowner::regrole FROM pg_namespace WHERE nspname LIKE '%\\_b1\\_ticks'",
    );
    assert_eq!(owner, role);
    it.ok(&["replay", "-q", "ticks@1.0.0"]);
    assert_eq!(
        it.json(&["query", "ticks", "SELECT position FROM seen"])[0]["position"],
        1
    );
}

/// A copy of a database has the same log, the same builds and so the same names of roles.
#[test]
fn a_copy_of_the_database_on_the_same_server_shares_roles_and_nothing_else() {
    let (it, database, role) = instance(true);
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    let copy = format!("{database}_copy");
    cluster().psql(
        "postgres",
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        ),
    );
    cluster().psql(
        "postgres",
        &format!("CREATE DATABASE {copy} TEMPLATE {database}"),
    );
    cluster().psql(
        "postgres",
        &format!("GRANT CREATE ON DATABASE {copy} TO {role}"),
    );
    let url = cluster().url(&role, &copy);
    let other = Instance::new(Where::Server(url.clone()), Where::Server(url));
    // The catalog of the copy still says where the first one's read models are.
    for it in [&it, &other] {
        it.ok(&[
            "append", "-q", "--stream", "s", "--type", "T", "--data", "2",
        ]);
    }
    let file = it.scripted(&manifest("more", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    let file = other.scripted(&manifest("more", "1.0.0"));
    other.ok(&["deploy", "-q", &file, "--promote"]);
    let second = it.scripted(&manifest("more", "2.0.0"));
    it.ok(&["deploy", "-q", &second, "--promote"]);
    it.ok(&["retire", "-q", "more@1.0.0"]);
    assert_eq!(other.digest("more@1.0.0").0, 2);
    assert!(it.version("more@1.0.0").expect("there")["location"].is_null());
}

//! After-replay SQL: what it may do, what is refused, and what of it ends with it.

use std::time::Duration;

use retell_contract::encode_key;
use retell_contract::encode_row;
use retell_contract::manifest::{Table, TableColumn};
use retell_contract::value::{ColumnType, Value};
use sqlx::AssertSqlSafe;

use super::{PgReadModel, Schema};
use crate::read_model::conformance::{at, entry, manifest, people, person, provenance, put};
use crate::read_model::journal::Decision;
use crate::read_model::postgres::fault::Doing;
use crate::read_model::{ReadModel, ReadModelError, RowChange};
use crate::test_cluster::cluster;

/// A read model with one person, which runs these scripts when it gets ready.
fn model(place: &Schema, scripts: &[&str]) -> PgReadModel {
    let mut model = PgReadModel::create(&place.0, &people(), &provenance(), 1).expect("creates");
    let ann = person("ann", Some("a@x"), Some("Ulm"), 1);
    model.write(&[put(&ann, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    set_scripts(&mut model, scripts);
    model
}

fn set_scripts(model: &mut PgReadModel, scripts: &[&str]) {
    let scripts: Vec<String> = scripts.iter().map(|&it| it.to_owned()).collect();
    model.after_replay = scripts.into();
}

/// The one value that a query gives, in the writer's session.
fn ask(model: &mut PgReadModel, sql: &str) -> String {
    let sql = AssertSqlSafe(sql.to_owned());
    model
        .ask(Doing::Read, async |it| {
            sqlx::query_scalar(sql).fetch_one(it).await
        })
        .expect("answers")
}

fn refusal(model: &mut PgReadModel, sql: &str) -> String {
    set_scripts(model, &[sql]);
    match model.prepare_ready() {
        Err(error @ ReadModelError::AfterReplay { .. }) => error.to_string(),
        other => panic!("{sql} should be refused, got {other:?}"),
    }
}

fn refused(model: &mut PgReadModel, cases: &[(String, &str)]) {
    for (sql, expected) in cases {
        let error = refusal(model, sql);
        assert!(error.contains("script 1: "), "{sql}: {error}");
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[test]
fn after_replay_sql_may_not_touch_what_is_not_its_own() {
    let place = Schema::new();
    let mut model = model(&place, &[]);
    model
        .record(&[entry(2, Decision::Skipped, true)])
        .expect("records");
    model.commit(at(2), 0.0).expect("commits");
    let schema = place.0.quoted();
    let cases: Vec<(String, &str)> = vec![
        (
            "UPDATE person SET age = 3".into(),
            "it changed rows of the table `person`",
        ),
        (
            "ALTER TABLE person ADD x int".into(),
            "it changed the table `person`",
        ),
        (
            "DELETE FROM retell_journal".into(),
            "it changed rows of the table `retell_journal`",
        ),
        (
            "ALTER TABLE retell_journal ADD x int".into(),
            "it changed the table `retell_journal`",
        ),
        (
            "DROP TABLE retell_journal".into(),
            "it made or dropped `retell_journal`",
        ),
        (
            "CREATE TABLE retell_x (a int)".into(),
            "it made or dropped `retell_x`",
        ),
        (
            "CREATE TABLE x (a int); ALTER TABLE x RENAME TO retell_x".into(),
            "it made or dropped `retell_x`",
        ),
        (
            "CREATE DOMAIN retell_x AS int".into(),
            "it made or dropped `retell_x`",
        ),
        (
            "DROP INDEX \"person.town\"".into(),
            "it changed the index `town` of table `person`",
        ),
        (
            "CREATE TABLE child () INHERITS (person)".into(),
            "it made a table that inherits from `person`",
        ),
        (
            format!("COMMENT ON SCHEMA {schema} IS NULL"),
            "it changed the comment on the schema",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'".into(),
            "it changed or made a function",
        ),
        (format!("DROP SCHEMA {schema} CASCADE"), "it made or dropped"),
        // It is the script that must not find its own.
        (
            "CREATE TEMPORARY TABLE pg_class AS SELECT * FROM pg_catalog.pg_class; DELETE FROM person"
                .into(),
            "it changed rows of the table `person`",
        ),
        (
            "CREATE TABLE a (x int PRIMARY KEY);
             CREATE TABLE b (x int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO b VALUES (1)"
                .into(),
            "violates foreign key constraint",
        ),
        ("SET transaction_read_only = on".into(), "read-only"),
    ];
    refused(&mut model, &cases);
    // Nothing of them stays, and the version goes on.
    assert!(!model.is_ready());
    let bob = person("bob", None, None, 2);
    model.write(&[put(&bob, true)]).expect("writes");
    model.commit(at(3), 0.0).expect("commits");
    assert_eq!(
        PgReadModel::status(&place.0).expect("reads").dead_letters,
        1
    );
}

#[test]
fn after_replay_sql_gives_and_takes_no_rights() {
    let place = Schema::new();
    let mut model = model(&place, &[]);
    let (schema, reader) = (place.0.quoted(), place.0.reader());
    let cases = [
        (
            "GRANT SELECT ON person TO PUBLIC".into(),
            "it changed who may use the table `person`",
        ),
        (
            "GRANT UPDATE (age) ON person TO PUBLIC".into(),
            "it changed who may use the table `person`",
        ),
        (
            format!("REVOKE SELECT ON retell_read_model FROM {reader}"),
            "it changed who may use the table `retell_read_model`",
        ),
        (
            format!("GRANT USAGE ON SCHEMA {schema} TO PUBLIC"),
            "it changed who may use the schema",
        ),
        (
            "ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC".into(),
            "it changed who may use the schema",
        ),
    ];
    refused(&mut model, &cases);
    // On what is its own it may.
    let own = "CREATE TABLE own (a int); GRANT SELECT ON own TO PUBLIC";
    set_scripts(&mut model, &[own]);
    model.prepare_ready().expect("gets ready");
}

#[test]
fn a_journal_that_is_not_there_yet_is_not_the_scripts_to_make() {
    let place = Schema::new();
    let mut model = model(&place, &[]);
    let error = refusal(&mut model, "CREATE TABLE retell_journal (position bigint)");
    assert!(
        error.contains("it made or dropped `retell_journal`"),
        "{error}"
    );
}

#[test]
fn what_a_script_sets_and_keeps_ends_with_it() {
    let place = Schema::new();
    let sets = "SET client_encoding = 'LATIN1'; SET synchronous_commit = off;
         SET search_path = public; SET lock_timeout = 1; SET timezone = 'Asia/Tokyo';
         SET default_transaction_read_only = on;
         CREATE TEMPORARY TABLE person (id text); SELECT pg_advisory_lock(7)";
    let settings = "concat_ws(', ', current_setting('client_encoding'),
         current_setting('synchronous_commit'), current_setting('lock_timeout'),
         current_setting('timezone'), current_setting('default_transaction_read_only'))";
    let looks = format!("CREATE TABLE looked AS SELECT {settings} AS settings");
    let mut model = model(&place, &[sets, &looks]);
    model.prepare_ready().expect("gets ready");
    let as_set_up = "UTF8, on, 30s, UTC, off";
    let settings = format!("SELECT {settings}");
    assert_eq!(ask(&mut model, &settings), as_set_up);
    assert_eq!(
        ask(&mut model, "SELECT current_setting('search_path')"),
        "pg_catalog"
    );
    let next = format!("SELECT settings FROM {}.looked", place.0.quoted());
    assert_eq!(ask(&mut model, &next), as_set_up);
    let kept = "SELECT (to_regclass('pg_temp.person') IS NULL)::text";
    assert_eq!(ask(&mut model, kept), "true");
    // So many that they go through a stage, which is called like the script's table.
    let many: Vec<_> = (0..40)
        .map(|n| person(&format!("p{n}"), None, Some("Köln"), n))
        .collect();
    let changes: Vec<RowChange<'_>> = many.iter().map(|it| put(it, false)).collect();
    model.write(&changes).expect("writes");
    model.commit(at(2), 0.0).expect("commits");
    let count = format!(
        "SELECT count(*)::text FROM {}.person WHERE town = 'Köln'",
        place.0.quoted()
    );
    assert_eq!(ask(&mut model, &count), "40");
}

#[test]
fn words_in_an_encoding_that_the_script_chose_are_its_own_fault() {
    let place = Schema::new();
    let mut model = model(&place, &[]);
    let raise = "SET client_encoding = 'LATIN1'; DO $$ BEGIN RAISE EXCEPTION 'é'; END $$";
    refusal(&mut model, raise);
}

#[test]
fn a_script_that_never_ends_is_the_modules_fault() {
    let place = Schema::new();
    let mut model = model(&place, &[]);
    model.begin().expect("begins");
    let refuse = |message| ReadModelError::AfterReplay {
        message,
        statement: None,
    };
    let time_max = Duration::from_millis(50);
    // The server's answer comes later than its time is over.
    let sleep = "DO $$ BEGIN PERFORM pg_sleep(3600);
         EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.2); RAISE; END $$";
    let ran = model.run_script(sleep, "RESET ALL", time_max, refuse);
    let error = ran.expect_err("is ended");
    assert!(error.is_the_modules_fault(), "{error}");
    assert!(error.to_string().contains("statement timeout"), "{error}");
}

/// A read model with the table `article (id, title, body)`, and an article in it.
fn articles(place: &Schema) -> PgReadModel {
    let column = |name: &str| TableColumn {
        name: name.into(),
        kind: ColumnType::Text,
        nullable: false,
    };
    let manifest = manifest(vec![Table {
        name: "article".into(),
        columns: vec![column("id"), column("title"), column("body")],
        key: vec![0],
        indexes: vec![],
    }]);
    let mut model = PgReadModel::create(&place.0, &manifest, &provenance(), 1).expect("creates");
    let short = article("1", 3);
    model.write(&[put(&short, true)]).expect("writes");
    model.commit(at(1), 0.0).expect("commits");
    model
}

/// An article of so many distinct words. An event has room for 130,000.
fn article(id: &str, words: u32) -> (Vec<u8>, Vec<u8>) {
    let words: Vec<String> = (0..words).map(|n| format!("w{n:06}")).collect();
    let row = [id, "Words", &words.join(" ")].map(|it| Value::Text(it.into()));
    (encode_key(&row[..1]), encode_row(&row))
}

#[test]
fn a_row_that_an_index_of_a_script_cant_take_is_the_modules_fault() {
    let place = Schema::new();
    let sql = "CREATE INDEX search ON article USING gin (to_tsvector('simple', body))";
    let mut ready = articles(&place);
    set_scripts(&mut ready, &[sql]);
    ready.prepare_ready().expect("gets ready");
    let long = article("2", 120_000);
    for fresh in [true, false] {
        let error = ready.write(&[put(&long, fresh)]).expect_err("is refused");
        ready.rollback();
        assert!(error.is_the_modules_fault(), "{error}");
        let error = error.to_string();
        let expected = "a row of table `article`: string is too long for tsvector";
        assert!(error.contains(expected), "{error}");
    }
    let place = Schema::new();
    let mut replaying = articles(&place);
    replaying.write(&[put(&long, true)]).expect("writes");
    replaying.commit(at(2), 0.0).expect("commits");
    let error = refusal(&mut replaying, sql);
    assert!(error.contains("string is too long for tsvector"), "{error}");
}

#[test]
fn the_search_of_the_projections_that_ship_takes_every_article() {
    for sql in [
        include_str!("../../../../../projections/articles_v2/src/search.postgres.sql"),
        include_str!("../../../../../projections/articles_v3/src/search.postgres.sql"),
    ] {
        let place = Schema::new();
        let mut model = articles(&place);
        set_scripts(&mut model, &[sql]);
        model.prepare_ready().expect("gets ready");
        let long = article("2", 130_000);
        model.write(&[put(&long, true)]).expect("writes");
        model.commit(at(2), 0.0).expect("commits");
        let condition = sql.lines().nth(1).and_then(|it| it.strip_prefix("-- "));
        let condition = condition.expect("says how to search");
        let found = format!(
            "SELECT string_agg(id, ',') FROM {}.article {}",
            place.0.quoted(),
            condition.replace("engine", "w000007")
        );
        assert_eq!(ask(&mut model, &found), "2");
        let database = place.0.server().options().get_database().expect("has one");
        let plan = format!("SET enable_seqscan = off; EXPLAIN {found}");
        let plan = cluster().psql(database, &plan);
        assert!(plan.contains("article_search"), "{plan}");
    }
}

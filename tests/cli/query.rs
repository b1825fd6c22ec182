//! `retell query`: what it prints, and everything it refuses.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::support::{guest, retell};

const EVENTS: &str = r#"
{"stream":"author-a","type":"AuthorRegistered","data":{"id":"a","name":"Ann"}}
{"stream":"article-1","type":"ArticleCreated","data":{"id":"1","title":"Engine room","body":"two\nlines","author":"a"}}
{"stream":"article-1","type":"ArticleLiked","data":{"article":"1","author":"b"}}
{"stream":"article-2","type":"ArticleCreated","data":{"id":"2","title":"Tab\there, \"quoted\"","body":"","author":"b"}}
"#;

/// An instance whose live version is `articles_v1` at 1.0.0.
struct Instance(TempDir);

impl Instance {
    fn new() -> Self {
        let instance = Self(tempfile::tempdir().unwrap());
        let appended = instance.run_with_input(&["append", "-"], EVENTS);
        assert!(appended.status.success(), "{appended:?}");
        let module = guest("articles_v1");
        let deployed = instance.run(&["deploy", "--promote", module.to_str().unwrap()]);
        assert!(deployed.status.success(), "{deployed:?}");
        instance
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, "")
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = retell()
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn prints(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
        text(&output.stdout)
    }

    /// Exit code and message of a query that fails.
    fn fails(&self, sql: &str) -> String {
        failure(&self.run(&["query", "articles", sql]))
    }

    fn live_file(&self) -> std::path::PathBuf {
        let live = self
            .0
            .path()
            .join("retell-data/read-models/articles/live.db");
        live.canonicalize().unwrap()
    }
}

fn failure(output: &Output) -> String {
    assert_eq!(text(&output.stdout), "");
    format!(
        "{}\n{}",
        output.status.code().unwrap(),
        text(&output.stderr)
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn rows_are_printed_for_programs_in_three_ways() {
    let instance = Instance::new();
    let sql = "SELECT title, likes, NULL AS missing, likes / 2.0 AS half, x'00ff' AS raw
        FROM article ORDER BY id";
    assert_snapshot!(instance.prints(&["query", "articles", sql]), @r#"
    title	likes	missing	half	raw
    Engine room	1		0.5	x'00ff'
    Tab\there, "quoted"	0		0.0	x'00ff'
    "#);
    assert_snapshot!(instance.prints(&["query", "articles@1", "--csv", sql]), @r#"
    title,likes,missing,half,raw
    Engine room,1,,0.5,x'00ff'
    "Tab	here, ""quoted""",0,,0.0,x'00ff'
    "#);
    assert_snapshot!(instance.prints(&["--json", "query", "articles@1.0.0", sql]), @r#"
    [{"title":"Engine room","likes":1,"missing":null,"half":0.5,"raw":"x'00ff'"},
    {"title":"Tab\there, \"quoted\"","likes":0,"missing":null,"half":0.0,"raw":"x'00ff'"}]
    "#);
    assert_snapshot!(instance.prints(&["query", "articles", "--json", "SELECT 1 WHERE 0"]), @"[]");
    let piped = instance.run_with_input(&["query", "articles", "-"], "SELECT body FROM article");
    assert_snapshot!(text(&piped.stdout), @r"
    body
    two\nlines
    ");
}

#[test]
fn the_live_read_model_can_be_opened_by_its_link() {
    let instance = Instance::new();
    let link = instance
        .0
        .path()
        .join("retell-data/read-models/articles/live.db");
    let live = rusqlite::Connection::open(link).unwrap();
    let row: (String, String, String, i64) = live
        .query_row(
            "SELECT projection, version, role, position FROM retell_read_model",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(row, ("articles".into(), "1.0.0".into(), "live".into(), 4));
}

#[test]
fn mistakes_are_shown_with_their_place() {
    let instance = Instance::new();
    assert_snapshot!(instance.fails("SELEC title FROM article"), @r#"
    1
    error: the query has a mistake: near "SELEC": syntax error
      SELEC title FROM article
      ^
    "#);
    assert_snapshot!(instance.fails("SELECT id,\n\ttitel\nFROM article"), @r"
    1
    error: the query has a mistake: no such column: titel
      	titel
      	^
    ");
    assert_snapshot!(instance.fails("SELECT * FROM artikel"), @r"
    1
    error: the query has a mistake: no such table: artikel
      hint: the tables here are article, author
    ");
    assert_snapshot!(instance.fails("SELECT 1; SELECT 2"), @r"
    1
    error: the query has more than one statement
      hint: run them one by one
    ");
    assert_snapshot!(instance.fails(" -- nothing"), @r"
    1
    error: the query is empty
      hint: for example: SELECT * FROM retell_read_model
    ");
    assert_snapshot!(instance.fails("SELECT :id"), @r"
    1
    error: the query has the parameter `:id`, and nothing is given for it
      hint: write the value into the SQL
    ");
    let both = instance.run(&["query", "articles", "--csv", "--json", "SELECT 1"]);
    assert_snapshot!(failure(&both), @r"
    2
    error: --csv and --json exclude each other
      hint: give one of them
    ");
    let twice = instance.run(&["query", "articles", "--json", "SELECT 1 AS a, 2 AS a"]);
    assert_snapshot!(failure(&twice), @r"
    1
    error: could not write the rows
      caused by: two columns are named `a`, and an object can't hold both; name one otherwise with AS
    ");
}

#[test]
fn nothing_can_be_written_through_a_query() {
    let instance = Instance::new();
    let file = instance.live_file();
    let before = std::fs::read(&file).unwrap();
    assert_snapshot!(instance.fails("DELETE FROM article"), @r"
    1
    error: the query is not for reading only: it would delete from `article`
      hint: a read model follows the log alone: to change it, append events or deploy another version
    ");
    assert_snapshot!(instance.fails("ATTACH 'other.db' AS other"), @r"
    1
    error: the query is not for reading only: it would attach another database
      hint: a read model follows the log alone: to change it, append events or deploy another version
    ");
    assert_snapshot!(
        instance.fails("WITH one AS (SELECT 1) DELETE FROM article RETURNING *"),
        @r"
    1
    error: the query is not for reading only: it would delete from `article`
      hint: a read model follows the log alone: to change it, append events or deploy another version
    "
    );
    assert_snapshot!(instance.fails("PRAGMA user_version = 7"), @r"
    1
    error: the query is not for reading only: it uses `PRAGMA user_version`
      hint: a read model follows the log alone: to change it, append events or deploy another version
    ");
    assert_snapshot!(instance.fails("VACUUM INTO 'copy.db'"), @r"
    1
    error: the query is not for reading only: it returns no rows
      hint: a read model follows the log alone: to change it, append events or deploy another version
    ");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!instance.0.path().join("other.db").exists());
    assert!(!instance.0.path().join("copy.db").exists());
}

#[test]
fn names_that_lead_nowhere() {
    let instance = Instance::new();
    let query = |name: &str| failure(&instance.run(&["query", name, "SELECT 1"]));
    assert_snapshot!(query("nothing"), @r"
    3
    error: there is no projection `nothing`; there are articles
      hint: `retell status` lists all projections
    ");
    assert_snapshot!(query("articles@7"), @r"
    3
    error: `articles` has no version 7; it has 1.0.0
      hint: `retell status articles` lists its versions
    ");
    assert_snapshot!(query("No Name"), @r"
    2
    error: `No Name` is not a name: write articles (the live version), articles@2 (its major 2) or articles@2.1.0 (one version)
      hint: `retell status` lists all names
    ");
    let nowhere = instance.run(&["--data", "nowhere", "query", "articles", "SELECT 1"]);
    assert_snapshot!(failure(&nowhere), @r"
    1
    error: there is no event log at nowhere/log.db
      hint: create one with `retell init`, or name another folder with --data
    ");
    assert!(!instance.0.path().join("nowhere").exists());
}

#[test]
fn a_damaged_read_model_is_named_and_can_be_built_anew() {
    let instance = Instance::new();
    let file = instance.live_file();
    remove_side_files(&file);
    std::fs::write(&file, [7; 5_000]).unwrap();
    let said = instance.fails("SELECT 1");
    let folder = instance.0.path().canonicalize().unwrap();
    assert_snapshot!(said.replace(folder.to_str().unwrap(), "FOLDER"), @r"
    1
    error: `FOLDER/retell-data/read-models/articles/build-1-1.0.0.db` is not a read model of retell: it is not an SQLite database
      hint: build it anew from the log with `retell replay articles@1.0.0`; the log has everything
    ");
    let replayed = instance.run(&["replay", "articles@1.0.0"]);
    assert!(replayed.status.success(), "{replayed:?}");
    let count = instance.prints(&["query", "articles", "SELECT count(*) AS n FROM article"]);
    assert_eq!(count, "n\n2\n");
}

fn remove_side_files(file: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

#[test]
fn an_endless_result_may_be_cut_off_by_its_reader() {
    let instance = Instance::new();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let mut child = retell()
        .args(["query", "articles", endless])
        .current_dir(instance.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((line.as_str(), text(&ended.stderr)), ("i\n", String::new()));
    assert!(ended.status.success());
}

#[test]
fn sql_that_is_too_long_is_not_cut() {
    let it = crate::instance::Instance::new();
    it.append(1);
    it.promoted(&["1.0.0"]);
    // Up to the limit it is a query of its own.
    let sql = format!("SELECT 1 AS n{}", " UNION ALL SELECT 1 AS n".repeat(60_000));
    let said = it.says_to(&["query", "ticks", "-"], &sql);
    assert!(
        said.starts_with("exit 2\n"),
        "{}",
        &said[..200.min(said.len())]
    );
    assert!(said.contains("more than 1048576 bytes"), "{said}");
}

//! `retell deploy`: what it registers, builds, refuses and says.

use serde_json::json;

use crate::instance::{Instance, shown};
use crate::scripted::{manifest, module};
use crate::shown::{keys, steady};

const STORY: &str = r#"{"stream":"author-1","type":"AuthorRegistered","data":{"id":"1","name":"Ada"}}
{"stream":"article-1","type":"ArticleCreated","data":{"id":"1","title":"Notes","body":"On the engine","author":"1"}}
{"stream":"article-1","type":"ArticleLiked","data":{"article":"1","author":"1"}}
"#;

#[test]
fn the_first_version_ends_with_the_command_that_promotes_it() {
    let it = Instance::new();
    it.write("story.ndjson", STORY);
    it.ok(&["append", "-q", "story.ndjson"]);
    let file = it.guest("articles_v1");
    insta::assert_snapshot!(it.shows(&["deploy", &file]), @r#"
    exit 0
    articles@1.0.0 is registered
    articles@1.0.0 is ready at position 3: 3 events in TIME (RATE)
    look at it:   retell query articles@1.0.0 'SELECT …'
    make it live: retell promote articles@1.0.0
    "#);
    insta::assert_snapshot!(it.shows(&["query", "articles", "select * from article"]), @r#"
    exit 3
    error: `articles` has no live version yet
      hint: make one live: `retell promote articles@1.0.0`
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "articles@1.0.0"]), @r#"
    exit 0
    articles: 1.0.0 is live at position 3
    "#);
    let rows = it.json(&[
        "query",
        "articles",
        "select title, author, likes from article",
    ]);
    insta::assert_snapshot!(rows, @r#"[{"author":"Ada","likes":1,"title":"Notes"}]"#);
}

#[test]
fn the_next_version_is_built_beside_and_promoted_when_it_is_ready() {
    let it = Instance::new();
    it.write("story.ndjson", STORY);
    it.ok(&["append", "-q", "story.ndjson"]);
    let (first, second) = (it.guest("articles_v1"), it.guest("articles_v2"));
    insta::assert_snapshot!(it.shows(&["deploy", &first, "--promote"]), @r#"
    exit 0
    articles@1.0.0 is registered
    articles@1.0.0 is ready at position 3: 3 events in TIME (RATE)
    articles: 1.0.0 is live at position 3
    "#);
    insta::assert_snapshot!(it.shows(&["deploy", &second, "--promote"]), @r#"
    exit 0
    articles@2.0.0 is registered
    articles@2.0.0 is ready at position 3: 3 events in TIME (RATE)
    articles: 2.0.0 is live at position 3; 1.0.0 is kept up to date for a rollback
    "#);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version         state  role      checkpoint  lag  events/s  left  names                
     articles@1.0.0  ready  previous           3    0                  articles@1           
     articles@2.0.0  ready  live               3    0                  articles, articles@2
    "#);
    // The old version's readers find what they know under its major's name.
    let old = it.json(&["query", "articles@1", "select author from article"]);
    let new = it.json(&["query", "articles", "select author from article"]);
    insta::assert_snapshot!(format!("{old}\n{new}"), @r#"
    [{"author":"Ada"}]
    [{"author":"1"}]
    "#);
}

#[test]
fn what_it_prints_as_json() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    let document = it.ok(&["--json", "-q", "deploy", &file, "--promote"]);
    assert_eq!(
        keys(&document),
        [
            "projection",
            "version",
            "digest",
            "registered",
            "state",
            "role",
            "position",
            "events",
            "seconds",
            "events_per_s",
        ]
    );
    let said: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(said["projection"], "ticks");
    assert_eq!(said["version"], "1.0.0");
    assert_eq!(said["registered"], "new");
    assert_eq!(said["state"], "ready");
    assert_eq!(said["role"], "live");
    assert_eq!((&said["position"], &said["events"]), (&3.into(), &3.into()));
    assert!(said["events_per_s"].as_f64().expect("a number") > 0.0);
}

#[test]
fn quiet_says_nothing() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    assert_eq!(it.says(&["deploy", "--quiet", &file]), "exit 0\n");
}

#[test]
fn the_same_module_twice_changes_nothing() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let before = it.version("ticks@1.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", "1.0.0.wasm"]), @r#"
    exit 0
    ticks@1.0.0 is deployed already
    ticks@1.0.0 is ready at position 3
    "#);
    insta::assert_snapshot!(it.shows(&["deploy", "1.0.0.wasm", "--promote"]), @r#"
    exit 0
    ticks@1.0.0 is deployed already
    ticks@1.0.0 is ready at position 3
    ticks@1.0.0 is live
    "#);
    assert_eq!(it.version("ticks@1.0.0"), before);
    assert_eq!(
        it.json(&["deploy", "1.0.0.wasm"])["registered"],
        "already_there"
    );
}

#[test]
fn another_module_of_a_version_that_is_there_is_refused() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let mut other = manifest("ticks", "1.0.0");
    other["tables"][0]["name"] = "noticed".into();
    it.write("other.wasm", module(&other));
    insta::assert_snapshot!(it.shows(&["deploy", "other.wasm"]), @r#"
    exit 3
    error: ticks@1.0.0 is deployed already, from another module (DIGEST…)
      hint: raise the version in the projection's declaration, build and deploy again
    "#);
    assert_eq!(it.version("ticks")["halt"], "none");
}

#[test]
fn up_to_a_position_and_no_further() {
    let it = Instance::new();
    it.append(5);
    let file = it.ticks("1.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", &file, "--until", "2"]), @r#"
    exit 0
    ticks@1.0.0 is registered
    ticks@1.0.0 is ready at position 2: 2 events in TIME (RATE)
    look at it:   retell query ticks@1.0.0 'SELECT …'
    make it live: retell promote ticks@1.0.0
    "#);
    let count = "select count(*) from seen";
    insta::assert_snapshot!(it.json(&["query", "ticks@1.0.0", count]), @r#"[{"count(*)":2}]"#);
    let version = it.version("ticks@1.0.0");
    assert_eq!(
        (&version["checkpoint"], &version["lag"]),
        (&2.into(), &0.into())
    );

    // Another end is another build, and so is none.
    insta::assert_snapshot!(it.shows(&["deploy", &file, "--until", "4"]), @r#"
    exit 0
    ticks@1.0.0 is deployed already
    ticks@1.0.0 is ready at position 4
    look at it:   retell query ticks@1.0.0 'SELECT …'
    make it live: retell promote ticks@1.0.0
    "#);
    insta::assert_snapshot!(it.json(&["query", "ticks@1.0.0", count]), @r#"[{"count(*)":4}]"#);
    insta::assert_snapshot!(it.shows(&["replay", "ticks@1.0.0"]), @r#"
    exit 0
    ticks@1.0.0 is replayed, at position 5
    "#);
    insta::assert_snapshot!(it.json(&["query", "ticks@1.0.0", count]), @r#"[{"count(*)":5}]"#);
}

#[test]
fn left_to_be_built_later() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", &file, "--no-wait", "--promote"]), @r#"
    exit 0
    ticks@1.0.0 is registered
    `retell serve` builds it, or `retell catch-up` once
    "#);
    assert_eq!(it.version("ticks@1.0.0")["state"], "created");
    insta::assert_snapshot!(it.shows(&["promote", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0: it is not ready: it is still created
      hint: `retell serve` builds it, or `retell catch-up ticks@1.0.0` once
    "#);
    insta::assert_snapshot!(it.shows(&["query", "ticks@1.0.0", "select 1"]), @r#"
    exit 3
    error: ticks@1.0.0 has no read model yet: it is created
      hint: build it: `retell catch-up ticks`
    "#);
    insta::assert_snapshot!(it.shows(&["digest", "ticks@1.0.0"]), @r#"
    exit 3
    error: ticks@1.0.0 has no read model yet: it is created
      hint: build it: `retell catch-up ticks`
    "#);
    // Whoever builds it promotes it, as was asked.
    insta::assert_snapshot!(it.shows(&["catch-up"]), @r#"
    exit 0
    ticks@1.0.0 is at position 3
    "#);
    assert_eq!(it.version("ticks@1.0.0")["role"], "live");
}

#[test]
fn a_retired_version_is_built_again() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    it.ok(&["retire", "ticks@1.0.0"]);
    insta::assert_snapshot!(it.shows(&["deploy", "1.0.0.wasm"]), @r#"
    exit 0
    ticks@1.0.0 was retired and is built again
    ticks@1.0.0 is ready at position 3: 3 events in TIME (RATE)
    look at it:   retell query ticks@1.0.0 'SELECT …'
    make it live: retell promote ticks@1.0.0
    "#);
    let version = it.version("ticks@1.0.0");
    assert_eq!(
        (&version["state"], &version["checkpoint"]),
        (&"ready".into(), &3.into())
    );
    let gone = it.path("retell-data/read-models/ticks/build-1-1.0.0.db");
    assert!(!gone.exists(), "a file name is never reused");
    assert!(
        !version["location"]
            .as_str()
            .expect("a path")
            .ends_with("build-1-1.0.0.db")
    );
}

#[test]
fn an_empty_log_is_replayed_at_once() {
    let it = Instance::new();
    let file = it.ticks("1.0.0");
    insta::assert_snapshot!(it.shows(&["deploy", &file, "--promote"]), @r#"
    exit 0
    ticks@1.0.0 is registered
    ticks@1.0.0 is ready at position 0
    ticks: 1.0.0 is live at position 0
    "#);
    it.append(2);
    insta::assert_snapshot!(it.shows(&["catch-up", "ticks"]), @r#"
    exit 0
    ticks@1.0.0 is at position 2
    "#);
}

#[test]
fn a_file_that_is_not_there() {
    let it = Instance::new();
    insta::assert_snapshot!(it.shows(&["deploy", "gone.wasm"]), @r#"
    exit 1
    error: the module gone.wasm can't be read
      caused by: No such file or directory (os error 2)
      hint: build one: `retell build PATH`
    "#);
    std::fs::create_dir(it.path("folder")).expect("a folder can be made");
    insta::assert_snapshot!(it.shows(&["deploy", "folder"]), @r#"
    exit 1
    error: the module folder can't be read
      caused by: Is a directory (os error 21)
      hint: build one: `retell build PATH`
    "#);
    assert!(!it.path("retell-data").exists(), "nothing was made");
}

#[test]
fn read_models_elsewhere_are_remembered() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    it.ok(&[
        "--read-models",
        "fast-disk",
        "deploy",
        "-q",
        &file,
        "--promote",
    ]);
    let location = it.path("fast-disk/ticks/build-1-1.0.0.db");
    assert!(location.exists());
    assert_eq!(
        it.version("ticks")["location"],
        *location.to_str().expect("UTF-8")
    );
    // Programs find the live one where it always is; the next version goes to the default place.
    let live = it.path("retell-data/read-models/ticks/live.db");
    assert_eq!(
        live.canonicalize().expect("a link"),
        location.canonicalize().expect("a file")
    );
    it.promoted(&["2.0.0"]);
    let second = it.version("ticks")["location"]
        .as_str()
        .expect("a path")
        .to_owned();
    assert!(
        second.contains("retell-data/read-models/ticks/"),
        "{second}"
    );
    it.append(5);
    it.ok(&["catch-up", "-q"]);
    assert_eq!(it.version("ticks@1.0.0")["checkpoint"], 8);

    let url = it.shows(&["--read-models", "mysql://server/db", "deploy", &file]);
    insta::assert_snapshot!(url, @r#"
    exit 2
    error: the read models' place `mysql://server/db` is neither a folder nor postgres://ROLE@SERVER/DATABASE
    "#);
}

#[test]
fn a_log_elsewhere() {
    let it = Instance::new();
    let file = it.ticks("1.0.0");
    let log = format!("sqlite://{}", it.path("elsewhere/events.db").display());
    std::fs::create_dir(it.path("elsewhere")).expect("a folder can be made");
    it.write("events.ndjson", crate::instance::lines(3));
    it.ok(&["--log", &log, "append", "-q", "events.ndjson"]);
    it.ok(&["--log", &log, "deploy", "-q", &file, "--promote"]);
    let rows = it.ok(&[
        "--json",
        "--log",
        &log,
        "query",
        "ticks",
        "select count(*) as n from seen",
    ]);
    insta::assert_snapshot!(rows, @r#"[{"n":3}]"#);
    assert!(!it.log().exists());
    assert!(it.path("retell-data/read-models/ticks/live.db").exists());
    insta::assert_snapshot!(it.shows(&["--log", "mysql://server/db", "status"]), @r#"
    exit 2
    error: the log URL `mysql://server/db` is neither sqlite:///path/to/log.db nor postgres://ROLE@SERVER/DATABASE
    "#);
}

#[test]
fn an_instance_goes_on_where_its_folder_was_moved_to() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    std::fs::rename(it.path("retell-data"), it.path("moved")).expect("it can be moved");
    let data = ["--data", "moved"];
    it.ok(&["--data", "moved", "append", "-q", "events.ndjson"]);
    it.write("more.ndjson", crate::instance::line("more", 9));
    it.ok(&["--data", "moved", "append", "-q", "more.ndjson"]);
    insta::assert_snapshot!(it.shows(&[data[0], data[1], "catch-up"]), @r#"
    exit 0
    ticks@1.0.0 is at position 7
    ticks@2.0.0 is at position 7
    "#);
    insta::assert_snapshot!(it.shows(&[data[0], data[1], "rollback", "ticks"]), @r#"
    exit 0
    ticks: 1.0.0 is live at position 7; 2.0.0 is kept up to date for a rollback
    "#);
    let live = it.path("moved/read-models/ticks/live.db");
    let target = live.canonicalize().expect("the link leads somewhere");
    assert!(target.starts_with(it.path("moved").canonicalize().expect("a folder")));
    assert!(!it.path("retell-data").exists());
}

#[test]
fn a_data_folder_that_can_not_be_written() {
    let it = Instance::new();
    let file = it.ticks("1.0.0");
    it.write("blocked", "a file where the folder should be");
    insta::assert_snapshot!(it.shows(&["--data", "blocked", "deploy", &file]), @r#"
    exit 1
    error: the event log at blocked/log.db can't be written to
      caused by: Not a directory (os error 20)
      hint: check the owner and the permissions of the folder, or name another with --data
    "#);
    insta::assert_snapshot!(it.shows(&["--data", "/proc/retell", "deploy", &file]), @r#"
    exit 1
    error: can't create the event log at /proc/retell/log.db
      caused by: No such file or directory (os error 2)
      hint: check the owner and the permissions of the folder, or name another with --data
    "#);

    // The log can be written, and the place of the read models can't.
    it.append(3);
    insta::assert_snapshot!(it.shows(&["--read-models", "blocked", "deploy", &file]), @r#"
    exit 1
    ticks@1.0.0 is registered
    error: ticks@1.0.0 can't go on: the read model can't be used: the read model `DIR/blocked/ticks/build-1-1.0.0.db` can't be written: Not a directory (os error 20)
      hint: check who owns the folder and the file, and whether the file system is mounted read-only
    "#);
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 0
     version      state      role  checkpoint  lag  events/s  left  names 
     ticks@1.0.0  replaying  none           0    3         0
    "#);
}

#[test]
fn a_log_from_a_newer_retell() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let log = rusqlite::Connection::open(it.log()).expect("the log opens");
    log.execute_batch("INSERT INTO retell_log_migrations VALUES (999, 'later', 0, true, x'00', 0)")
        .expect("it can be written");
    drop(log);
    for command in [vec!["status"], vec!["deploy", "1.0.0.wasm"], vec!["serve"]] {
        let said = it.shows(&command);
        assert!(said.starts_with("exit 1\nerror: "), "{said}");
        assert!(said.contains("newer retell"), "{said}");
    }
    insta::assert_snapshot!(it.shows(&["status"]), @r#"
    exit 1
    error: the event log at ./retell-data/log.db was written by a newer retell: its schema is 999, this one knows up to 1
      hint: use the newer retell, `retell --version` says which one this is
    "#);
}

#[test]
fn a_disk_that_fills_up_during_a_replay() {
    let it = Instance::new();
    let body = "long ".repeat(8_000);
    let articles: Vec<String> = (0..120)
        .map(|id| {
            let data = json!({ "id": id.to_string(), "title": "T", "body": body, "author": "a" });
            json!({ "stream": "all", "type": "ArticleCreated", "data": data }).to_string()
        })
        .collect();
    it.write("articles.ndjson", articles.join("\n"));
    it.ok(&["append", "-q", "articles.ndjson"]);
    let (first, second) = (it.guest("articles_v1"), it.guest("articles_v2"));
    it.ok(&["deploy", "-q", &first, "--promote"]);
    it.ok(&["deploy", "-q", &second, "--no-wait"]);
    let before = (it.version("articles"), it.json(&["digest", "articles"]));

    // A limit on file sizes (3 MiB, in blocks of 512 bytes) stands in for a full disk.
    let line = "trap '' XFSZ; ulimit -f 6144; exec \"$@\"";
    let catch_up = ["catch-up", "articles@2.0.0"];
    let output = it.shell(line, &catch_up).output().expect("sh runs");
    // Whether the catalog or the read model meets it first is a matter of moments.
    let said = steady(&shown(&output), &it);
    assert!(said.starts_with("exit 1\nerror: "), "{said}");
    assert!(said.contains("\n  hint: "), "{said}");
    assert_eq!(
        before,
        (it.version("articles"), it.json(&["digest", "articles"]))
    );
    let halted = it.version("articles@2.0.0");
    assert_eq!(
        halted["halt"], "none",
        "a full disk is no fault of the module"
    );

    // With room again it goes on.
    it.ok(&["catch-up", "-q"]);
    it.ok(&["promote", "-q", "articles@2.0.0"]);
    let rows = it.json(&["query", "articles", "select count(*) as n from article"]);
    assert_eq!(rows, json!([{ "n": 120 }]));
}

#[test]
fn a_disk_that_is_full_when_a_module_is_registered() {
    let it = Instance::new();
    it.append(3);
    let file = it.ticks("1.0.0");
    let line = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
    let output = it
        .shell(line, &["deploy", &file])
        .output()
        .expect("sh runs");
    let said = steady(&shown(&output), &it);
    assert!(said.starts_with("exit 1\nerror: "), "{said}");
    assert!(said.contains("\n  hint: "), "{said}");
    assert_eq!(
        it.json(&["status"]),
        json!([]),
        "nothing is registered by halves"
    );
    it.ok(&["deploy", "-q", &file]);
}

//! A walk through all crash points: the process dies there, in each of the commands that come by; the
//! command is given again; and in the end everything is as if nothing had happened.
//!
//! The points are there in builds with debug assertions, and so is this walk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use retell::crash_point::CrashPoint;
use serde_json::{Value, json};

use crate::cluster::cluster;
use crate::content::{Content, seeded};
use crate::everywhere::database_of;
use crate::instance::{Ended, Instance, Where, ended};
use crate::support::guest;

const EVENTS: usize = 1_500;
const BEFORE: usize = 1_000;
/// A text so long that a file is laid out anew.
const LONG: usize = 400 << 10;

/// What a walk does, one command after the other.
fn commands() -> Vec<Vec<String>> {
    let file = |name: &str| {
        let file = guest(name);
        file.to_str().expect("paths here are UTF-8").to_owned()
    };
    let [one, two, notes] = ["articles_v1", "articles_v2", "brittle"].map(file);
    // The event that needs another one, which comes after it.
    let needy = (EVENTS + 1).to_string();
    [
        &["append", "-q", "before.ndjson"][..],
        &["deploy", "-q", &one, "--promote"],
        &["append", "-q", "after.ndjson"],
        &["catch-up", "-q"],
        &["deploy", "-q", &two, "--promote"],
        &["rollback", "-q", "articles"],
        &["replay", "-q", "articles@1.0.0"],
        &["retire", "-q", "articles@2.0.0"],
        &[
            "deploy",
            "-q",
            &notes,
            "--on-error",
            "skip",
            "--promote",
            "--accept-dead-letters",
        ],
        &["dead-letters", "-q", "notes@1.0.0", "retry", &needy],
        &["catch-up", "-q"],
    ]
    .iter()
    .map(|args| args.iter().map(ToString::to_string).collect())
    .collect()
}

/// Where a walk takes place, with the events that it appends.
fn prepared(log: Where, read_models: Where) -> Instance {
    let it = Instance::initialised(log, read_models);
    let mut content = seeded(5, EVENTS);
    content[BEFORE / 2] = Content::ArticleCreated {
        id: "long".to_owned(),
        title: "Long".to_owned(),
        body: "long ".repeat(LONG / 5),
        author: "somebody".to_owned(),
    };
    let lines: Vec<String> = (0..).zip(&content).map(|(n, it)| it.line(n)).collect();
    it.write("before.ndjson", lines[..BEFORE].concat());
    let event = |number: usize, kind: &str, data: Value| {
        json!({ "id": format!("note-{number}"), "stream": "notes", "type": kind, "data": data })
            .to_string()
    };
    let notes = [
        event(1, "Misbehaved", json!({ "how": "needs late" })),
        event(
            2,
            "NoteAdded",
            json!({ "id": "early", "title": "T", "stars": 1 }),
        ),
        event(3, "Misbehaved", json!({ "how": "fly" })),
        event(
            4,
            "NoteAdded",
            json!({ "id": "late", "title": "T", "stars": 1 }),
        ),
    ];
    let after = lines[BEFORE..].concat() + &notes.join("\n");
    it.write("after.ndjson", after);
    it
}

/// What must be the same in the end.
#[derive(Debug, PartialEq)]
struct Outcome {
    ids: Vec<String>,
    digests: Vec<(u64, String)>,
    /// State, role, halt, names, events that are missing.
    versions: BTreeMap<String, [Value; 5]>,
    dead_letters: Vec<[Value; 3]>,
}

fn outcome(it: &Instance) -> Outcome {
    let printed = it.ok(&["events"]);
    let id = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("events prints JSON");
        event["id"].as_str().expect("a text").to_owned()
    };
    let status = it.json(&["status"]);
    let versions = status.as_array().expect("a list").iter().map(|version| {
        let name = format!("{}@{}", version["projection"], version["version"]);
        let said = ["state", "role", "halt", "names", "dead_letters"];
        (name, said.map(|key| version[key].clone()))
    });
    let dead_letters = it.json(&["dead-letters", "notes@1.0.0"]);
    let dead_letters = dead_letters.as_array().expect("a list").iter();
    it.ok(&["check", "-q"]);
    Outcome {
        ids: printed.lines().map(id).collect(),
        digests: ["articles@1.0.0", "notes@1.0.0"]
            .map(|name| it.digest(name))
            .into(),
        versions: versions.collect(),
        dead_letters: dead_letters
            .map(|it| ["position", "decision", "after"].map(|key| it[key].clone()))
            .collect(),
    }
}

/// Nothing is there but what the versions use.
fn assert_no_orphans(it: &Instance, read_models: &Where) {
    let status = it.json(&["status"]);
    let locations: BTreeSet<String> = status
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|version| version["location"].as_str())
        .map(str::to_owned)
        .collect();
    match read_models {
        Where::Server(url) => {
            let names: BTreeSet<_> = locations
                .iter()
                .filter_map(|it| it.split_once('#'))
                .map(|it| it.1.to_owned())
                .collect();
            let schemas = cluster().psql(
                database_of(url),
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'retell\\_%\\_b%'",
            );
            let schemas: BTreeSet<_> = schemas.lines().map(str::to_owned).collect();
            assert_eq!(schemas, names);
            // The roles of this log's schemas: an owner and a reader each.
            // `retell_`, and eight digits of the log's id, which may begin with a `b`, too.
            let of_log = names.first().and_then(|it| it.get(..15));
            let of_log = of_log.expect("a name with a log in it");
            let roles = format!("SELECT rolname FROM pg_roles WHERE rolname LIKE '{of_log}\\_b%'");
            let roles = cluster().psql(database_of(url), &roles);
            let roles: BTreeSet<_> = roles.lines().map(str::to_owned).collect();
            let both = |name: &String| [name.clone(), format!("{name}_r")];
            assert_eq!(roles, names.iter().flat_map(both).collect());
        }
        Where::Files => {
            let used: BTreeSet<PathBuf> = locations
                .iter()
                .map(|path| it.path(path).canonicalize().expect("it is there"))
                .collect();
            for file in files(&it.path("retell-data/read-models")) {
                let name = file.file_name().expect("it has one").to_string_lossy();
                let base = ["-wal", "-shm"].iter().find_map(|it| name.strip_suffix(it));
                let file = file.with_file_name(base.unwrap_or(&name));
                let meant = file.canonicalize().expect("no link leads nowhere");
                assert!(
                    name == "lease.lock" || used.contains(&meant),
                    "{} is nobody's; {used:?}",
                    file.display()
                );
            }
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Whether a command's work is done already, so that giving it again would do something else.
fn is_done(it: &Instance, args: &[String]) -> bool {
    let first = it.version("articles@1.0.0");
    args[0] == "rollback" && first.is_some_and(|it| it["role"] == "live")
}

/// Goes through all commands; each dies at the point, if it comes by, and is given again. Returns how
/// many died.
fn walk(it: &Instance, point: CrashPoint) -> usize {
    let mut died = 0;
    for args in commands() {
        let given: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = it.command(&given);
        command.env("RETELL_CRASH_POINT", point.name());
        let first = ended(command.output().expect("retell runs"));
        if first.code.is_some() {
            assert_eq!(first.code, Some(0), "{point:?}, {args:?}: {first:?}");
            continue;
        }
        died += 1;
        if is_done(it, &args) {
            continue;
        }
        let again: Ended = it.run(&given);
        // What was done before the crash is refused, and says so.
        let may_be_refused = ["retire", "dead-letters"].contains(&given[0]);
        assert!(
            again.code == Some(0) || (may_be_refused && again.code == Some(3)),
            "{point:?}, {args:?}: {again:?}"
        );
    }
    // Whatever was left half done by a command of which nothing was left to do.
    it.ok(&["catch-up", "-q"]);
    died
}

/// `new_place`: where log and read models are, for one walk.
fn walk_through_all(new_place: impl Fn() -> (Where, Where) + Sync, never: &[CrashPoint]) {
    let (log, read_models) = new_place();
    let undisturbed = prepared(log, read_models);
    for args in commands() {
        undisturbed.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let expected = outcome(&undisturbed);
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(point) = CrashPoint::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (log, read_models) = new_place();
            let it = prepared(log, read_models.clone());
            let died = walk(&it, *point);
            assert_eq!(outcome(&it), expected, "{point:?}");
            assert_no_orphans(&it, &read_models);
            if (died == 0) != never.contains(point) {
                wrong.lock().expect("nobody panicked").push((*point, died));
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work();
        other.join().expect("the other half met no fault");
    });
    let wrong = wrong.into_inner().expect("nobody panicked");
    assert!(wrong.is_empty(), "reached as often as that: {wrong:?}");
}

#[test]
fn in_files() {
    walk_through_all(|| (Where::Files, Where::Files), &[]);
}

#[test]
fn on_a_server() {
    let in_one_database = || {
        let database = Where::Server(cluster().new_database());
        (database.clone(), database)
    };
    // There are no files to lay out.
    walk_through_all(
        in_one_database,
        &[CrashPoint::FileLaidOut, CrashPoint::FileInPlace],
    );
}

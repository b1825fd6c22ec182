//! Passwords stay where they are: in the environment, in `.pgpass`, or in a URL that nobody repeats.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::cluster::{Cluster, cluster};
use crate::everywhere::database_of;
use crate::instance::{Ended, Instance, Where, ended, signal, wait_for};
use crate::scripts::manifest;
use crate::support::{guest, retell};

const SECRET: &str = "hunter-2-hunter";
const VARIABLE: &str = "SHOP_PASSWORD";
const ROLE: &str = "shop";

/// An instance whose commands find the password of their read models in the environment, and everything
/// that they said.
struct Overheard {
    it: Instance,
    said: String,
    commands: Vec<String>,
}

impl Overheard {
    fn new(log: Where, read_models: Where) -> Self {
        Self {
            it: Instance::new(log, read_models),
            said: String::new(),
            commands: Vec::new(),
        }
    }

    /// As talkative as it gets.
    fn command(&mut self, args: &[&str]) -> Command {
        self.commands.push(args[0].to_owned());
        let mut command = self.it.command(&[args, &["-vv"]].concat());
        command.env(VARIABLE, SECRET);
        command
    }

    fn keep(&mut self, ended: Ended) -> Ended {
        self.said.push_str(&ended.stdout);
        self.said.push_str(&ended.stderr);
        ended
    }

    fn run(&mut self, args: &[&str]) -> Ended {
        let output = self.command(args).output().expect("retell runs");
        self.keep(ended(output))
    }

    fn ok(&mut self, args: &[&str]) {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    }

    fn fails(&mut self, code: i32, args: &[&str]) {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    }

    fn append(&mut self, event_type: &str, data: &serde_json::Value) {
        let data = data.to_string();
        self.ok(&[
            "append", "--stream", "s", "--type", event_type, "--data", &data,
        ]);
    }

    /// A note that the guest `brittle` keeps.
    fn append_note(&mut self, id: &str) {
        self.append("NoteAdded", &json!({ "id": id, "title": "T", "stars": 1 }));
    }
}

/// A server that asks `shop` for its password, and lets everybody else in.
fn server_with_a_password() -> Cluster {
    let server = Cluster::new();
    let rules = server.folder().join("data/pg_hba.conf");
    server.psql(
        "postgres",
        &format!(
            "CREATE ROLE {ROLE} LOGIN CREATEROLE PASSWORD '{SECRET}';
             COPY (VALUES ('local all {ROLE} scram-sha-256'), ('local all all trust')) TO '{}'",
            rules.display()
        ),
    );
    server.stop();
    server.start();
    server
}

/// The commands that know of a server, as the help lists them.
fn commands_with_an_instance() -> Vec<String> {
    let help = ended(retell().arg("--help").output().expect("retell runs"));
    let list = help.stdout.split("Commands:\n").nth(1).expect("a list");
    let list = list.split("\n\n").next().expect("its end");
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| !["build", "completions", "help"].contains(name))
        .map(str::to_owned)
        .collect()
}

/// `elsewhere`: another place for read models.
fn everyday_commands(it: &mut Overheard, elsewhere: &str) {
    it.ok(&["init"]);
    it.ok(&["init", "--json"]);
    it.ok(&["migrate"]);
    it.append_note("1");
    for how in ["panic", "fly", "needs 2"] {
        it.append("Misbehaved", &json!({ "how": how }));
    }
    it.append_note("2");
    let notes = guest("brittle");
    let notes = notes.to_str().expect("paths here are UTF-8");
    it.ok(&["inspect", notes]);
    it.ok(&["deploy", notes, "--on-error", "skip"]);
    it.fails(3, &["promote", "notes@1.0.0"]);
    it.ok(&["promote", "notes@1.0.0", "--accept-dead-letters"]);
    it.ok(&["dead-letters", "notes@1.0.0"]);
    it.ok(&["dead-letters", "notes@1.0.0", "--json"]);
    it.fails(3, &["dead-letters", "notes@1.0.0", "skip", "2"]);
    it.fails(1, &["dead-letters", "notes@1.0.0", "retry", "3"]);
    it.ok(&["dead-letters", "notes@1.0.0", "retry", "4"]);
    for version in ["1.0.0", "1.1.0"] {
        let file = it.it.scripted(&manifest("ticks", version));
        it.ok(&["deploy", &file, "--verify", "--promote"]);
    }
    it.ok(&["rollback", "ticks"]);
    it.ok(&["query", "notes", "SELECT * FROM note"]);
    it.fails(1, &["query", "notes", "SELECT * FROM nothing"]);
    it.ok(&["digest", "ticks"]);
    it.ok(&["verify", "ticks"]);
    it.ok(&["replay", "ticks@1.0.0"]);
    it.ok(&["pause", "ticks@1.0.0"]);
    it.ok(&["resume", "ticks@1.0.0"]);
    it.append_note("3");
    it.ok(&["catch-up"]);
    it.ok(&["check"]);
    it.ok(&["events"]);
    it.ok(&["move", "ticks@1.1.0", "--read-models", "files"]);
    it.ok(&["move", "ticks@1.1.0", "--read-models", elsewhere]);
    it.ok(&["status"]);
    it.ok(&["status", "--json"]);
    it.ok(&["retire", "ticks@1.1.0"]);
    it.fails(3, &["backup", "copy"]);
    let mut host = it.command(&["serve"]);
    host.stdout(Stdio::piped()).stderr(Stdio::piped());
    let host = host.spawn().expect("retell runs");
    it.append_note("4");
    it.ok(&["wait", "notes", "--position", "7"]);
    signal(&host, "TERM");
    let host = it.keep(wait_for(host));
    assert_eq!(host.code, Some(0), "{host:?}");
}

#[test]
fn no_output_and_no_table_has_a_password_in_it() {
    let server = server_with_a_password();
    let [log, shop] = ["shop_log", "shop"].map(|database| {
        server.psql(
            "postgres",
            &format!("CREATE DATABASE {database} OWNER {ROLE}"),
        );
        server.url(ROLE, database)
    });
    let named = |url: &str| format!("{url}&password_env={VARIABLE}");
    let (read_models, elsewhere) = (named(&shop), named(&log));
    let log = log.replacen("shop@", &format!("shop:{SECRET}@"), 1);

    let mut it = Overheard::new(
        Where::Server(log.clone()),
        Where::Server(read_models.clone()),
    );
    everyday_commands(&mut it, &elsewhere);

    // A log in a file, so that there is a copy to make.
    let mut files = Overheard::new(Where::Files, Where::Server(read_models));
    files.append_note("1");
    let file = files.it.scripted(&manifest("copied", "1.0.0"));
    files.ok(&["deploy", &file, "--promote"]);
    files.ok(&["backup", "copy"]);
    it.said.push_str(&files.said);
    it.commands.extend(files.commands);

    let dump = ["shop_log", "shop"]
        .map(|database| server.dump(database))
        .concat();
    for part in ["CREATE TABLE retell.events", "copied@1.0.0", VARIABLE] {
        assert!(dump.contains(part), "{part} is not in the dump");
    }

    // What goes wrong is told without it, too.
    for (code, place) in [
        (2, format!("{log}&pasword={SECRET}")),
        (2, log.replacen("localhost", "localhost:1x", 1)),
        (1, log.replacen("/shop_log", "/no_such", 1)),
        (1, log.replacen(SECRET, &format!("not-{SECRET}"), 1)),
    ] {
        it.fails(code, &["status", "--log", &place]);
    }
    let file = it.it.scripted(&manifest("ticks", "1.2.0"));
    it.fails(2, &["deploy", &file, "--read-models", &log]);
    server.stop();
    for args in [
        &["status"][..],
        &["append", "--stream", "s", "--type", "T", "--data", "1"],
        &["deploy", &file],
        &["query", "notes", "SELECT 1"],
        &["serve"],
    ] {
        it.fails(1, args);
    }

    for part in [
        "has its password in it",
        "hint: leave it to ~/.pgpass",
        "password authentication failed",
        "can't be reached",
    ] {
        assert!(it.said.contains(part), "{part}: {}", it.said);
    }
    for name in commands_with_an_instance() {
        assert!(it.commands.contains(&name), "{name} was not run");
    }
    for (what, text) in [("an output", &it.said), ("a table", &dump)] {
        let line = text.lines().find(|line| line.contains(SECRET));
        assert_eq!(line, None, "{what} has the password in it");
    }
}

#[test]
fn a_password_is_taken_from_where_the_url_says() {
    let url = cluster().new_database();
    let named = format!("{url}&password_env={VARIABLE}");
    let it = Instance::new(Where::Server(named.clone()), Where::Server(named));
    let missing = it.run(&["status"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(
        missing.stderr.contains("`SHOP_PASSWORD`, which is not set"),
        "{missing:?}"
    );
    let with = |args: &[&str]| {
        let mut command = it.command(args);
        command.env(VARIABLE, SECRET);
        ended(command.output().expect("retell runs"))
    };
    assert_eq!(with(&["init"]).code, Some(0));
    let file = it.scripted(&manifest("ticks", "1.0.0"));
    let deployed = with(&["deploy", "-q", &file, "--promote"]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    // The catalog remembers where the password is, and not what it is.
    let location = cluster().psql(database_of(&url), "SELECT location FROM retell.builds");
    assert!(
        location.contains("password_env=SHOP_PASSWORD"),
        "{location}"
    );
}

//! Every combination of where the log is and where the read models are comes to the same rows.

use crate::cluster::{Cluster, cluster};
use crate::content::seeded;
use crate::instance::{Instance, Where};
use crate::support::guest;
use crate::waiting::wait_until;

const GUESTS: [(&str, &str); 4] = [
    ("articles_v1", "articles@1.0.0"),
    ("articles_v2", "articles@2.0.0"),
    ("articles_v3", "articles@3.0.0"),
    ("discussions_v1", "discussions@1.0.0"),
];

/// The digests of all shipped versions after a replay of some events and following the rest.
fn digests(log: Where, read_models: Where) -> Vec<(u64, String)> {
    let events = seeded(7, 3_000);
    let it = Instance::initialised(log, read_models);
    it.append(&events[..2_000], 0);
    for (name, _) in GUESTS {
        let file = guest(name);
        let file = file.to_str().expect("paths here are UTF-8");
        it.ok(&["deploy", "-q", file, "--verify", "--promote"]);
    }
    it.append(&events[2_000..], 2_000);
    it.ok(&["catch-up", "-q"]);
    // To and fro: what readers get follows.
    it.ok(&["rollback", "-q", "articles"]);
    let live = it.json(&[
        "query",
        "articles",
        "SELECT version, role FROM retell_read_model",
    ]);
    assert_eq!(live[0]["version"], "2.0.0");
    it.ok(&["rollback", "-q", "articles"]);
    let digest = |name: &str| {
        let verified = it.json(&["verify", name]);
        assert_eq!(verified["verdict"], "same", "{verified}");
        it.digest(name)
    };
    GUESTS.iter().map(|(_, name)| digest(name)).collect()
}

#[test]
fn all_combinations_come_to_the_same_rows() {
    let server = || Where::Server(cluster().new_database());
    let one = server();
    let expected = digests(Where::Files, Where::Files);
    assert!(expected.iter().all(|(position, _)| *position == 3_000));
    for (log, read_models) in [
        (one.clone(), one),
        (server(), Where::Files),
        (Where::Files, server()),
        (server(), server()),
    ] {
        let name = format!("{log:?}, {read_models:?}");
        assert_eq!(digests(log, read_models), expected, "{name}");
    }
}

#[test]
fn a_version_can_be_moved_and_stays_where_it_is() {
    let [log, first, second] = [(); 3].map(|()| cluster().new_database());
    let it = Instance::initialised(Where::Server(log), Where::Server(first.clone()));
    it.append(&seeded(3, 500), 0);
    it.promote("articles_v1");
    let before = it.digest("articles@1.0.0");
    let location = |it: &Instance| {
        let version = it.version("articles@1.0.0").expect("it is there");
        version["location"].as_str().expect("a text").to_owned()
    };
    assert!(location(&it).starts_with(&first), "{}", location(&it));
    it.ok(&["move", "-q", "articles@1.0.0", "--read-models", &second]);
    assert!(location(&it).starts_with(&second), "{}", location(&it));
    assert_eq!(it.digest("articles@1.0.0"), before);
    // Readers find it by the same name there, and nothing is left behind.
    let schemas = |url: &str| {
        cluster().psql(
            database_of(url),
            "SELECT count(*) FROM pg_namespace
             WHERE nspname LIKE 'articles%' OR nspname LIKE 'retell\\_%\\_b%'",
        )
    };
    assert_eq!(schemas(&first), "0");
    assert_eq!(schemas(&second), "3");
    let rows = cluster().psql(
        database_of(&second),
        "SELECT count(*) > 0 FROM articles.article",
    );
    assert_eq!(rows, "t");
    // A version remembers where it is, whatever new ones do.
    it.ok(&["replay", "-q", "articles@1.0.0"]);
    assert!(location(&it).starts_with(&second), "{}", location(&it));
    it.ok(&["move", "-q", "articles@1.0.0", "--read-models", "files"]);
    assert!(
        location(&it).contains("/files/articles/build-"),
        "{}",
        location(&it)
    );
    assert_eq!(it.digest("articles@1.0.0"), before);
    assert_eq!(schemas(&second), "0");
    assert!(it.path("retell-data/read-models/articles/live.db").exists());
}

#[test]
fn a_server_that_is_gone_for_good_is_in_nobodys_way() {
    let gone = Cluster::new();
    let [log, other] = [(); 2].map(|()| cluster().new_database());
    let it = Instance::initialised(Where::Server(log), Where::Server(gone.new_database()));
    it.append(&seeded(3, 500), 0);
    it.promote("articles_v1");
    let before = it.digest("articles@1.0.0");
    let mut host = it.start(&["serve", "-q"]);
    gone.stop();
    it.ok(&["move", "-q", "articles@1.0.0", "--read-models", &other]);
    let count = "SELECT count(*) > 0 FROM articles.article";
    wait_until("readers find it by its name", || {
        let found = cluster().try_psql("postgres", database_of(&other), count);
        found.is_ok_and(|rows| rows.trim() == "t")
    });
    assert_eq!(it.digest("articles@1.0.0"), before);
    let file = guest("articles_v2");
    let file = file.to_str().expect("paths here are UTF-8");
    it.ok(&["deploy", "-q", file, "--promote", "--read-models", &other]);
    it.ok(&["rollback", "-q", "articles"]);
    let live = it.json(&["query", "articles", "SELECT version FROM retell_read_model"]);
    assert_eq!(live[0]["version"], "1.0.0");
    host.kill().expect("it runs");
    host.wait().expect("it ends");
}

#[test]
fn what_is_live_on_a_server_that_is_gone_can_be_replaced() {
    let gone = Cluster::new();
    let [log, other] = [(); 2].map(|()| cluster().new_database());
    let it = Instance::initialised(Where::Server(log), Where::Server(gone.new_database()));
    it.append(&seeded(3, 500), 0);
    it.promote("articles_v1");
    gone.stop();
    let file = guest("articles_v2");
    let file = file.to_str().expect("paths here are UTF-8");
    it.ok(&["deploy", "-q", file, "--read-models", &other]);
    let careful = it.run(&["promote", "articles@2.0.0"]);
    assert_eq!(careful.code, Some(1), "{careful:?}");
    it.ok(&["promote", "-q", "articles@2.0.0", "--accept-older"]);
    let rows = "SELECT count(*) > 0 FROM articles.article";
    assert_eq!(cluster().psql(database_of(&other), rows), "t");
}

pub(crate) fn database_of(url: &str) -> &str {
    let path = url.rsplit_once('/').map_or(url, |(_, _)| url);
    let start = path.find("localhost/").expect("the cluster's URLs") + "localhost/".len();
    path[start..].split('?').next().expect("a name")
}

/// A host that starts again knows no rows, and must not ask for them one by one.
#[test]
fn a_cold_cache_costs_round_trips_by_the_batch() {
    let [log, read_models] = [(); 2].map(|()| cluster().new_database());
    let it = Instance::initialised(Where::Server(log), Where::Server(read_models.clone()));
    let events = seeded(17, 8_000);
    it.append(&events[..4_000], 0);
    it.promote("articles_v1");
    it.append(&events[4_000..], 4_000);
    let questions = || -> u64 {
        let count = cluster().psql(
            "postgres",
            &format!(
                "SELECT pg_stat_clear_snapshot(), xact_commit FROM pg_stat_database
                 WHERE datname = '{}'",
                database_of(&read_models)
            ),
        );
        count.trim_start_matches('|').parse().expect("a number")
    };
    let before = questions();
    it.ok(&["catch-up", "-q"]);
    // The server counts a session's transactions when it ends, at the latest.
    wait_until("the sessions have ended", || {
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
            database_of(&read_models)
        );
        cluster().psql("postgres", &sessions) == "0"
    });
    let asked = questions() - before;
    assert!(asked > 0, "nothing was counted");
    assert!(asked < 200, "{asked} transactions for 4,000 events");
    let files = Instance::initialised(Where::Files, Where::Files);
    files.append(&events, 0);
    files.promote("articles_v1");
    assert_eq!(it.digest("articles@1.0.0"), files.digest("articles@1.0.0"));
}

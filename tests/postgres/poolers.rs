//! Poolers between the host and the server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::cluster::{as_postgres, cluster};
use crate::everywhere::database_of;
use crate::instance::{Instance, Where};
use crate::waiting::wait_until;

/// PgBouncer in front of the cluster. It goes with its folder.
struct Pooler {
    folder: tempfile::TempDir,
    process: Child,
}

impl Pooler {
    fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), everybody).expect("the folder is ours");
        let config = format!(
            "[databases]\n* = host={}\n\
             [pgbouncer]\nunix_socket_dir = {}\nlisten_port = 6432\npool_mode = {mode}\n\
             auth_type = any\nlogfile = {}\npidfile = {}\n",
            cluster().folder().display(),
            folder.path().display(),
            folder.path().join("log").display(),
            folder.path().join("pid").display(),
        );
        // Whom nobody knows is let in as the superuser.
        let config = config.replace("* = host=", "* = user=postgres host=");
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("the folder is ours");
        let process = as_postgres(folder.path())
            .arg(program())
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer can be started");
        let pooler = Self { folder, process };
        let socket = pooler.folder.path().join(".s.PGSQL.6432");
        wait_until("PgBouncer listens", || socket.exists());
        pooler
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres://postgres@localhost:6432/{database}?host={folder}")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| Path::new(program).exists())
        .expect("PgBouncer is missing: run `make setup`, or install `pgbouncer`")
}

#[test]
fn one_that_gives_each_transaction_another_session_is_refused() {
    let database = database_of(&cluster().new_database()).to_owned();
    let pooler = Pooler::start("transaction");
    let it = Instance::new(Where::Server(pooler.url(&database)), Where::Files);
    for args in [&["init"][..], &["status"], &["serve"]] {
        let refused = it.run(args);
        assert_eq!(refused.code, Some(1), "{args:?}: {refused:?}");
        assert!(
            refused
                .stderr
                .contains("a pooler that gives each transaction another session"),
            "{args:?}: {refused:?}"
        );
        assert!(
            refused.stderr.contains("hint: name the server itself"),
            "{refused:?}"
        );
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'retell'";
    assert_eq!(cluster().psql(&database, schemas), "0", "nothing was made");
}

#[test]
fn one_that_keeps_a_session_for_each_client_is_fine() {
    let database = database_of(&cluster().new_database()).to_owned();
    let pooler = Pooler::start("session");
    let server = || Where::Server(pooler.url(&database));
    let it = Instance::initialised(server(), server());
    it.ok(&[
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ]);
    let file = it.scripted(&crate::scripts::manifest("ticks", "1.0.0"));
    it.ok(&["deploy", "-q", &file, "--promote"]);
    assert_eq!(
        it.json(&["query", "ticks", "SELECT position FROM seen"])[0]["position"],
        1
    );
}

//! A throwaway PostgreSQL cluster for one test process: started by the first test that needs it,
//! gone with the process, however that ends.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cluster lives as long as somebody holds the other end of the shell's standard input.
const SUPERVISE: &str = r#"
folder=$1 bin=$2
"$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/log" 2>&1 &&
printf "%s\n" "unix_socket_directories = '$folder'" "listen_addresses = ''" "max_connections = 200" "$3" >>"$folder/data/postgresql.conf" &&
"$bin/pg_ctl" start -w -D "$folder/data" -l "$folder/log" >>"$folder/log" 2>&1 &&
echo ready || { cat "$folder/log" >&2; exit 1; }
cat >/dev/null
"$bin/pg_ctl" stop -m immediate -D "$folder/data" >/dev/null 2>&1
rm -rf "$folder"
"#;

pub(crate) struct Cluster {
    folder: PathBuf,
    bin: PathBuf,
    databases: AtomicU32,
    _supervisor: Child,
    _alive: ChildStdin,
}

/// The cluster of this process.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::new);
    &CLUSTER
}

impl Cluster {
    /// One more, for a test that does to it what others would not survive.
    pub(crate) fn new() -> Self {
        Self::with_settings(&["fsync = off"])
    }

    /// One with settings of `postgresql.conf`.
    pub(crate) fn with_settings(settings: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bin = programs();
        let name = format!(
            "retell-pg-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the cluster");
        let mut shell = as_postgres(&folder);
        let mut supervisor = shell
            .args(["sh", "-c", SUPERVISE, "sh"])
            .args([&folder, &bin])
            .arg(settings.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let alive = supervisor.stdin.take().expect("it was piped");
        let mut answer = String::new();
        BufReader::new(supervisor.stdout.take().expect("it was piped"))
            .read_line(&mut answer)
            .expect("the shell answers");
        assert_eq!(
            answer, "ready\n",
            "a throwaway PostgreSQL cluster could not be started, see above"
        );
        Self {
            folder,
            bin,
            databases: AtomicU32::new(0),
            _supervisor: supervisor,
            _alive: alive,
        }
    }

    /// An empty database, as the URL of the cluster's superuser.
    pub(crate) fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url("postgres", &name)
    }

    /// The URL of a role and a database.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://{role}@localhost/{database}?host={folder}")
    }

    /// The folder with the server's socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs SQL as the superuser, and returns what it prints.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql("postgres", database, sql)
            .unwrap_or_else(|error| panic!("psql failed: {error}"))
    }

    /// Runs SQL as any role. An error is what psql says, SQLSTATE included.
    pub(crate) fn try_psql(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(self.bin.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-v", "VERBOSITY=verbose", "-U", role, "-d", database, "-h"])
            .arg(&self.folder)
            .args(["-c", sql])
            .output()
            .expect("psql can be run");
        if ran.status.success() {
            Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&ran.stderr).into_owned())
        }
    }

    /// Everything that is in a database, as SQL in which bytes are readable where they are text.
    pub(crate) fn dump(&self, database: &str) -> String {
        let ran = Command::new(self.bin.join("pg_dump"))
            .args(["-U", "postgres", "-d", database, "-h"])
            .arg(&self.folder)
            .env("PGOPTIONS", "-c bytea_output=escape")
            .output()
            .expect("pg_dump can be run");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "pg_dump failed: {said}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// A session of the superuser that lasts from one question to the next.
    pub(crate) fn session(&self, database: &str) -> Session {
        let mut psql = Command::new(self.bin.join("psql"))
            .args([
                "-X", "-A", "-t", "-q", "-U", "postgres", "-d", database, "-h",
            ])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql can be run");
        let answers = BufReader::new(psql.stdout.take().expect("it was piped"));
        Session { psql, answers }
    }

    /// As a crash of the server would: nothing is written before it goes.
    pub(crate) fn restart_immediately(&self) {
        self.control(&["restart", "-w", "-m", "immediate"]);
    }

    pub(crate) fn stop(&self) {
        self.control(&["stop", "-w", "-m", "fast"]);
    }

    /// After [`stop`](Self::stop).
    pub(crate) fn start(&self) {
        self.control(&["start", "-w"]);
    }

    fn control(&self, what: &[&str]) {
        // Not captured: the server would hold the pipe's other end.
        let ran = as_postgres(&self.folder)
            .arg(self.bin.join("pg_ctl"))
            .args(what)
            .arg("-D")
            .arg(self.folder.join("data"))
            .arg("-l")
            .arg(self.folder.join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl can be run");
        assert!(ran.success(), "pg_ctl {what:?} failed");
    }
}

/// See [`Cluster::session`].
pub(crate) struct Session {
    psql: Child,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// What the server answers, or its error message.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        const END: &str = "end of the answer";
        let stdin = self.psql.stdin.as_mut().expect("it was piped");
        // The error goes where the answer goes, in order.
        let line =
            format!("{sql};\n\\if :ERROR\n\\echo :LAST_ERROR_MESSAGE\n\\endif\n\\echo {END}\n");
        stdin.write_all(line.as_bytes()).expect("psql listens");
        let mut answer = Vec::new();
        loop {
            let mut line = String::new();
            self.answers.read_line(&mut line).expect("psql answers");
            match line.trim_end() {
                END => return answer.join("\n"),
                line => answer.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// Where the newest PostgreSQL's programs are.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = version(&path)?;
            path.join("bin/initdb").exists().then_some((number, path))
        })
        .max();
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    });
    newest.map(|(_, path)| path.join("bin")).or(on_path).expect(
        "PostgreSQL's server programs are missing: run `make setup`, or install `postgresql`",
    )
}

/// The beginning of a command that runs as somebody whom `initdb` accepts: it refuses root.
pub(crate) fn as_postgres(folder: &Path) -> Command {
    let is_root = Command::new("id").arg("-u").output();
    if is_root.is_ok_and(|id| id.stdout.starts_with(b"0\n")) {
        let owned = Command::new("chown").arg("postgres").arg(folder).status();
        assert!(
            owned.is_ok_and(|status| status.success()),
            "there is no user `postgres` to run a cluster as"
        );
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ]);
        command.current_dir(folder);
        command
    } else {
        let mut command = Command::new("env");
        command.current_dir(folder);
        command
    }
}

//! An instance in a folder of its own, the processes that work on it, and what must be true of it
//! whatever happened to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use retell::crash_point::CrashPoint;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

use crate::content::{Content, Fold};
use crate::support::{self, retell};

/// What anything may take, on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a process left behind; failures print all of it.
#[derive(Debug)]
#[allow(dead_code, reason = "what it said on stderr is only printed")]
pub(crate) struct Ended {
    /// None: it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Whatever became of it, it did not end without a word that helps.
    #[track_caller]
    pub(crate) fn assert_explains_itself(&self, what: &str) {
        assert!(!self.stderr.contains("panicked"), "{what}: {self:?}");
        match self.code {
            // Killed, done, or told to stop.
            None | Some(0 | 130) => {}
            Some(1 | 3 | 4) => assert!(self.stderr.contains("error: "), "{what}: {self:?}"),
            Some(_) => panic!("{what}: {self:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("--json prints JSON")
    }
}

/// A running `retell`. A test that fails kills it.
pub(crate) struct Running {
    child: Child,
    args: String,
    /// Files and no pipes, which would be full some time.
    stdout: File,
    stderr: File,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let file = || tempfile::tempfile().expect("a temporary file");
        let (stdout, stderr) = (file(), file());
        let same = |file: &File| file.try_clone().expect("a file can be shared");
        let args: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        let args = args.join(" ");
        command.stdout(same(&stdout)).stderr(same(&stderr));
        Self {
            child: command.spawn().expect("retell runs"),
            args,
            stdout,
            stderr,
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .is_none()
    }

    /// `kill -9`. It may have ended by itself before.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("a child can be killed");
        self.ended()
    }

    /// SIGTERM, on which it puts everything in order.
    #[track_caller]
    pub(crate) fn terminate(self) -> Ended {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Stops it as it stands, until it is thawed or killed.
    #[allow(unsafe_code, reason = "the standard library does not wait for a stop")]
    pub(crate) fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: the pid is that of a child not yet waited for, and the status is written to.
        let stopped = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WUNTRACED) };
        assert!(
            stopped == self.pid() && libc::WIFSTOPPED(status),
            "`{}` ended",
            self.args
        );
    }

    pub(crate) fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn pid(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.child.id()).expect("a pid is one")
    }

    #[allow(
        unsafe_code,
        reason = "the standard library sends no signals but SIGKILL"
    )]
    fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill(2) has no preconditions; the child was not waited for, so the pid is its.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let began = Instant::now();
        while self.is_alive() {
            assert!(began.elapsed() < DEADLINE, "`{}` hangs", self.args);
            std::thread::sleep(POLL_INTERVAL);
        }
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().expect("a child can be waited for");
        let text = |file: &mut File| {
            let mut text = String::new();
            file.seek(SeekFrom::Start(0)).expect("files can");
            file.read_to_string(&mut text).expect("retell writes UTF-8");
            text
        };
        Ended {
            code: status.code(),
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What befalls a process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doom {
    /// It dies there, if it comes by.
    CrashPoint(CrashPoint),
    /// No file gets larger than that; a write fails then as it does on a full disk.
    FullDisk { file_bytes_max: u64 },
}

/// A folder with a log and read models in it.
pub(crate) struct Instance {
    folder: TempDir,
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.data().join("read-models/articles/live.db")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = retell();
        command
            .arg("--data")
            .arg(self.data())
            .args(args)
            .env_remove("RETELL_DATA")
            .env_remove("RETELL_LOG")
            .env_remove("RETELL_READ_MODELS")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// As `start`, for a process that something may befall.
    pub(crate) fn start_doomed(&self, args: &[&str], doom: Option<Doom>) -> Running {
        Running::start(self.doomed(args, doom))
    }

    fn doomed(&self, args: &[&str], doom: Option<Doom>) -> Command {
        let plain = self.command(args);
        match doom {
            None => plain,
            Some(Doom::CrashPoint(point)) => {
                let mut command = plain;
                command.env("RETELL_CRASH_POINT", point.name());
                command
            }
            Some(Doom::FullDisk { file_bytes_max }) => {
                let blocks = file_bytes_max / 512;
                let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
                let mut command = Command::new("sh");
                command.args(["-c", &line, "sh"]).arg(plain.get_program());
                command.args(plain.get_args()).stdin(Stdio::null());
                for (name, value) in plain.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
        }
    }

    /// `retell append`, with lines on its standard input.
    pub(crate) fn start_append(&self, lines: &str) -> Running {
        self.start_append_doomed(lines, None)
    }

    /// As `start_append`, for a process that something may befall.
    pub(crate) fn start_append_doomed(&self, lines: &str, doom: Option<Doom>) -> Running {
        let mut command = self.doomed(&["append", "--json", "-"], doom);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let mut stdin = running.child.stdin.take().expect("it is piped");
        // It may be gone already.
        let written = stdin.write_all(lines.as_bytes());
        assert!(
            doom.is_some() || written.is_ok(),
            "it reads all that it gets: {written:?}"
        );
        running
    }

    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.start(args).wait()
    }

    /// Appends all events, whose first is the log's event `first`, counted from 0.
    #[track_caller]
    pub(crate) fn append(&self, events: &[Content], first: usize) {
        let lines = (events.iter().enumerate()).map(|(n, event)| event.line(first + n));
        self.append_lines(&lines.collect::<String>());
    }

    #[track_caller]
    pub(crate) fn append_lines(&self, lines: &str) {
        let file = self.folder.path().join("events.ndjson");
        std::fs::write(&file, lines).expect("a temporary folder is writable");
        let file = file.to_str().expect("a temporary folder has a plain name");
        self.run(&["append", file]).ok();
    }

    /// `retell serve`, working.
    #[track_caller]
    pub(crate) fn serve(&self) -> Running {
        self.start(&["serve"])
    }

    pub(crate) fn status(&self) -> Vec<Value> {
        let status = self.run(&["status", "--json"]).json();
        status.as_array().expect("a list").clone()
    }

    pub(crate) fn version(&self, name: &str) -> Option<Value> {
        let status = self.status();
        let named =
            |it: &&Value| format!("{}@{}", text(it, "projection"), text(it, "version")) == name;
        status.iter().find(named).cloned()
    }

    pub(crate) fn location(&self, name: &str) -> PathBuf {
        let version = self.version(name).expect("it is deployed");
        PathBuf::from(text(&version, "location"))
    }

    /// Position and digest of a version's content.
    #[track_caller]
    pub(crate) fn digest(&self, name: &str) -> (u64, String) {
        let digest = self.run(&["digest", "--json", name]).json();
        let position = digest["position"].as_u64().expect("a number");
        (position, text(&digest, "digest").to_owned())
    }

    /// What holds at any time, also right after a kill: names lead somewhere, and roles are sane.
    #[track_caller]
    pub(crate) fn assert_sane(&self) {
        for entry in files(&self.data().join("read-models")) {
            if entry.is_symlink() {
                assert!(entry.exists(), "{} leads nowhere", entry.display());
            }
        }
        let mut roles: BTreeMap<(String, String), u32> = BTreeMap::new();
        let mut projections = BTreeSet::new();
        for version in self.status() {
            let projection = text(&version, "projection").to_owned();
            let role = text(&version, "role").to_owned();
            projections.insert(projection.clone());
            *roles.entry((projection, role)).or_default() += 1;
        }
        for projection in projections {
            let count = |role: &str| {
                let key = (projection.clone(), role.to_owned());
                roles.get(&key).copied().unwrap_or(0)
            };
            assert!(count("live") <= 1, "{projection}: {roles:?}");
            assert!(count("previous") <= 1, "{projection}: {roles:?}");
        }
    }

    /// What holds once work was finished: every file belongs to a build or is a name of one, there
    /// is one live version, and everything equals an instance that nobody disturbed.
    #[track_caller]
    pub(crate) fn assert_as_undisturbed(&self, events: &[Content], guests: &[&str]) {
        self.assert_sane();
        self.assert_no_orphans();
        let live = self.status();
        let live = live.iter().filter(|it| it["role"] == "live");
        let live: Vec<_> = live.filter(|it| it["projection"] == "articles").collect();
        assert_eq!(live.len(), 1, "{live:?}");
        assert_eq!(text(live[0], "halt"), "none");
        let target = self.live().canonicalize().expect("live.db leads somewhere");
        let location = Path::new(text(live[0], "location")).canonicalize();
        assert_eq!(target, location.expect("the live read model is there"));

        self.assert_log_is(events);
        let undisturbed = Self::new();
        undisturbed.append(events, 0);
        for guest in guests {
            undisturbed.deploy(guest);
            let name = name_of(guest);
            assert_eq!(self.digest(name), undisturbed.digest(name), "{name}");
        }
        let fold = Fold::of(events);
        for guest in guests {
            match *guest {
                "articles_v1" => fold.assert_is_version_1(&self.location(name_of(guest))),
                "articles_v2" => fold.assert_is_version_2(&self.location(name_of(guest))),
                _ => {}
            }
        }
    }

    #[track_caller]
    pub(crate) fn deploy(&self, guest: &str) {
        self.run(&["deploy", &file_of(guest)]).ok();
    }

    /// Every event is there once, in order, and nothing else.
    #[track_caller]
    fn assert_log_is(&self, events: &[Content]) {
        let printed = self.run(&["events"]).ok();
        let ids: Vec<String> = printed
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect("events prints JSON");
                text(&event, "id").to_owned()
            })
            .collect();
        let expected: Vec<String> = (0..events.len()).map(|n| format!("event-{n}")).collect();
        assert_eq!(ids, expected);
    }

    #[track_caller]
    pub(crate) fn assert_no_orphans(&self) {
        let mut builds = BTreeSet::new();
        for version in self.status() {
            for location in [&version["location"], &version["successor"]["location"]] {
                if let Some(location) = location.as_str() {
                    let location = Path::new(location).to_owned();
                    assert!(location.exists(), "{} is missing", location.display());
                    builds.insert(location.canonicalize().expect("it exists"));
                }
            }
        }
        for file in files(&self.data().join("read-models")) {
            let name = file
                .file_name()
                .expect("it has one")
                .to_string_lossy()
                .into_owned();
            if file.is_symlink() {
                let target = file.canonicalize().expect("it leads somewhere");
                assert!(
                    builds.contains(&target),
                    "{name} leads to {}",
                    target.display()
                );
                assert!(!name.starts_with('.'), "{name} was left behind");
            } else if name != "lease.lock" {
                let base = ["-wal", "-shm"].iter().find_map(|it| name.strip_suffix(it));
                let build = file.with_file_name(base.unwrap_or(&name)).canonicalize();
                let known = build.is_ok_and(|it| builds.contains(&it));
                assert!(known, "{name} is nobody's");
            }
        }
    }
}

/// What a program saw that opens `live.db` again and again, across kills.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reads: u64,
    /// Reads of a version that was displaced after the opening, or is live and not told yet.
    late: u64,
    pub(crate) position: u64,
}

impl Seen {
    /// Reads once. `Err`: the read model was dropped just then, as a retirement or a swap may do
    /// after this reader followed the link.
    pub(crate) fn look(&mut self, live: &Path) -> Result<(), String> {
        let connection = Connection::open_with_flags(live, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|error| format!("{error} after {self:?}"))?;
        connection.busy_timeout(DEADLINE).expect("a setting");
        let sql = "SELECT position, role FROM retell_read_model";
        let (position, role): (u64, String) = connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|error| format!("{error} after {self:?}"))?;
        if role != "live" {
            self.late += 1;
            return Ok(());
        }
        assert!(position >= self.position, "{position} after {self:?}");
        self.position = position;
        self.reads += 1;
        Ok(())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| {
            if path.is_dir() && !path.is_symlink() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[track_caller]
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let found = value[key].as_str();
    found.unwrap_or_else(|| panic!("`{key}` is no text in {value}"))
}

pub(crate) fn file_of(guest: &str) -> String {
    let file = support::guest(guest);
    file.to_str()
        .expect("cargo's folder has a plain name")
        .to_owned()
}

pub(crate) fn name_of(guest: &str) -> &'static str {
    match guest {
        "articles_v1" => "articles@1.0.0",
        "articles_v2" => "articles@2.0.0",
        "articles_v3" => "articles@3.0.0",
        "discussions_v1" => "discussions@1.0.0",
        other => panic!("what is {other} called?"),
    }
}

/// Where a test's random moments come from. A failure prints the seed; `RETELL_SEED` sets it.
pub(crate) struct Dice {
    rng: StdRng,
    pub(crate) seed: u64,
    /// Others are drawn from it.
    is_first: bool,
}

impl Dice {
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("RETELL_SEED") {
            Ok(seed) => seed.parse().expect("RETELL_SEED is a number"),
            Err(_) => rand::random(),
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            seed,
            is_first: true,
        }
    }

    /// Dice of their own for somebody else, drawn from these.
    pub(crate) fn another(&mut self) -> Self {
        let seed = self.rng.random();
        Self {
            rng: StdRng::seed_from_u64(seed),
            seed,
            is_first: false,
        }
    }

    /// Lets up to `most` pass.
    pub(crate) fn pause(&mut self, most: Duration) {
        std::thread::sleep(most.mul_f64(self.rng.random()));
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    pub(crate) fn number(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }
}

impl Drop for Dice {
    #[allow(
        clippy::print_stderr,
        reason = "the test harness shows it with the failure"
    )]
    fn drop(&mut self) {
        if self.is_first && std::thread::panicking() {
            eprintln!("the same delays again: RETELL_SEED={}", self.seed);
        }
    }
}

/// How long `work` takes here and now, so that kills come while it runs, on any machine.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

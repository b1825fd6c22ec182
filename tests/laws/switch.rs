//! The switch: while versions take turns at being live and events keep coming, a program that opens
//! `live.db` always finds a read model, and never one that is behind what it saw before.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use retell::event::Position;
use retell::lifecycle::state::{Role, State};
use retell::lifecycle::{Access, Done, Host, Phase, Request, Scope, View};
use retell::log::AppendRequest;
use retell::read_model::sqlite::SqliteReadModel;
use rusqlite::{Connection, OpenFlags};
use semver::Version;

use crate::content::{self, Content, Fold};
use crate::engine;
use crate::waiting::StopOnDrop;

const SEED: u64 = 0x7265_7465_6c6c;
const SWITCHES: usize = 60;
/// What each step may take, on the slowest machine.
const DEADLINE: Duration = Duration::from_mins(1);

const FIRST: Version = Version::new(1, 0, 0);
const SECOND: Version = Version::new(2, 0, 0);

/// What a program saw that opened `live.db` again and again.
#[derive(Debug, Default)]
struct Seen {
    reads: u64,
    /// Reads of a version that was displaced between the opening and the reading, and says so.
    late: u64,
    position: Position,
    versions: BTreeSet<String>,
}

fn read(live: &Path, seen: &mut Seen) {
    let connection = Connection::open_with_flags(live, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap_or_else(|error| panic!("after {seen:?}: {error}"));
    connection.busy_timeout(DEADLINE).expect("a setting");
    let sql = "SELECT position, version, role FROM retell_read_model";
    let (position, version, role): (Position, String, String) = connection
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap_or_else(|error| panic!("after {seen:?}: {error}"));
    if role != "live" {
        seen.late += 1;
        return;
    }
    assert!(
        position >= seen.position,
        "{version} is at {position} after {seen:?}"
    );
    seen.position = position;
    seen.versions.insert(version);
    seen.reads += 1;
}

/// Appends events until told to stop; says how many there are then.
fn append_until(stop: &AtomicBool, host: &Host, runtime: &tokio::runtime::Runtime) -> usize {
    let events = content::seeded(SEED, 2_000);
    let mut count = usize::try_from(runtime.block_on(host.log.head()).expect("a head").position)
        .expect("tests are short");
    while !stop.load(Ordering::Relaxed) {
        let batch = 1 + count % 9;
        let events = (count..count + batch).map(|n| events[n % events.len()].event(n));
        let request = AppendRequest {
            events: events.collect(),
            expected: Vec::new(),
        };
        runtime
            .block_on(host.log.append(request))
            .expect("it is appended");
        count += batch;
    }
    count
}

/// Waits until `look` has seen what it waits for.
async fn until<T>(access: &mut Access, look: impl FnMut(&View) -> Option<T>) -> T {
    let seen = tokio::time::timeout(DEADLINE, access.until(look)).await;
    seen.expect("not in time").expect("the supervisor goes on")
}

async fn switch(access: &mut Access, request: Request) -> (Option<Version>, Version, Position) {
    let done = tokio::time::timeout(DEADLINE, access.request(request)).await;
    match done.expect("not in time").expect("it is possible") {
        Done::Switched { from, to, position } => (from, to, position),
        other => panic!("a switch ended as {other:?}"),
    }
}

fn promote(version: &Version) -> Request {
    Request::Promote {
        version: version.clone(),
        accept_older: false,
        may_be_live: false,
        accept_dead_letters: false,
    }
}

fn rollback(from: &Version) -> Request {
    Request::Rollback {
        from: from.clone(),
        accept_older: false,
    }
}

/// Both versions, ready, the first one live.
async fn two_versions(host: &Arc<Host>) -> Access {
    engine::register(host, "articles_v1").await;
    engine::register(host, "articles_v2").await;
    let mut access = Access::new(host.clone(), "articles", Scope::All);
    until(&mut access, |view| {
        let ready = |it: &&_| -> bool {
            let it: &retell::catalog::VersionRecord = it;
            it.status.state == State::Ready
        };
        (view.versions.iter().filter(ready).count() == 2).then_some(())
    })
    .await;
    switch(&mut access, promote(&FIRST)).await;
    access
}

fn builds(view: &View) -> Vec<i64> {
    view.versions
        .iter()
        .flat_map(|it| [&it.current, &it.successor])
        .flatten()
        .map(|build| build.id)
        .collect()
}

#[test]
fn readers_never_go_back_and_a_rollback_builds_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = engine::runtime();
    let host = runtime.block_on(engine::host(folder.path()));
    let events = content::seeded(SEED, 2_000);
    runtime.block_on(async {
        let log = engine::open_log(folder.path()).await;
        engine::append(&log, &events[..500], 0).await;
    });
    let mut access = runtime.block_on(two_versions(&host));
    let live = folder.path().join("read-models/articles/live.db");

    let stop = AtomicBool::new(false);
    let (seen, appended) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                read(&live, &mut seen);
            }
            read(&live, &mut seen);
            seen
        });
        let appender = scope.spawn(|| append_until(&stop, &host, &runtime));
        // Else a failure in here would wait for threads that never end.
        let stopper = StopOnDrop(&stop);
        runtime.block_on(take_turns(&mut access));
        drop(stopper);
        (
            reader.join().expect("the reader saw no fault"),
            appender.join().expect("the appender met no fault"),
        )
    });
    assert_eq!(seen.versions.len(), 2, "{seen:?}");
    assert!(seen.reads > SWITCHES as u64, "{seen:?}");

    let all: Vec<Content> = (0..appended)
        .map(|n| events[n % events.len()].clone())
        .collect();
    let head = appended as Position;
    let paths = runtime.block_on(until(&mut access, |view| {
        let path = |version: &Version| {
            let build = view.version(version)?.current.as_ref()?;
            let there = view.progress.get(&build.id)?.position == head;
            there.then(|| host.places.home.join(&build.location))
        };
        Some([path(&FIRST)?, path(&SECOND)?])
    }));
    runtime.block_on(access.close());
    let fold = Fold::of(&all);
    fold.assert_is_version_1(&paths[0]);
    fold.assert_is_version_2(&paths[1]);
}

async fn take_turns(access: &mut Access) {
    let mut live = FIRST;
    let mut shown = 0;
    let built = until(access, |view| Some(builds(view))).await;
    for turn in 0..SWITCHES {
        let other = if live == FIRST { SECOND } else { FIRST };
        // Every third is a promotion; two rollbacks in a row undo each other.
        let request = if turn % 3 == 0 {
            promote(&other)
        } else {
            // It was followed all the time: there is nothing to do but to switch.
            until(access, |view| {
                let previous = view.version(&other)?;
                assert_eq!(previous.status.role, Role::Previous);
                let build = previous.current.as_ref()?;
                let phase = &view.progress.get(&build.id)?.phase;
                matches!(phase, Phase::Following).then_some(())
            })
            .await;
            rollback(&live)
        };
        let (from, to, position) = switch(access, request).await;
        assert_eq!((from.as_ref(), &to), (Some(&live), &other), "turn {turn}");
        assert!(position >= shown, "turn {turn}: {position} after {shown}");
        shown = position;
        live = to;
        let now = until(access, |view| {
            let roles = view.versions.iter().map(|it| it.status.role);
            assert_eq!(roles.clone().filter(|it| *it == Role::Live).count(), 1);
            assert_eq!(roles.filter(|it| *it == Role::Previous).count(), 1);
            Some(builds(view))
        });
        assert_eq!(now.await, built, "turn {turn}: a switch builds nothing");
    }
}

#[test]
fn a_switch_stands_when_nobody_serves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = engine::runtime();
    let host = runtime.block_on(engine::host(folder.path()));
    let events = content::seeded(SEED + 1, 400);
    let mut access = runtime.block_on(async {
        let log = engine::open_log(folder.path()).await;
        engine::append(&log, &events, 0).await;
        two_versions(&host).await
    });
    runtime.block_on(access.close());
    // Each turn takes the lease anew, as one command after the other does, and events came between.
    let live = folder.path().join("read-models/articles/live.db");
    let mut seen = Seen::default();
    let more = content::seeded(SEED + 2, 50);
    for turn in 0..10 {
        runtime.block_on(async {
            let log = engine::open_log(folder.path()).await;
            engine::append(&log, &more[turn * 5..][..5], 400 + turn * 5).await;
            let mut access = Access::new(host.clone(), "articles", Scope::Only(Vec::new()));
            let other = if turn % 2 == 0 { SECOND } else { FIRST };
            let (_, to, _) = switch(&mut access, promote(&other)).await;
            assert_eq!(to, other);
            access.close().await;
        });
        read(&live, &mut seen);
    }
    let digest = SqliteReadModel::status(&live).expect("it can be read");
    assert_eq!(digest.provenance.version, "1.0.0");
    assert_eq!(digest.role, Role::Live);
}

//! A request that was left with another holder of the lease, who is gone before it answers: it is
//! carried out once, whether or not the holder came to it.

use std::sync::Arc;
use std::time::Duration;

use retell::lifecycle::state::{Role, State};
use retell::lifecycle::{Access, Done, Host, LifecycleError, Request, Scope};
use semver::Version;

use crate::content;
use crate::engine;

const DEADLINE: Duration = Duration::from_mins(1);
const FIRST: Version = Version::new(1, 0, 0);
const SECOND: Version = Version::new(2, 0, 0);

fn rollback(from: &Version) -> Request {
    Request::Rollback {
        from: from.clone(),
        accept_older: false,
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

async fn live(host: &Host) -> Option<Version> {
    let versions = host.catalog.versions("articles").await.expect("a catalog");
    let live = versions.into_iter().find(|it| it.status.role == Role::Live);
    live.map(|it| it.version)
}

/// A host that works on two ready versions, the second one live.
async fn holder(host: &Arc<Host>) -> Access {
    engine::register(host, "articles_v1").await;
    engine::register(host, "articles_v2").await;
    let mut access = Access::new(host.clone(), "articles", Scope::All);
    let ready = access.until(|view| {
        let ready = view
            .versions
            .iter()
            .all(|it| it.status.state == State::Ready);
        ready.then_some(())
    });
    let ready = tokio::time::timeout(DEADLINE, ready).await;
    ready.expect("not in time").expect("the supervisor goes on");
    for version in [&FIRST, &SECOND] {
        let done = access.request(promote(version)).await;
        done.expect("a ready version can be promoted");
    }
    access
}

/// Leaves `asked` with a holder that does `instead` and is gone without an answer.
async fn abandoned(
    host: &Arc<Host>,
    asked: Request,
    instead: Option<Request>,
) -> Result<Done, LifecycleError> {
    let mut holder = holder(host).await;
    let waiting = tokio::spawn({
        let host = host.clone();
        async move {
            let mut access = Access::new(host, "articles", Scope::Only(Vec::new()));
            let done = access.request(asked).await;
            access.close().await;
            done
        }
    });
    let left = async {
        loop {
            let open = host.catalog.open_requests("articles").await;
            if !open.expect("a catalog").is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, left)
        .await
        .expect("not in time");
    if let Some(request) = instead {
        holder.request(request).await.expect("it is possible");
    }
    holder.close().await;
    let done = tokio::time::timeout(DEADLINE, waiting).await;
    let open = host.catalog.open_requests("articles").await;
    assert!(
        open.expect("a catalog").is_empty(),
        "nothing is left behind"
    );
    done.expect("not in time").expect("no panic")
}

fn with_host(test: impl AsyncFnOnce(Arc<Host>)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    engine::runtime().block_on(async {
        let host = engine::host(folder.path()).await;
        let log = engine::open_log(folder.path()).await;
        engine::append(&log, &content::seeded(1, 50), 0).await;
        test(host).await;
    });
}

#[test]
fn what_the_holder_never_came_to_is_done() {
    with_host(async |host| {
        let done = abandoned(&host, rollback(&SECOND), None).await;
        assert!(
            matches!(&done, Ok(Done::Switched { to, position: 50, .. }) if *to == FIRST),
            "{done:?}"
        );
        assert_eq!(live(&host).await, Some(FIRST));
    });
}

#[test]
fn a_rollback_that_was_done_is_not_undone_by_doing_it_again() {
    with_host(async |host| {
        let done = abandoned(&host, rollback(&SECOND), Some(rollback(&SECOND))).await;
        assert!(
            matches!(
                &done,
                Ok(Done::Switched { from: Some(from), to, position: 50 })
                    if *from == SECOND && *to == FIRST
            ),
            "{done:?}"
        );
        assert_eq!(live(&host).await, Some(FIRST));
    });
}

#[test]
fn a_promotion_that_was_done_is_not_refused() {
    with_host(async |host| {
        let done = abandoned(&host, promote(&FIRST), Some(promote(&FIRST))).await;
        assert!(
            matches!(&done, Ok(Done::Switched { to, .. }) if *to == FIRST),
            "{done:?}"
        );
    });
}

#[test]
fn a_retirement_that_was_done_is_not_refused() {
    with_host(async |host| {
        let retire = Request::Retire { version: FIRST };
        let done = abandoned(&host, retire.clone(), Some(retire)).await;
        assert!(matches!(done, Ok(Done::Retired)), "{done:?}");
    });
}

#[test]
fn a_replay_that_was_begun_goes_on() {
    with_host(async |host| {
        let replay = Request::Replay {
            version: SECOND,
            until: None,
            to: None,
        };
        let done = abandoned(&host, replay.clone(), Some(replay)).await;
        let Ok(Done::ReplayBegun { build }) = done else {
            panic!("{done:?}");
        };
        // The same once more, by the next command: it is the same build, until that is in place.
        let mut access = Access::new(host.clone(), "articles", Scope::Only(vec![SECOND]));
        let swapped = access.until(|view| {
            let record = view.version(&SECOND)?;
            let current = record.current.as_ref()?.id;
            record.successor.is_none().then_some(current)
        });
        let swapped = tokio::time::timeout(DEADLINE, swapped).await;
        assert_eq!(swapped.expect("not in time").expect("it goes on"), build);
        access.close().await;
    });
}

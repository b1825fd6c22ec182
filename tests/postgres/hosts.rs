//! Two hosts on one log: never both on one projection.

use std::process::Child;

use crate::cluster::cluster;
use crate::content::seeded;
use crate::everywhere::database_of;
use crate::instance::{Instance, Where, signal, wait_for};
use crate::waiting::wait_until;

/// Two hosts that serve the same log, the first one with the lease of `articles`.
fn two_hosts() -> ([Instance; 2], [Child; 2], String) {
    let url = cluster().new_database();
    let it = Instance::initialised(Where::Server(url.clone()), Where::Server(url.clone()));
    it.append(&seeded(1, 200), 0);
    it.promote("articles_v1");
    let first = it.start(&["serve"]);
    wait_until("the first has the lease", || {
        holder(&url).contains(&first.id().to_string())
    });
    let other = it.elsewhere();
    let second = other.start(&["serve"]);
    ([it, other], [first, second], url)
}

/// Who has the lease, as the server sees it.
fn holder(url: &str) -> String {
    cluster().psql(
        database_of(url),
        "SELECT holder || ', epoch ' || epoch FROM retell.leases
         WHERE expires_at > clock_timestamp() AND projection = 'articles'",
    )
}

#[test]
fn the_other_takes_over_as_soon_as_one_is_gone() {
    let ([it, _other], [first, second], url) = two_hosts();
    it.append(&seeded(2, 100), 200);
    it.ok(&[
        "wait",
        "articles",
        "--position",
        "300",
        "--timeout-ms",
        "30000",
    ]);
    assert!(
        holder(&url).contains(&first.id().to_string()),
        "it keeps it"
    );
    signal(&first, "KILL");
    wait_for(first);
    it.append(&seeded(3, 100), 300);
    it.ok(&[
        "wait",
        "articles",
        "--position",
        "400",
        "--timeout-ms",
        "60000",
    ]);
    assert!(holder(&url).contains(&second.id().to_string()));
    signal(&second, "TERM");
    assert_eq!(wait_for(second).code, Some(0));
    assert_eq!(holder(&url), "", "a host that stops gives its leases up");
}

#[test]
fn a_host_that_slept_through_its_lease_writes_nothing_any_more() {
    let ([it, _other], [first, second], url) = two_hosts();
    signal(&first, "STOP");
    wait_until("the second has the lease", || {
        holder(&url).contains(&second.id().to_string())
    });
    it.append(&seeded(2, 300), 200);
    it.ok(&[
        "wait",
        "articles",
        "--position",
        "500",
        "--timeout-ms",
        "60000",
    ]);
    // It wakes up, and finds that it is somebody else's.
    let taken = holder(&url);
    signal(&first, "CONT");
    it.append(&seeded(3, 300), 500);
    it.ok(&[
        "wait",
        "articles",
        "--position",
        "800",
        "--timeout-ms",
        "60000",
    ]);
    let epoch = cluster().psql(
        database_of(&url),
        "SELECT epoch::text FROM articles.retell_read_model",
    );
    assert!(
        taken.ends_with(&format!("epoch {epoch}")),
        "{taken}, the read model has {epoch}"
    );
    assert_eq!(holder(&url), taken, "the first did not take it back");
    // It is as good as any other once the second is gone.
    signal(&second, "TERM");
    wait_for(second);
    it.append(&seeded(4, 100), 800);
    it.ok(&[
        "wait",
        "articles",
        "--position",
        "900",
        "--timeout-ms",
        "60000",
    ]);
    signal(&first, "TERM");
    let first = wait_for(first);
    assert_eq!(first.code, Some(0), "{first:?}");
    let undisturbed = Instance::initialised(Where::Files, Where::Files);
    for (seed, count, at) in [(1, 200, 0), (2, 300, 200), (3, 300, 500), (4, 100, 800)] {
        undisturbed.append(&seeded(seed, count), at);
    }
    undisturbed.promote("articles_v1");
    assert_eq!(
        it.digest("articles@1.0.0"),
        undisturbed.digest("articles@1.0.0")
    );
}

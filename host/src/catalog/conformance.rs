//! What every catalog must do, whatever database it is in. Each backend binds this suite to itself.

use retell_contract::ColumnType;
use retell_contract::manifest::{Envelope, Field, Manifest, Shape, Table, TableColumn, Wanted};
use semver::Version;

use super::{
    Answer, Catalog, CatalogError, ModuleRecord, NewRules, NewVersion, Registered, Switch,
    SwitchKind, VersionRecord,
};
use crate::lifecycle::state::{Change, Halt, Refusal, Role, State};
use crate::read_model::ReadModels;

/// Runs the whole suite. `make` gives a fresh, empty catalog each time.
pub(crate) async fn run<C: Catalog, F: Future<Output = C>>(make: impl Fn() -> F) {
    registering_is_idempotent_by_digest(&make().await).await;
    what_is_ready_is_not_verified_on_the_way(&make().await).await;
    a_switch_moves_all_roles_at_once(&make().await).await;
    rollback_is_its_own_inverse(&make().await).await;
    a_refused_switch_changes_nothing(&make().await).await;
    majors_follow_promotions(&make().await).await;
    a_successor_takes_the_place_of_the_current_build(&make().await).await;
    retiring_gives_up_builds_and_reviving_makes_new_ones(&make().await).await;
    requests_wait_for_an_outcome(&make().await).await;
    one_has_the_lease_at_a_time(&make().await).await;
}

fn module(version: &str, digest: &str) -> ModuleRecord {
    let column = |name: &str| TableColumn {
        name: name.into(),
        kind: ColumnType::Text,
        nullable: false,
    };
    let field = Field {
        paths: vec!["id".into()],
        wants: Wanted::Text,
        optional: false,
        nullable: false,
    };
    ModuleRecord {
        digest: digest.into(),
        manifest: Manifest {
            name: "articles".into(),
            version: version.into(),
            shapes: vec![Shape {
                event_type: "ArticleCreated".into(),
                fields: vec![field],
            }],
            tables: vec![Table {
                name: "article".into(),
                columns: vec![column("id")],
                key: vec![0],
                indexes: vec![],
            }],
            envelope: Envelope::default(),
            hints: vec![],
            after_replay: vec![],
        },
        contract: "0.1.0".into(),
        sdk: "0.1.0".into(),
    }
}

async fn register(
    catalog: &impl Catalog,
    version: &str,
    digest: &str,
) -> Result<Registered, CatalogError> {
    let module = module(version, digest);
    let new = NewVersion {
        module: &module,
        bytes: digest.as_bytes(),
        read_models: &read_models(),
        until: None,
        promote_when_ready: false,
        rules: NewRules::default(),
        now_us: 1,
    };
    catalog.register(new).await
}

fn read_models() -> ReadModels {
    ReadModels::Folder("read-models".into())
}

fn number(version: &str) -> Version {
    Version::parse(version).expect("a version")
}

/// A version that could be promoted.
async fn ready(catalog: &impl Catalog, version: &str) {
    register(catalog, version, &format!("digest-{version}"))
        .await
        .expect("registered");
    for change in [Change::Start, Change::BecomeReady] {
        catalog
            .change("articles", &number(version), change)
            .await
            .expect("an ordinary life");
    }
}

async fn switch(catalog: &impl Catalog, to: &str, kind: SwitchKind) -> Result<(), CatalogError> {
    let to = number(to);
    let switch = Switch {
        projection: "articles",
        kind,
        to: &to,
        position: 7,
        accept_older: false,
        epoch: 1,
        views: &[],
        now_us: 2,
    };
    catalog.switch(switch).await
}

async fn roles(catalog: &impl Catalog) -> Vec<(String, Role)> {
    let versions = catalog.versions("articles").await.expect("versions");
    versions
        .into_iter()
        .map(|it| (it.version.to_string(), it.status.role))
        .collect()
}

async fn version(catalog: &impl Catalog, version: &str) -> VersionRecord {
    let versions = catalog.versions("articles").await.expect("versions");
    versions
        .into_iter()
        .find(|it| it.version == number(version))
        .expect("it was registered")
}

async fn what_is_ready_is_not_verified_on_the_way(catalog: &impl Catalog) {
    let registered = async |name: &str, verify: Option<bool>| {
        let module = module(name, &format!("digest-{name}"));
        let new = NewVersion {
            module: &module,
            bytes: b"bytes",
            read_models: &read_models(),
            until: None,
            promote_when_ready: true,
            rules: NewRules {
                verify,
                ..NewRules::default()
            },
            now_us: 1,
        };
        catalog.register(new).await
    };
    ready(catalog, "1.0.0").await;
    let refused = registered("1.0.0", Some(true)).await;
    assert!(
        matches!(refused, Err(CatalogError::Unverified { .. })),
        "{refused:?}"
    );
    let untouched = version(catalog, "1.0.0").await;
    assert_eq!(
        (untouched.rules.verify, untouched.promote_when_ready),
        (false, false)
    );

    // Nor is what is live promoted once more later, after others took its place.
    switch(catalog, "1.0.0", SwitchKind::Promote)
        .await
        .expect("it is ready");
    registered("1.0.0", None).await.expect("it is there");
    assert!(!version(catalog, "1.0.0").await.promote_when_ready);

    registered("1.1.0", Some(true)).await.expect("new");
    assert!(version(catalog, "1.1.0").await.rules.verify);
    for change in [Change::Start, Change::BecomeReady] {
        let changed = catalog.change("articles", &number("1.1.0"), change).await;
        changed.expect("an ordinary life");
    }
    registered("1.1.0", Some(true))
        .await
        .expect("it was verified");
    registered("1.1.0", None).await.expect("as before");
    assert!(version(catalog, "1.1.0").await.rules.verify);
    registered("1.1.0", Some(false))
        .await
        .expect("not any more");
    assert!(!version(catalog, "1.1.0").await.rules.verify);
}

async fn registering_is_idempotent_by_digest(catalog: &impl Catalog) {
    assert_eq!(
        register(catalog, "1.0.0", "a").await.expect("new"),
        Registered::New
    );
    assert_eq!(
        register(catalog, "1.0.0", "a").await.expect("again"),
        Registered::AlreadyThere
    );
    let other = register(catalog, "1.0.0", "b").await;
    assert!(matches!(other, Err(CatalogError::OtherModule { digest, .. }) if digest == "a"));
    assert_eq!(catalog.projections().await.expect("names"), ["articles"]);
    assert_eq!(
        catalog.module_bytes("a").await.expect("read"),
        Some(b"a".to_vec())
    );
    assert_eq!(catalog.module_bytes("b").await.expect("read"), None);
    let stored = catalog.module("a").await.expect("read").expect("there");
    assert_eq!(stored.manifest, module("1.0.0", "a").manifest);
    let build = version(catalog, "1.0.0")
        .await
        .current
        .expect("its first build");
    assert!(
        build.location.starts_with("read-models/articles/"),
        "{}",
        build.location
    );
}

async fn a_switch_moves_all_roles_at_once(catalog: &impl Catalog) {
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        ready(catalog, version).await;
        switch(catalog, version, SwitchKind::Promote)
            .await
            .expect("promoted");
    }
    let expected = [
        ("1.0.0", Role::None),
        ("1.1.0", Role::Previous),
        ("2.0.0", Role::Live),
    ];
    assert_eq!(
        roles(catalog).await,
        expected.map(|(version, role)| (version.to_owned(), role))
    );
}

async fn rollback_is_its_own_inverse(catalog: &impl Catalog) {
    for version in ["1.0.0", "2.0.0"] {
        ready(catalog, version).await;
        switch(catalog, version, SwitchKind::Promote)
            .await
            .expect("promoted");
    }
    let before = roles(catalog).await;
    switch(catalog, "1.0.0", SwitchKind::Rollback)
        .await
        .expect("back");
    assert_eq!(roles(catalog).await[0], ("1.0.0".to_owned(), Role::Live));
    assert_eq!(
        roles(catalog).await[1],
        ("2.0.0".to_owned(), Role::Previous)
    );
    switch(catalog, "2.0.0", SwitchKind::Rollback)
        .await
        .expect("forth");
    assert_eq!(roles(catalog).await, before);
}

async fn a_refused_switch_changes_nothing(catalog: &impl Catalog) {
    ready(catalog, "1.0.0").await;
    switch(catalog, "1.0.0", SwitchKind::Promote)
        .await
        .expect("promoted");
    register(catalog, "2.0.0", "b").await.expect("registered");
    let before = roles(catalog).await;
    let refused = switch(catalog, "2.0.0", SwitchKind::Promote).await;
    assert!(matches!(
        refused,
        Err(CatalogError::Refused {
            source: Refusal::NotReady(State::Created),
            ..
        })
    ));
    let unknown = switch(catalog, "9.0.0", SwitchKind::Promote).await;
    assert!(matches!(unknown, Err(CatalogError::NoVersion { .. })));
    assert_eq!(roles(catalog).await, before);
}

async fn majors_follow_promotions(catalog: &impl Catalog) {
    let majors = async || catalog.majors("articles").await.expect("majors");
    ready(catalog, "2.0.0").await;
    assert_eq!(
        majors().await,
        [(2, number("2.0.0"))],
        "the first that is ready"
    );
    ready(catalog, "2.1.0").await;
    assert_eq!(
        majors().await,
        [(2, number("2.0.0"))],
        "ready is not promoted"
    );
    switch(catalog, "2.1.0", SwitchKind::Promote)
        .await
        .expect("promoted");
    assert_eq!(majors().await, [(2, number("2.1.0"))]);
    switch(catalog, "2.0.0", SwitchKind::Promote)
        .await
        .expect("promoted");
    assert_eq!(
        majors().await,
        [(2, number("2.1.0"))],
        "the newest promoted one keeps it"
    );
    catalog
        .change("articles", &number("2.1.0"), Change::Retire)
        .await
        .expect("retired");
    assert_eq!(majors().await, [(2, number("2.0.0"))], "passed on");
}

async fn a_successor_takes_the_place_of_the_current_build(catalog: &impl Catalog) {
    ready(catalog, "1.0.0").await;
    let one = number("1.0.0");
    let failed = Change::Fail {
        reason: "event 3".into(),
    };
    catalog
        .change("articles", &one, failed)
        .await
        .expect("failed");
    let first = version(catalog, "1.0.0").await.current.expect("a build");
    let folder = &ReadModels::Folder("elsewhere".into());
    let second = catalog
        .add_successor("articles", &one, folder, Some(9), 3)
        .await
        .expect("planned");
    assert_ne!(first.location, second.location);
    assert_eq!(second.until, Some(9));
    let twice = catalog
        .add_successor("articles", &one, folder, None, 3)
        .await;
    assert!(matches!(twice, Err(CatalogError::SuccessorExists { .. })));
    catalog
        .set_trouble(first.id, Some("no room"))
        .await
        .expect("noted");
    let troubled = version(catalog, "1.0.0").await.current.expect("a build");
    assert_eq!(troubled.trouble.as_deref(), Some("no room"));
    catalog.set_trouble(first.id, None).await.expect("noted");
    catalog
        .change("articles", &one, Change::Pause)
        .await
        .expect("paused");
    catalog
        .swap_in_successor("articles", &one, 1)
        .await
        .expect("swapped");
    // Once more, as after an answer that got lost.
    catalog
        .swap_in_successor("articles", &one, 1)
        .await
        .expect("it is swapped");
    let swapped = version(catalog, "1.0.0").await;
    assert_eq!(swapped.current, Some(second));
    assert_eq!(swapped.successor, None);
    assert_eq!(
        (swapped.status.state, swapped.status.halt),
        (State::Ready, Halt::Paused),
        "nobody has let it go on"
    );
    assert_eq!(
        catalog.discarded("articles").await.expect("listed"),
        std::slice::from_ref(&first)
    );
    catalog.mark_dropped(first.id).await.expect("noted");
    assert_eq!(catalog.discarded("articles").await.expect("listed"), []);
}

async fn retiring_gives_up_builds_and_reviving_makes_new_ones(catalog: &impl Catalog) {
    ready(catalog, "1.0.0").await;
    let one = number("1.0.0");
    switch(catalog, "1.0.0", SwitchKind::Promote)
        .await
        .expect("promoted");
    let live = catalog.change("articles", &one, Change::Retire).await;
    assert!(matches!(
        live,
        Err(CatalogError::Refused {
            source: Refusal::LiveIsKept,
            ..
        })
    ));
    ready(catalog, "2.0.0").await;
    switch(catalog, "2.0.0", SwitchKind::Promote)
        .await
        .expect("promoted");
    let first = version(catalog, "1.0.0").await.current.expect("a build");
    catalog
        .change("articles", &one, Change::Retire)
        .await
        .expect("retired");
    let retired = version(catalog, "1.0.0").await;
    assert_eq!(
        (retired.status.state, retired.current),
        (State::Retired, None)
    );
    assert_eq!(
        catalog.discarded("articles").await.expect("listed"),
        std::slice::from_ref(&first)
    );
    let folder = &read_models();
    let second = catalog
        .revive("articles", &one, folder, None, 4)
        .await
        .expect("revived");
    assert_ne!(second.location, first.location);
    let revived = version(catalog, "1.0.0").await;
    assert_eq!(
        (revived.status.state, revived.current),
        (State::Created, Some(second))
    );
    assert!(
        catalog
            .revive("articles", &one, folder, None, 4)
            .await
            .is_err(),
        "not retired"
    );
    catalog
        .change("articles", &one, Change::Retire)
        .await
        .expect("retired");
    let again = register(catalog, "1.0.0", "digest-1.0.0")
        .await
        .expect("registered");
    assert_eq!(again, Registered::Revived);
    let revived = version(catalog, "1.0.0").await;
    assert_eq!(revived.status.state, State::Created);
    assert_ne!(
        revived.current.expect("a new build").location,
        first.location
    );
}

async fn requests_wait_for_an_outcome(catalog: &impl Catalog) {
    register(catalog, "1.0.0", "a").await.expect("registered");
    let id = catalog
        .add_request("articles", "{\"x\":1}", 5)
        .await
        .expect("left");
    assert_eq!(catalog.outcome(id).await.expect("read"), Answer::Open);
    let open = catalog.open_requests("articles").await.expect("listed");
    assert_eq!(open.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
    catalog.answer_request(id, "done").await.expect("answered");
    catalog.answer_request(id, "twice").await.expect("harmless");
    let done = Answer::Given("done".to_owned());
    assert_eq!(catalog.outcome(id).await.expect("read"), done);
    assert_eq!(
        catalog
            .open_requests("articles")
            .await
            .expect("listed")
            .len(),
        0
    );
    catalog
        .forget_outcomes("articles", 5)
        .await
        .expect("nothing is that old");
    assert_eq!(catalog.outcome(id).await.expect("read"), done);
    let open = catalog
        .add_request("articles", "{}", 5)
        .await
        .expect("left");
    catalog
        .forget_outcomes("articles", 6)
        .await
        .expect("forgotten");
    assert_eq!(catalog.outcome(id).await.expect("read"), Answer::Gone);
    assert_eq!(
        catalog
            .open_requests("articles")
            .await
            .expect("listed")
            .len(),
        1,
        "not answered"
    );
    let id = open;
    assert!(catalog.remove_request(id).await.expect("removed"));
    assert!(!catalog.remove_request(id).await.expect("gone"));
}

async fn one_has_the_lease_at_a_time(catalog: &impl Catalog) {
    ready(catalog, "1.0.0").await;
    let take = async || catalog.take_lease("articles").await.expect("asked for");
    let first = take().await.expect("nobody has it");
    assert_eq!(first.projection(), "articles");
    assert!(!first.is_lost());
    assert!(take().await.is_none());
    let epoch = first.epoch();
    first.release().await;
    let second = take().await.expect("it was released");
    assert!(second.epoch() > epoch);
    assert!(take().await.is_none());
    second.release().await;
}

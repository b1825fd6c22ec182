//! Tables, keys and indexes, and what a projection reads back of what it wrote.

use retell_sdk::prelude::*;
use retell_sdk::testing::{event, given, try_given};
use serde_json::{Value, json};

/// Events that are instructions, so that each test writes its own projection.
#[derive(Event)]
enum Do {
    Put {
        a: String,
        b: i64,
        #[field(default)]
        tag: Option2,
        #[field(default)]
        note: String,
    },
    Add {
        a: String,
        b: i64,
        by: i64,
    },
    Rename {
        tag: String,
        to: Option<String>,
    },
    Delete {
        a: String,
        b: i64,
    },
    DeleteAll {
        a: String,
    },
    Require {
        a: String,
        b: i64,
        sum: i64,
    },
    Count {
        a: String,
        rows: i64,
    },
    MoveKey {
        a: String,
        b: i64,
    },
    Swallow {
        a: String,
        b: i64,
    },
    Fail,
}

/// An optional text with a type of its own, which serde reads.
#[derive(serde::Deserialize, Default)]
struct Option2(Option<String>);

#[derive(Table, Debug, PartialEq, Clone)]
#[table(index(tag, b), index(b, name = "second"))]
#[allow(
    clippy::duplicated_attributes,
    reason = "two indexes may have a column in common"
)]
struct Pair {
    #[key]
    a: String,
    #[key]
    b: i64,
    #[index]
    tag: Option<String>,
    note: String,
    sum: i64,
}

#[projection(name = "pairs", version = "1.0.0", tables(Pair))]
fn project(event: Do, _: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Do::Put { a, b, tag, note } => db.put(Pair {
            a,
            b,
            tag: tag.0,
            note,
            sum: 0,
        })?,
        Do::Add { a, b, by } => db.update_or_insert::<Pair>(
            (&a, b),
            || Pair {
                a: a.clone(),
                b,
                tag: None,
                note: String::new(),
                sum: 100,
            },
            |pair| pair.sum += by,
        )?,
        Do::Rename { tag, to } => {
            db.update_all(Pair::BY_TAG, &tag, |pair| pair.tag.clone_from(&to))?;
        }
        Do::Delete { a, b } => db.delete::<Pair>((&a, b))?,
        Do::DeleteAll { a } => {
            for pair in db.scan(Pair::BY_KEY, (&a,))? {
                db.delete::<Pair>((&pair.a, pair.b))?;
            }
        }
        Do::Require { a, b, sum } => {
            let found = db.get::<Pair>((&a, b))?.map(|pair| pair.sum);
            ensure!(found == Some(sum), "found {found:?}");
        }
        Do::Count { a, rows } => {
            let found = i64::try_from(db.scan(Pair::BY_KEY, &a)?.len())?;
            ensure!(found == rows, "found {found} rows");
            let by_second = db.scan(Pair::BY_SECOND, ())?;
            ensure!(
                by_second.is_sorted_by_key(|pair| pair.b),
                "not in the order of the index"
            );
        }
        Do::MoveKey { a, b } => {
            db.update::<Pair>((&a, b), |pair| pair.b += 1)?;
        }
        Do::Swallow { a, b } => {
            let failed = db.try_update::<Pair>((&a, b), |pair| {
                pair.sum = -1;
                bail!("halfway")
            });
            ensure!(failed.is_err(), "must fail");
        }
        Do::Fail => bail!("as told"),
    }
    Ok(())
}

fn put(a: &str, b: i64, tag: Option<&str>) -> retell_sdk::testing::Event {
    event("Put", json!({"a": a, "b": b, "tag": tag}))
}

fn add(a: &str, b: i64, by: i64) -> retell_sdk::testing::Event {
    event("Add", json!({"a": a, "b": b, "by": by}))
}

fn failure(events: impl IntoIterator<Item = (&'static str, Value)>) -> String {
    let events = events.into_iter().map(|(ty, payload)| event(ty, payload));
    try_given::<Projection>(events)
        .expect_err("an event fails")
        .to_string()
}

#[test]
fn writes_are_read_back_within_a_batch() {
    let model = given::<Projection>([
        add("x", 1, 5),
        event("Require", json!({"a": "x", "b": 1, "sum": 105})),
        add("x", 1, -1),
        add("y", 1, 0),
        event("Require", json!({"a": "x", "b": 1, "sum": 104})),
        event("Count", json!({"a": "x", "rows": 1})),
        event("Delete", json!({"a": "x", "b": 1})),
        event("Count", json!({"a": "x", "rows": 0})),
        add("x", 1, 1),
    ]);
    let sums: Vec<_> = model
        .rows::<Pair>()
        .into_iter()
        .map(|p| (p.a, p.b, p.sum))
        .collect();
    assert_eq!(sums, [("x".to_owned(), 1, 101), ("y".to_owned(), 1, 100)]);
    assert_eq!(model.get::<Pair>(("x", 2)), None);
}

#[test]
fn rows_come_in_the_order_of_the_key() {
    let places = [
        ("b", -300),
        ("b", -1),
        ("a", 7),
        ("ab", 0),
        ("a", -7),
        ("", 0),
        ("b", 256),
    ];
    let model = given::<Projection>(places.map(|(a, b)| put(a, b, None)));
    let found: Vec<_> = model
        .rows::<Pair>()
        .into_iter()
        .map(|pair| (pair.a, pair.b))
        .collect();
    let mut expected = places.map(|(a, b)| (a.to_owned(), b));
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn scans_see_what_the_batch_changed() {
    let model = given::<Projection>([
        put("a", 1, Some("old")),
        put("b", 1, Some("old")),
        put("b", 2, Some("other")),
        event("Rename", json!({"tag": "old", "to": "new"})),
        put("c", 1, Some("new")),
        event("Rename", json!({"tag": "new", "to": null})),
        event("DeleteAll", json!({"a": "b"})),
    ]);
    let tags: Vec<_> = model
        .rows::<Pair>()
        .into_iter()
        .map(|pair| (pair.a, pair.tag))
        .collect();
    assert_eq!(tags, [("a".to_owned(), None), ("c".to_owned(), None)]);
}

#[test]
fn many_rows_are_scanned_in_pieces() {
    let events = (0..600).map(|b| put(if b % 2 == 0 { "even" } else { "odd" }, b, None));
    let counted = [event("Count", json!({"a": "even", "rows": 300}))];
    let deleted = [event("DeleteAll", json!({"a": "even"}))];
    let model = given::<Projection>(events.chain(counted).chain(deleted));
    assert_eq!(model.rows::<Pair>().len(), 300);
}

#[test]
fn failures_name_the_event() {
    assert_eq!(
        failure([
            ("Add", json!({"a": "x", "b": 1, "by": 1})),
            ("Fail", json!({}))
        ]),
        "event 2, `Fail`: as told"
    );
    assert_eq!(
        failure([("Put", json!({"a": "x".repeat(1024), "b": 0}))]),
        "event 1, `Put`: table `pair`: the key takes 1027 bytes, and at most 1024 are allowed"
    );
    let long = "x".repeat(1020);
    assert_eq!(
        failure([("Put", json!({"a": "", "b": 1000, "tag": long}))]),
        "event 1, `Put`: table `pair`: the entry in index `tag_b` takes 1025 bytes, and at most \
         1024 are allowed"
    );
    assert_eq!(
        failure([("Delete", json!({"a": "x".repeat(1024), "b": 0}))]),
        "event 1, `Delete`: table `pair`: the key takes 1027 bytes, and at most 1024 are allowed"
    );
    assert_eq!(
        failure([
            ("Put", json!({"a": "x", "b": 1})),
            ("MoveKey", json!({"a": "x", "b": 1})),
        ]),
        "event 2, `MoveKey`: table `pair`: an update changed the key of a row; delete the row \
         and put another"
    );
}

#[test]
fn a_failed_change_fails_the_event_though_the_function_goes_on() {
    assert_eq!(
        failure([
            ("Put", json!({"a": "x", "b": 1})),
            ("Swallow", json!({"a": "x", "b": 1})),
            ("Require", json!({"a": "x", "b": 1, "sum": -1})),
        ]),
        "event 2, `Swallow`: halfway"
    );
}

mod values {
    use super::*;

    #[derive(Event)]
    enum Put {
        Put { id: Uuid, kind: String },
    }

    /// A column of every type, and every type that a key can have.
    #[derive(Table, Debug, PartialEq, Clone)]
    #[table(key(uuid, time, bytes, real, boolean, small))]
    pub(super) struct All {
        boolean: bool,
        small: i16,
        integer: Option<i64>,
        real: f64,
        text: Option<String>,
        bytes: Vec<u8>,
        time: Timestamp,
        uuid: Uuid,
        json: Option<Json>,
        #[index]
        maybe_time: Option<Timestamp>,
        #[index]
        maybe_bytes: Option<Vec<u8>>,
    }

    #[projection(name = "all", version = "1.0.0", tables(All), meta(time))]
    fn project(event: Put, meta: &Meta, db: &mut Db) -> Result<()> {
        let Put::Put { id, kind } = event;
        let some = kind != "empty";
        let row = All {
            boolean: some,
            small: -3,
            integer: some.then_some(i64::MIN),
            real: match kind.as_str() {
                "nan" => f64::NAN,
                "negative zero" => -0.0,
                _ => 0.1,
            },
            text: match kind.as_str() {
                "nul" => Some("a\0".to_owned()),
                _ => some.then(|| "text".to_owned()),
            },
            bytes: vec![0, 1, 2, 255],
            time: meta.time(),
            uuid: id,
            json: some.then(|| Json::from_value(&[1.0])).transpose()?,
            maybe_time: some.then(|| meta.time()),
            maybe_bytes: some.then(|| vec![0, 0]),
        };
        let key = (
            row.uuid,
            row.time,
            row.bytes.clone(),
            row.real,
            row.boolean,
            row.small,
        );
        let looked_for = (row.maybe_time, row.maybe_bytes.clone());
        db.put(row.clone())?;
        let (uuid, time, bytes, real, boolean, small) = key;
        let found = db.get::<All>((uuid, time, &bytes, real, boolean, small))?;
        ensure!(found == Some(&row), "found {found:?}");
        // As the read model will have it, though the row did not get there yet.
        let zero_is_plain = |row: &All| row.real != 0.0 || row.real.is_sign_positive();
        ensure!(found.is_some_and(zero_is_plain), "found {found:?}");
        let by_time = db.scan(All::BY_MAYBE_TIME, looked_for.0)?;
        let by_bytes = db.scan(All::BY_MAYBE_BYTES, looked_for.1.as_ref())?;
        ensure!(
            by_time.contains(&row) && by_bytes.contains(&row),
            "not found by index"
        );
        ensure!(
            db.scan(All::BY_KEY, (uuid, time))? == db.scan(All::BY_KEY, uuid)?,
            "the time is one for each"
        );
        Ok(())
    }
}

fn put_values(kind: &str) -> retell_sdk::testing::Event {
    let id = "0190f3a0-7c1e-7def-8a9b-0123456789ab";
    event("Put", json!({"id": id, "kind": kind})).at("2026-01-31T12:00:00Z")
}

#[test]
fn columns_of_every_type() {
    let model = given::<values::Projection>([
        put_values("full"),
        put_values("empty"),
        put_values("negative zero"),
    ]);
    assert_eq!(model.rows::<values::All>().len(), 3);
}

#[test]
fn values_that_cannot_be_stored_fail_their_event() {
    let failure = |kind| {
        let result = try_given::<values::Projection>([put_values("full"), put_values(kind)]);
        result.expect_err(kind).to_string()
    };
    assert_eq!(
        failure("nul"),
        "event 2, `Put`: table `all`: column `text`: text must not hold U+0000 (found at byte 1)"
    );
    assert_eq!(
        failure("nan"),
        "event 2, `Put`: table `all`: column `real`: reals must be finite, found NaN"
    );
}

mod unique {
    use super::*;

    #[derive(Event)]
    enum Users {
        Registered { id: i64, email: Option<String> },
        Swapped { a: i64, b: i64 },
        Left { id: i64 },
    }

    #[derive(Table, Debug, PartialEq)]
    pub(super) struct User {
        #[key]
        pub(super) id: i64,
        #[unique]
        pub(super) email: Option<String>,
    }

    #[projection(name = "users", version = "1.0.0", tables(User))]
    fn project(event: Users, _: &Meta, db: &mut Db) -> Result<()> {
        match event {
            Users::Registered { id, email } => db.put(User { id, email })?,
            Users::Swapped { a, b } => {
                let email = |user: Option<&User>| user.and_then(|user| user.email.clone());
                let (of_a, of_b) = (email(db.get(a)?), email(db.get(b)?));
                db.update::<User>(a, |user| user.email = None)?;
                db.update::<User>(b, |user| user.email = of_a)?;
                db.update::<User>(a, |user| user.email = of_b)?;
            }
            Users::Left { id } => db.delete::<User>(id)?,
        }
        Ok(())
    }
}

#[test]
fn unique_indexes_are_checked_change_by_change() {
    let registered = |id, email| event("Registered", json!({"id": id, "email": email}));
    let model = given::<unique::Projection>([
        registered(1, Some("a")),
        registered(2, Some("b")),
        event("Swapped", json!({"a": 1, "b": 2})),
        event("Left", json!({"id": 1})),
        registered(3, Some("b")),
        registered(4, None),
        registered(5, None),
    ]);
    let emails: Vec<_> = model
        .rows::<unique::User>()
        .into_iter()
        .map(|u| (u.id, u.email))
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        emails,
        [(2, text("a")), (3, text("b")), (4, None), (5, None)]
    );

    let failure = try_given::<unique::Projection>([
        registered(1, Some("a")),
        registered(2, Some("a")),
        event("Left", json!({"id": 1})),
    ]);
    let failure = failure.expect_err("the index is unique").to_string();
    assert!(
        failure.starts_with("event 2, `Registered`: table `user`: another row"),
        "{failure}"
    );
}

mod stray {
    use super::*;

    #[derive(Event)]
    struct Happened;

    #[derive(Table)]
    struct Known {
        #[key]
        id: i64,
    }

    #[derive(Table)]
    struct Forgotten {
        #[key]
        id: i64,
    }

    #[projection(name = "stray", version = "1.0.0", tables(Known))]
    fn project(_: Happened, _: &Meta, db: &mut Db) -> Result<()> {
        db.put(Known { id: 1 })?;
        db.put(Forgotten { id: 1 })
    }
}

#[test]
fn a_table_that_was_not_declared_is_named() {
    let failure = try_given::<stray::Projection>([event("Happened", json!({}))]);
    assert_eq!(
        failure.expect_err("undeclared").message,
        "table `forgotten` is not one of this projection: add it to `tables(...)`"
    );
}

mod chain {
    use super::*;

    #[derive(Event)]
    pub(super) struct Linked;

    #[derive(Table)]
    pub(super) struct Chain {
        #[key]
        id: i64,
        pub(super) links: Json,
    }

    #[projection(name = "chain", version = "1.0.0", tables(Chain))]
    fn project(_: Linked, _: &Meta, db: &mut Db) -> Result<()> {
        let before = db.get::<Chain>(1)?.map(|chain| &chain.links);
        let links = Json::from_value(&[before])?;
        db.put(Chain { id: 1, links })
    }
}

#[test]
fn json_too_deep_to_be_read_back_fails_its_event() {
    let linked = |times| vec![event("Linked", json!({})); times];
    let model = given::<chain::Projection>(linked(127));
    let links = &model.rows::<chain::Chain>()[0].links;
    links.parse::<Value>().expect("it can be read back");
    let failure = try_given::<chain::Projection>(linked(128)).expect_err("too deep");
    assert_eq!(
        failure.to_string(),
        "event 128, `Linked`: JSON is 128 levels deep, and at most 127 are allowed"
    );
}

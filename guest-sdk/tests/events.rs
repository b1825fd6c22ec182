//! What event fields can be, and how old events are read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use retell_sdk::prelude::*;
use retell_sdk::testing::{Event as TestEvent, event, given, try_given};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

mod fields {
    use super::*;

    #[derive(Event, Debug)]
    #[allow(dead_code, reason = "seen through Debug")]
    pub(super) enum Everything<'a> {
        Everything {
            boolean: bool,
            integer: i64,
            small: u8,
            large: u64,
            real: f64,
            text: String,
            borrowed: &'a str,
            time: Timestamp,
            uuid: Uuid,
            json: Json,
            tags: Vec<String>,
            borrowed_tags: Vec<Cow<'a, str>>,
            raw: &'a RawValue,
            by_name: BTreeMap<String, Nested>,
            #[field(path = "deep.er")]
            er: i64,
            r#type: String,
        },
        Patched {
            maybe: Option<String>,
            patch: Option<Option<i64>>,
            nested: Option<Nested>,
            #[field(default)]
            count: i64,
            #[field(default = "untitled")]
            title: String,
            #[field(default = 7)]
            seven: i32,
            #[field(default)]
            tags: Vec<i64>,
        },
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code, reason = "seen through Debug")]
    pub(super) struct Nested {
        at: Timestamp,
        id: Option<Uuid>,
    }

    #[derive(Table, Debug)]
    pub(super) struct Seen {
        #[key]
        position: i64,
        pub(super) what: String,
    }

    #[projection(name = "seen", version = "1.0.0", tables(Seen))]
    #[allow(clippy::needless_pass_by_value, reason = "a projection owns its event")]
    fn project(event: Everything<'_>, meta: &Meta, db: &mut Db) -> Result<()> {
        let what = format!("{event:?}");
        let position = i64::try_from(meta.position())?;
        db.put(Seen { position, what })
    }

    pub(super) fn seen(event: TestEvent) -> Result<String, String> {
        match try_given::<Projection>([event]) {
            Ok(model) => Ok(model.rows::<Seen>().remove(0).what),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

fn everything() -> serde_json::Value {
    json!({
        "boolean": true, "integer": -5, "small": 255, "large": 9, "real": 1, "text": "t\n",
        "borrowed": "b", "time": "2026-01-31T12:00:00Z",
        "uuid": "0190F3A0-7c1e-7def-8a9b-0123456789ab", "json": {"b": 1.0, "a": []},
        "tags": ["x", "y"], "borrowed_tags": ["a\"b"], "raw": ["\""], "by_name": {"n": {"at": 5, "id": null}}, "deep": {"er": 3},
        "type": "kind", "unknown": [1, 2, 3]
    })
}

#[test]
fn fields_of_every_type() {
    let seen = fields::seen(event("Everything", everything())).expect("fits");
    assert_eq!(
        seen,
        "Everything { boolean: true, integer: -5, small: 255, large: 9, real: 1.0, \
         text: \"t\\n\", borrowed: \"b\", time: Timestamp(1769860800000000), \
         uuid: Uuid(0190f3a0-7c1e-7def-8a9b-0123456789ab), json: Json({\"a\":[],\"b\":1}), \
         tags: [\"x\", \"y\"], borrowed_tags: [\"a\\\"b\"], raw: RawValue([\"\\\"\"]), by_name: {\"n\": Nested { at: Timestamp(5), id: None }}, er: 3, \
         type: \"kind\" }"
    );
}

#[test]
fn fields_that_do_not_fit_name_event_type_and_field() {
    for (field, value, expected) in [
        (
            "text",
            json!(17),
            "field `text`: expected text, found number",
        ),
        (
            "small",
            json!(256),
            "field `small`: expected an integer from 0 to 255, found 256",
        ),
        (
            "large",
            json!(-1),
            "field `large`: expected an integer from 0",
        ),
        (
            "deep",
            json!({}),
            "field `deep.er`: expected integer, but it is missing",
        ),
        (
            "tags",
            json!([1]),
            "field `tags`: invalid type: integer `1`, expected a string",
        ),
        (
            "json",
            json!("\0"),
            "field `json`: JSON texts must not hold U+0000",
        ),
        (
            "by_name",
            json!({"n": {}}),
            "field `by_name`: missing field `at`",
        ),
        (
            "integer",
            json!(1.5),
            "field `integer`: expected integer, found number",
        ),
    ] {
        let mut payload = everything();
        payload[field] = value;
        let error = fields::seen(event("Everything", payload)).expect_err(field);
        let expected = format!("event 1, `Everything`: {expected}");
        assert!(
            error.starts_with(&expected),
            "{error} should start with {expected}"
        );
    }
}

#[test]
fn missing_null_and_default() {
    let seen = |payload| fields::seen(event("Patched", payload)).expect("fits");
    assert_eq!(
        seen(json!({})),
        "Patched { maybe: None, patch: None, nested: None, count: 0, title: \"untitled\", \
         seven: 7, tags: [] }"
    );
    assert_eq!(
        seen(json!({"maybe": null, "patch": null, "nested": null, "count": 1, "seven": 8})),
        "Patched { maybe: None, patch: Some(None), nested: None, count: 1, title: \"untitled\", \
         seven: 8, tags: [] }"
    );
    assert_eq!(
        seen(json!({"maybe": "m", "patch": 2, "nested": {"at": 1}, "title": "t", "tags": [3]})),
        "Patched { maybe: Some(\"m\"), patch: Some(Some(2)), nested: Some(Nested { \
         at: Timestamp(1), id: None }), count: 0, title: \"t\", seven: 7, tags: [3] }"
    );
    let error = fields::seen(event("Patched", json!({"count": null}))).expect_err("null");
    assert_eq!(
        error,
        "event 1, `Patched`: field `count`: expected integer, found null"
    );
}

mod upcast {
    use super::*;

    #[derive(Event)]
    pub(super) enum Cms<'a> {
        #[event(name = "ArticleCreated", was("article_created", "NewArticle"), from = V2<'a>)]
        #[event(from = V1)]
        Created {
            id: String,
            #[field(was("headline", "meta.title"))]
            title: String,
            #[field(path = "author.name")]
            author: &'a str,
        },
        Deleted(Deletion),
        #[event(name = "ArticleErased")]
        Erased(Deletion),
        Cleared,
        #[event(any)]
        Other {
            #[field(path = "$")]
            payload: Json,
        },
    }

    /// The author was a text.
    #[derive(Event)]
    pub(super) struct V2<'a> {
        id: String,
        title: String,
        author: &'a str,
    }

    impl<'a> From<V2<'a>> for Cms<'a> {
        fn from(old: V2<'a>) -> Self {
            Self::Created {
                id: old.id,
                title: old.title,
                author: old.author,
            }
        }
    }

    /// Ids were numbers, and there were no authors.
    #[derive(Event)]
    #[event(name = "ArticleCreatedV1", was("article_created"))]
    pub(super) struct V1 {
        id: i64,
    }

    impl From<V1> for Cms<'_> {
        fn from(old: V1) -> Self {
            Self::Created {
                id: old.id.to_string(),
                title: "none".to_owned(),
                author: "nobody",
            }
        }
    }

    #[derive(Event)]
    #[event(name = "ArticleDeleted")]
    pub(super) struct Deletion {
        id: String,
    }

    #[derive(Table, Debug, PartialEq)]
    pub(super) struct Line {
        #[key]
        pub(super) position: i64,
        pub(super) text: String,
    }

    #[projection(name = "lines", version = "1.0.0", tables(Line), meta(event_type))]
    fn project<'a>(event: Cms<'a>, meta: &Meta<'a>, db: &mut Db) -> Result<()> {
        let text = match event {
            Cms::Created { id, title, author } => format!("created {id}, {title}, {author}"),
            Cms::Deleted(Deletion { id }) => format!("deleted {id}"),
            Cms::Erased(Deletion { id }) => format!("erased {id}"),
            Cms::Cleared => "cleared".to_owned(),
            Cms::Other { payload } => format!("{} {payload}", meta.event_type()),
        };
        db.put(Line {
            position: i64::try_from(meta.position())?,
            text,
        })
    }
}

#[test]
fn old_events_are_read_as_new_ones() {
    let new = json!({"id": "1", "title": "t", "author": {"name": "a"}});
    let model = given::<upcast::Projection>([
        event("ArticleCreated", new.clone()),
        event("article_created", new),
        event(
            "NewArticle",
            json!({"id": "2", "headline": "h", "author": {"name": "b"}}),
        ),
        event(
            "ArticleCreated",
            json!({"id": "3", "meta": {"title": "m"}, "author": {"name": "c"}}),
        ),
        event(
            "ArticleCreated",
            json!({"id": "4", "title": "t", "author": "d"}),
        ),
        event("ArticleCreatedV1", json!({"id": 5})),
        event("article_created", json!({"id": 6})),
        event("ArticleDeleted", json!({"id": "7"})),
        event("ArticleErased", json!({"id": "8"})),
        event("Cleared", json!({"x": 1})),
        event("Unheard", json!([1.0])),
    ]);
    let texts: Vec<_> = model
        .rows::<upcast::Line>()
        .into_iter()
        .map(|line| line.text)
        .collect();
    assert_eq!(
        texts,
        [
            "created 1, t, a",
            "created 1, t, a",
            "created 2, h, b",
            "created 3, m, c",
            "created 4, t, d",
            "created 5, none, nobody",
            "created 6, none, nobody",
            "deleted 7",
            "erased 8",
            "cleared",
            "Unheard [1]",
        ]
    );
}

#[allow(dead_code, reason = "seen through their shapes")]
mod renamed {
    use super::*;

    #[derive(Event)]
    pub(super) enum Cms {
        #[event(from = V1, from = V0)]
        ArticleCreated(Created),
        #[event(name = "ArticleGone", was("article_gone"))]
        Deleted(Deletion),
        #[event(was("article_liked"))]
        Liked(Like),
        #[event(any)]
        Other(Anything),
    }

    #[derive(Event)]
    #[event(was("article_created"))]
    pub(super) struct Created {
        title: String,
    }

    /// It was called otherwise, too, and had other fields.
    #[derive(Event)]
    #[event(was("NewArticle", "article_created"))]
    pub(super) struct V1 {
        headline: String,
    }

    /// Older still, and never called as it is today.
    #[derive(Event)]
    #[event(name = "Article", was("article"))]
    pub(super) struct V0 {}

    impl From<V1> for Cms {
        fn from(old: V1) -> Self {
            Self::ArticleCreated(Created {
                title: old.headline,
            })
        }
    }

    impl From<V0> for Cms {
        fn from(V0 {}: V0) -> Self {
            let title = String::new();
            Self::ArticleCreated(Created { title })
        }
    }

    #[derive(Event)]
    #[event(was("article_deleted"))]
    pub(super) struct Deletion {}

    #[derive(Event)]
    #[event(name = "ArticleLiked")]
    pub(super) struct Like {}

    #[derive(Event)]
    #[event(was("anything"))]
    pub(super) struct Anything {}

    /// Of one type of event, and no variant gives it another name.
    #[derive(Event)]
    #[event(was("happened"))]
    pub(super) struct Happened {}
}

#[test]
fn older_types_of_a_struct_are_beside_its_name() {
    use retell_sdk::__private::Shapes;
    let types = |shapes: Shapes| -> Vec<_> {
        let shapes = shapes.into_shapes().into_iter();
        shapes.map(|shape| shape.event_type).collect()
    };
    assert_eq!(
        types(Shapes::of::<renamed::Cms>()),
        [
            "ArticleCreated",
            "article_created",
            // Of its older forms.
            "ArticleCreated",
            "article_created",
            "NewArticle",
            "Article",
            "article",
            // A name that the variant gives.
            "ArticleGone",
            "article_gone",
            "article_deleted",
            // The struct's own, and what the variant was.
            "ArticleLiked",
            "article_liked",
            "*",
        ]
    );
    assert_eq!(
        types(Shapes::of::<renamed::Happened>()),
        ["Happened", "happened"]
    );
}

mod envelope {
    use super::*;

    /// A projection of one type of event can take the struct itself.
    #[derive(Event)]
    pub(super) struct Happened;

    #[derive(Table, Debug, PartialEq)]
    pub(super) struct Seen {
        #[key]
        pub(super) position: i64,
        pub(super) parts: String,
        pub(super) metadata: Json,
        pub(super) occurred_at: Option<Timestamp>,
    }

    #[projection(
        name = "seen",
        tables(Seen),
        meta(stream, revision, id, time, occurred_at, recorded_at, metadata, event_type),
        after_replay(sqlite = "CREATE VIEW a AS SELECT 1", postgres = concat!("SELECT", " 2"))
    )]
    fn project(_: Happened, meta: &Meta, db: &mut Db) -> Result<()> {
        let parts = format!(
            "{} {} {} {} {} {}",
            meta.stream(),
            meta.revision(),
            meta.id(),
            meta.time(),
            meta.recorded_at(),
            meta.event_type()
        );
        db.put(Seen {
            position: i64::try_from(meta.position())?,
            parts,
            metadata: meta.metadata()?,
            occurred_at: meta.occurred_at(),
        })
    }
}

#[test]
fn parts_of_the_envelope() {
    let model = given::<envelope::Projection>([
        event("Happened", json!({}))
            .stream("s")
            .at("2020-01-01T00:00:00Z")
            .metadata(json!({"by": 1})),
        event("Ignored", json!({})).stream("s"),
        event("Happened", json!({}))
            .stream("s")
            .id("mine")
            .recorded_at("2030-01-01T00:00:00Z"),
    ]);
    let seen = model.rows::<envelope::Seen>();
    assert_eq!(
        seen[0].parts,
        "s 1 event-1 2020-01-01T00:00:00Z 2026-01-01T00:00:00Z Happened"
    );
    assert_eq!(seen[0].metadata.as_str(), r#"{"by":1}"#);
    assert_eq!(
        seen[0].occurred_at,
        Some("2020-01-01T00:00:00Z".parse().expect("a time"))
    );
    assert_eq!(seen[1].position, 3);
    assert_eq!(
        seen[1].parts,
        "s 3 mine 2030-01-01T00:00:00Z 2030-01-01T00:00:00Z Happened"
    );
    assert_eq!(seen[1].metadata, Json::default());
    assert_eq!(seen[1].occurred_at, None);
}

#[test]
fn the_manifest_says_all_that() {
    use retell_sdk::Projection;
    let manifest = envelope::Projection::manifest();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest.shapes[0].event_type, "Happened");
    assert!(manifest.envelope.type_name && manifest.envelope.occurred_at);
    assert_eq!(manifest.after_replay[1].sql, "SELECT 2");
    let manifest = upcast::Projection::manifest();
    assert!(!manifest.envelope.stream);
    let types: Vec<_> = manifest
        .shapes
        .iter()
        .map(|shape| shape.event_type.as_str())
        .collect();
    assert_eq!(
        types[..3],
        ["ArticleCreated", "article_created", "NewArticle"]
    );
    assert_eq!(
        manifest.shapes[0].fields[1].paths,
        ["title", "headline", "meta.title"]
    );
}

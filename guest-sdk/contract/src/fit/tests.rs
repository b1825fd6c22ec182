//! Which payloads fit which shapes, and what the others are told.

use super::*;
use crate::columns::{Column, TextColumn, Values};
use proptest::prelude::*;

mod laws;
mod oracle;
mod texts;

fn field(path: &str, wants: Wanted) -> Field {
    Field {
        paths: vec![path.into()],
        wants,
        optional: false,
        nullable: false,
    }
}

fn optional(path: &str, wants: Wanted) -> Field {
    Field {
        optional: true,
        nullable: true,
        ..field(path, wants)
    }
}

fn shape(event_type: &str, fields: Vec<Field>) -> Shape {
    Shape {
        event_type: event_type.into(),
        fields,
    }
}

/// Fits one payload for the only module.
fn fit_alone(
    fitter: &Fitter,
    event_type: &str,
    payload: &[u8],
    blocks: &mut Blocks,
) -> Result<Option<u16>, FieldError> {
    let Some(plan) = fitter.plan(event_type) else {
        return Ok(None);
    };
    let mut located = Located::default();
    fitter.locate(plan, payload, &mut located);
    fitter.fit(plan, 0, payload, &located, blocks, FitTo::AllColumns)
}

/// Fits one payload to one field and returns the column, or the message.
fn fit_one(field: Field, payload: &str) -> Result<Column, String> {
    let shapes = [shape("T", vec![field])];
    let mut blocks = Blocks::new(&shapes);
    match fit_alone(
        &Fitter::new(&[&shapes]),
        "T",
        payload.as_bytes(),
        &mut blocks,
    ) {
        Ok(fitted) => {
            assert_eq!(fitted, Some(0));
            Ok(blocks.take().remove(0).remove(0))
        }
        Err(error) => {
            assert_eq!(blocks.bytes(), 0, "a misfit leaves nothing behind");
            Err(error.to_string())
        }
    }
}

fn texts(values: &[&str]) -> TextColumn {
    let mut column = TextColumn::default();
    for text in values {
        column.push(text);
    }
    column
}

#[test]
fn values_that_fit() {
    use Wanted::{Boolean, Integer, Json, Real, Text, Timestamp, Uuid};
    let uuid = "0190f3a0-7c1e-7def-8a9b-0123456789ab";
    let cases = [
        (Boolean, "true".to_owned(), Values::Booleans(vec![1])),
        (Boolean, "false".to_owned(), Values::Booleans(vec![0])),
        (Integer, "-7".to_owned(), Values::Integers(vec![-7])),
        (Integer, "-0".to_owned(), Values::Integers(vec![0])),
        (
            Integer,
            i64::MIN.to_string(),
            Values::Integers(vec![i64::MIN]),
        ),
        (Real, "1".to_owned(), Values::Reals(vec![1.0])),
        (Real, "-1.5e3".to_owned(), Values::Reals(vec![-1500.0])),
        (Real, "0.1".to_owned(), Values::Reals(vec![0.1])),
        (Text, r#""a""#.to_owned(), Values::Texts(texts(&["a"]))),
        (
            Text,
            r#""\u00e9\n\"\ud83d\ude00""#.to_owned(),
            Values::Texts(texts(&["é\n\"😀"])),
        ),
        (
            Timestamp,
            r#""1970-01-01T00:00:01Z""#.to_owned(),
            Values::Integers(vec![1_000_000]),
        ),
        (Timestamp, "5".to_owned(), Values::Integers(vec![5])),
        (
            Uuid,
            format!("\"{}\"", uuid.to_uppercase()),
            Values::Texts(texts(&[uuid])),
        ),
        (
            Json,
            r#"{"a": [1.0]}"#.to_owned(),
            Values::Json(texts(&[r#"{"a": [1.0]}"#])),
        ),
        (Json, "null".to_owned(), Values::Json(texts(&["null"]))),
    ];
    for (wants, value, expected) in cases {
        let payload = format!(r#" {{ "x" : [1,"}}"], "v" : {value} , "y": {{"v":0}} }} "#);
        let column = fit_one(field("v", wants), &payload).expect(&payload);
        assert_eq!(
            column,
            Column {
                values: expected,
                present: None,
                null: None
            },
            "{payload}"
        );
    }
}

#[test]
fn values_that_do_not_fit() {
    use Wanted::{Boolean, Integer, Json, Real, Text, Timestamp, Uuid};
    let cases = [
        (Text, "17", "field `v`: expected text, found number"),
        (Text, "null", "field `v`: expected text, found null"),
        (Text, r#""\u0000""#, "field `v`: text must not hold U+0000"),
        (Text, r#""\ud800""#, "field `v`: not valid JSON"),
        (Boolean, "1", "field `v`: expected boolean, found number"),
        (Integer, "1.0", "field `v`: expected integer, found number"),
        (Integer, "1e3", "field `v`: expected integer, found number"),
        (Integer, "\"1\"", "field `v`: expected integer, found text"),
        (
            Integer,
            "9223372036854775808",
            "field `v`: the number is outside 64 bits",
        ),
        (
            Real,
            "1e999",
            "field `v`: the number is too large for a real",
        ),
        (Real, "[1]", "field `v`: expected real, found list"),
        (
            Timestamp,
            "true",
            "field `v`: expected timestamp, found boolean",
        ),
        (
            Timestamp,
            "\"today\"",
            "field `v`: not an RFC 3339 timestamp",
        ),
        (
            Timestamp,
            "999999999999999999",
            "field `v`: timestamps must lie in the years 1 to 9999",
        ),
        (Uuid, "\"abc\"", "field `v`: not a UUID"),
        (Uuid, "{}", "field `v`: expected UUID, found object"),
        (Json, r#"["\ud800"]"#, "field `v`: not valid JSON"),
        (Json, "[1e999]", "field `v`: not valid JSON"),
    ];
    for (wants, value, expected) in cases {
        let error = fit_one(field("v", wants), &format!(r#"{{"v":{value}}}"#)).expect_err(value);
        assert!(error.starts_with(expected), "{value}: {error}");
    }
}

#[test]
fn payloads_that_cannot_be_read() {
    for payload in ["", "{", "{\"v\":}", "{} {}", "{\"v\":1", "nul"] {
        let error = fit_one(field("v", Wanted::Json), payload).expect_err(payload);
        assert!(
            error.starts_with("the payload is not valid JSON"),
            "{payload}: {error}"
        );
    }
    let shapes = [shape("T", vec![field("$", Wanted::Text)])];
    let fitter = Fitter::new(&[&shapes]);
    let error = fit_alone(&fitter, "T", b"\"\xff\"", &mut Blocks::new(&shapes));
    assert!(
        error
            .expect_err("not UTF-8")
            .to_string()
            .contains("not UTF-8")
    );
    let error = fit_one(field("a.b", Wanted::Text), "[]").expect_err("missing");
    assert_eq!(error, "field `a.b`: expected text, but it is missing");
}

#[test]
fn missing_and_null_are_told_apart() {
    let column = |payload| fit_one(optional("v", Wanted::Integer), payload).expect(payload);
    let values = Values::Integers(vec![0]);
    assert_eq!(
        column("{}"),
        Column {
            values: values.clone(),
            present: Some(vec![0]),
            null: None
        }
    );
    assert_eq!(
        column(r#"{"v":null}"#),
        Column {
            values,
            present: None,
            null: Some(vec![1])
        }
    );

    let not_nullable = Field {
        nullable: false,
        ..optional("v", Wanted::Integer)
    };
    assert!(fit_one(not_nullable, r#"{"v":null}"#).is_err());
    let not_optional = Field {
        optional: false,
        ..optional("v", Wanted::Integer)
    };
    assert!(fit_one(not_optional, "{}").is_err());
}

#[test]
fn paths_lead_into_objects_and_lists() {
    let payload = r#"{"a":{"b.c":[{"d/e":"x"}]},"h":{"i":"y"},"a.b":"z"}"#;
    for (path, expected) in [("/a/b.c/0/d~1e", "x"), ("h.i", "y"), ("/a.b", "z")] {
        let column = fit_one(field(path, Wanted::Text), payload).expect(path);
        assert_eq!(column.values, Values::Texts(texts(&[expected])), "{path}");
    }
    let whole = fit_one(field("$", Wanted::Json), payload).expect("the payload itself");
    assert_eq!(whole.values, Values::Json(texts(&[payload])));
    assert!(fit_one(field("h.i.j", Wanted::Text), payload).is_err());
}

#[test]
fn the_first_path_that_is_there_wins() {
    let both = Field {
        paths: vec!["title".into(), "headline".into()],
        ..field("", Wanted::Text)
    };
    for (payload, expected) in [
        (r#"{"headline":"old","title":"new"}"#, "new"),
        (r#"{"headline":"old"}"#, "old"),
    ] {
        let column = fit_one(both.clone(), payload).expect(payload);
        assert_eq!(column.values, Values::Texts(texts(&[expected])));
    }
    let error = fit_one(both.clone(), r#"{"headline":1}"#).expect_err("a number");
    assert_eq!(error, "field `headline`: expected text, found number");
    let error = fit_one(both, "{}").expect_err("missing");
    assert_eq!(error, "field `title`: expected text, but it is missing");
}

#[test]
fn of_duplicate_keys_the_last_one_counts() {
    let column = fit_one(field("v", Wanted::Integer), r#"{"v":"x","v":2}"#).expect("the last");
    assert_eq!(column.values, Values::Integers(vec![2]));
    let column = fit_one(optional("a.b", Wanted::Integer), r#"{"a":{"b":1},"a":{}}"#);
    assert_eq!(
        column.expect("optional").present,
        Some(vec![0]),
        "the last `a` has no `b`"
    );
    let column = fit_one(
        optional("a.b", Wanted::Integer),
        r#"{"a":{"b":1},"\u0061":3}"#,
    );
    assert_eq!(
        column.expect("optional").present,
        Some(vec![0]),
        "an escaped key is the same key"
    );
}

#[test]
fn the_first_shape_that_fits_wins() {
    let shapes = [
        shape(
            "T",
            vec![
                field("id", Wanted::Text),
                field("author.name", Wanted::Text),
            ],
        ),
        shape(
            "T",
            vec![field("id", Wanted::Text), field("author", Wanted::Text)],
        ),
        shape("U", vec![]),
        shape("*", vec![field("$", Wanted::Json)]),
    ];
    let fitter = Fitter::new(&[&shapes]);
    let mut blocks = Blocks::new(&shapes);
    let mut fit = |ty, payload: &str| fit_alone(&fitter, ty, payload.as_bytes(), &mut blocks);
    assert_eq!(fit("T", r#"{"id":"1","author":{"name":"a"}}"#), Ok(Some(0)));
    assert_eq!(fit("T", r#"{"id":"2","author":"b"}"#), Ok(Some(1)));
    assert_eq!(fit("U", "[]"), Ok(Some(2)));
    assert_eq!(fit("V", "7"), Ok(Some(3)));
    let error = fit("T", r#"{"id":"3","author":4}"#).expect_err("fits neither");
    assert_eq!(
        error.to_string(),
        "field `author.name`: expected text, but it is missing",
        "what the newest form lacks"
    );

    let taken = blocks.take();
    assert_eq!(taken[0][1].values, Values::Texts(texts(&["a"])));
    assert_eq!(
        taken[1][0].values,
        Values::Texts(texts(&["2"])),
        "misfits were taken back"
    );
    assert_eq!(taken[3][0].values, Values::Json(texts(&["7"])));
    assert_eq!(blocks.bytes(), 0);
}

#[test]
fn other_types_cost_nothing() {
    let shapes = [shape("T", vec![])];
    assert_eq!(Fitter::new(&[&shapes]).plan("U"), None);
}

proptest! {
    #[test]
    fn fits_what_serde_json_finds(value in crate::samples::json_value()) {
        let payload = serde_json::json!({ "x": 1, "v": value }).to_string();
        let column = fit_one(field("v", Wanted::Json), &payload).expect("JSON");
        let Values::Json(found) = column.values else { panic!("JSON was asked for") };
        let found: serde_json::Value = serde_json::from_str(found.get(0).expect("a row")).expect("JSON");
        prop_assert_eq!(found, value);
    }
}

//! What holds for any payload and any shapes: valid JSON means what serde_json takes it for, and no
//! module notices what others read. `PROPTEST_CASES` makes a long run of it.

use super::oracle::{Cell, Outcome, expected, only_row};
use super::*;

const CASES: u32 = 4_000;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return default;
    }
    ProptestConfig {
        cases: CASES,
        ..default
    }
}

/// Modules that read together.
struct Readers<'s> {
    modules: &'s [Vec<Shape>],
    fitter: Fitter,
    located: Located,
}

impl<'s> Readers<'s> {
    fn new(modules: &'s [Vec<Shape>]) -> Self {
        let shapes: Vec<_> = modules.iter().map(Vec::as_slice).collect();
        Self {
            modules,
            fitter: Fitter::new(&shapes),
            located: Located::default(),
        }
    }

    /// What becomes of an event for each module.
    fn read(&mut self, event_type: &str, payload: &[u8]) -> Vec<Outcome> {
        let Some(plan) = self.fitter.plan(event_type) else {
            return vec![Ok(None); self.modules.len()];
        };
        self.fitter.locate(plan, payload, &mut self.located);
        let read = |(module, shapes): (usize, &Vec<Shape>)| {
            let mut blocks = Blocks::new(shapes);
            let located = &self.located;
            let fitted = self.fitter.fit(
                plan,
                module,
                payload,
                located,
                &mut blocks,
                FitTo::AllColumns,
            );
            if !matches!(fitted, Ok(Some(_))) {
                assert_eq!(blocks.bytes(), 0, "a misfit leaves nothing behind");
            }
            Ok(fitted?.map(|shape| (shape, only_row(&mut blocks, shape))))
        };
        self.modules.iter().enumerate().map(read).collect()
    }
}

/// What each module gets of a batch, and how many of its columns are copies.
fn batches(
    modules: &[Vec<Shape>],
    payloads: &[&String],
    to: FitTo,
) -> (Vec<Vec<Vec<Column>>>, usize) {
    let mut readers = Readers::new(modules);
    let mut blocks: Vec<_> = modules.iter().map(|shapes| Blocks::new(shapes)).collect();
    for payload in payloads {
        let fitter = &readers.fitter;
        let plan = fitter.plan("T").expect("all take it");
        fitter.locate(plan, payload.as_bytes(), &mut readers.located);
        for (module, blocks) in blocks.iter_mut().enumerate() {
            let located = &readers.located;
            let fitted = fitter.fit(plan, module, payload.as_bytes(), located, blocks, to);
            fitted.expect("it fits alone");
        }
    }
    if to == FitTo::OwnColumns {
        readers.fitter.copy_twins(&mut blocks);
    }
    let taken = blocks.iter_mut().map(Blocks::take).collect();
    (taken, readers.fitter.twins.len())
}

/// An outcome without the words of a refused value.
fn without_reason(outcome: Outcome) -> Outcome {
    outcome.map_err(|error| match error {
        FieldError::Value { field, .. } => FieldError::Value {
            field,
            reason: String::new(),
        },
        other => other,
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn valid_json_means_what_serde_json_takes_it_for(
        modules in prop::collection::vec(texts::shapes(), 1..3),
        payloads in prop::collection::vec(texts::json(), 1..5),
    ) {
        let mut readers = Readers::new(&modules);
        for payload in &payloads {
            for event_type in ["T", "V"] {
                let outcomes = readers.read(event_type, payload.as_bytes());
                for (shapes, outcome) in modules.iter().zip(outcomes) {
                    let expected = expected(shapes, event_type, payload);
                    prop_assert_eq!(without_reason(outcome), expected, "{}", payload);
                }
            }
        }
    }

    #[test]
    fn a_column_that_is_made_once_is_the_one_that_each_would_have_made(
        pool in prop::collection::vec(texts::shapes(), 2),
        choices in prop::collection::vec((0..2_usize, any::<prop::sample::Index>()), 2..4),
        payloads in prop::collection::vec(texts::json(), 1..24),
    ) {
        // Modules that have much in common: the same shapes without one field each.
        let modules: Vec<_> = choices.iter().map(|(base, index)| {
            let mut shapes = pool[*base].clone();
            let shape = index.index(shapes.len());
            if !shapes[shape].fields.is_empty() {
                let field = index.index(shapes[shape].fields.len());
                shapes[shape].fields.remove(field);
            }
            shapes
        }).collect();
        let mut readers = Readers::new(&modules);
        let fit_all = |payload: &&String| {
            let outcomes = readers.read("T", payload.as_bytes());
            outcomes.iter().all(|outcome| matches!(outcome, Ok(Some(_))))
        };
        let payloads: Vec<_> = payloads.iter().filter(fit_all).collect();
        let (once, _) = batches(&modules, &payloads, FitTo::OwnColumns);
        let (each, _) = batches(&modules, &payloads, FitTo::AllColumns);
        prop_assert_eq!(once, each);
    }

    #[test]
    fn nobody_notices_what_others_read(
        modules in prop::collection::vec(texts::shapes(), 2..4),
        payloads in prop::collection::vec(texts::mangled(), 1..5),
    ) {
        let mut together = Readers::new(&modules);
        for payload in &payloads {
            let outcomes = together.read("T", payload);
            for (shapes, outcome) in modules.iter().zip(outcomes) {
                let alone = Readers::new(std::slice::from_ref(shapes)).read("T", payload);
                prop_assert_eq!(&alone[0], &outcome, "{}", payload.escape_ascii());
                if serde_json::from_slice::<serde_json::Value>(payload).is_ok() {
                    let text = std::str::from_utf8(payload).expect("JSON is UTF-8");
                    let expected = expected(shapes, "T", text);
                    prop_assert_eq!(without_reason(outcome), expected, "{}", text);
                }
            }
        }
    }
}

/// What a module that wants one path of any value finds there, beside one that wants another.
fn beside(path: &str, other: &str, payload: &str) -> Result<Cell, String> {
    let wants = |path| vec![shape("T", vec![optional(path, Wanted::Json)])];
    let modules = [wants(path), wants(other)];
    let outcome = Readers::new(&modules)
        .read("T", payload.as_bytes())
        .remove(0);
    let (_, mut row) = outcome
        .map_err(|error| error.to_string())?
        .expect("`T` is taken");
    Ok(row.remove(0))
}

#[test]
fn a_broken_value_is_known_to_those_who_look_into_it() {
    let payloads = [
        r#"{"n":{"x":1 "y":2},"v":7}"#,
        r#"{"n":{"x":1,},"v":7}"#,
        r#"{"n":{"x":01},"v":7}"#,
        r#"{"n":{"x":nul},"v":7}"#,
        r#"{"n":{"x"},"v":7}"#,
        r#"{"n":{x:1},"v":7}"#,
        r#"{"n":{"x":1],"v":7}"#,
        r#"{"n":{"\q":1},"v":7}"#,
        r#"{"n":{"\ud800":1},"v":7}"#,
        r#"{"n":[1 2],"v":7}"#,
        r#"{"n":[1,],"v":7}"#,
        r#"{"n":[{]},"v":7}"#,
    ];
    for payload in payloads {
        for other in ["v", "n.x", "n.y.z", "/n/0", "n"] {
            let seven = Ok(Cell::Text("7".to_owned()));
            assert_eq!(beside("v", other, payload), seven, "{payload} {other}");
            for inside in ["n.x", "n.q", "/n/5"] {
                let error = beside(inside, other, payload).expect_err(payload);
                let is_of_payload = error.starts_with("the payload is not valid JSON: expected");
                assert!(is_of_payload, "{payload}: {error}");
            }
        }
    }
}

#[test]
fn a_broken_value_inside_another_leaves_its_neighbours() {
    let payload = r#"{"n":{"x":{"y" 1,"z":[}},"v":7},"n2":1}"#;
    for other in ["n.x.y", "n.x", "n", "n2"] {
        let found = |path| beside(path, other, payload);
        assert_eq!(found("n.v"), Ok(Cell::Text("7".to_owned())));
        assert_eq!(found("n2"), Ok(Cell::Text("1".to_owned())));
        assert_eq!(
            found("n.x.y").expect_err("broken"),
            "the payload is not valid JSON: expected `:` at byte 15"
        );
    }
}

#[test]
fn the_last_of_equal_keys_counts_broken_or_not() {
    let found = |payload| beside("n.x", "n.y.z", payload);
    let one = Ok(Cell::Text("1".to_owned()));
    assert_eq!(found(r#"{"n":{"x" 2},"n":{"x":1}}"#), one);
    assert_eq!(found(r#"{"n":{"x" 2},"n":3}"#), Ok(Cell::Missing));
    assert!(found(r#"{"n":{"x":1},"n":{"x" 2}}"#).is_err());
}

#[test]
fn a_broken_top_level_is_known_to_everybody() {
    let payloads = [
        "",
        " ",
        "-",
        "[1 2]",
        "{\"a\":1}}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":\"}",
        "{\"a\":\"\\\"}",
        "{\"n\":{\"x\":1",
        "{\"n\":{\"x\":\"}}",
        "{\"\\ud800\":1}",
    ];
    for payload in payloads {
        let error = beside("v", "n.x", payload).expect_err(payload);
        assert_eq!(beside("n.x", "v", payload), Err(error), "{payload}");
    }
}

#[test]
fn paths_lead_as_deep_as_json_goes() {
    let deep = |levels| format!("{}7{}", "[".repeat(levels), "]".repeat(levels));
    let path = |levels| "/0".repeat(levels);
    let seven = Ok(Cell::Text("7".to_owned()));
    assert_eq!(beside(&path(127), "$", &deep(127)), seven);
    assert_eq!(beside(&path(128), "$", &deep(128)), Ok(Cell::Missing));
    // Nobody has to look at all of it, and nothing breaks where it is deeper than that.
    assert_eq!(beside("v", &path(128), &deep(1_000_000)), Ok(Cell::Missing));
}

#[test]
fn columns_are_made_once_where_rows_and_values_are_the_same() {
    use Wanted::{Integer, Real, Text};
    let copies = |one: &[Shape], other: &[Shape]| {
        let modules = [one.to_vec(), other.to_vec()];
        Readers::new(&modules).fitter.twins.len()
    };
    let of_type = |name: &str| shape(name, vec![field("a", Integer), optional("b", Text)]);
    let both = [of_type("T")];
    assert_eq!(copies(&both, &both), 2);
    let turned = [shape("T", vec![optional("b", Text), field("a", Integer)])];
    assert_eq!(copies(&both, &turned), 2);
    let pointer = [shape("T", vec![field("/a", Integer)])];
    assert_eq!(copies(&both, &pointer), 1);
    let stricter = [shape("T", vec![field("a", Real), field("b", Text)])];
    assert_eq!(copies(&both, &stricter), 0);
    // Other events, or not known which of the events.
    assert_eq!(copies(&both, &[of_type("U")]), 0);
    assert_eq!(copies(&[of_type("*")], &[of_type("*")]), 0);
    assert_eq!(copies(&both, &[of_type("T"), shape("T", vec![])]), 0);
    assert_eq!(
        copies(&both, &[of_type("U"), of_type("T"), of_type("*")]),
        2
    );
}

#[test]
fn a_third_module_has_the_columns_of_the_first() {
    let wants = |paths: &[&str]| {
        let fields = paths.iter().map(|path| field(path, Wanted::Integer));
        vec![shape("T", fields.collect())]
    };
    let modules = [
        wants(&["a", "b"]),
        wants(&["c", "a"]),
        wants(&["b", "c", "a"]),
    ];
    let payloads: Vec<_> = (0..9)
        .map(|n| format!(r#"{{"a":{n},"b":{},"c":{}}}"#, n + 100, n + 200))
        .collect();
    let payloads: Vec<_> = payloads.iter().collect();
    let (once, copies) = batches(&modules, &payloads, FitTo::OwnColumns);
    assert_eq!(copies, 4);
    assert_eq!(once, batches(&modules, &payloads, FitTo::AllColumns).0);
}

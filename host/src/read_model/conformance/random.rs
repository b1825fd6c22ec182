//! Any sequence of calls leaves a read model equal to a sorted map that got the same changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use retell_contract::manifest::{Manifest, Table, TableColumn, TableIndex};
use retell_contract::value::{ColumnType, Value};
use retell_contract::{encode_key, encode_row};

use super::{NewPlace, Place, at, manifest, provenance, reader};
use crate::read_model::{Flush, KEY_INDEX, ReadModel, RowChange, RowReader};

const KEY_KINDS: [ColumnType; 7] = [
    ColumnType::Boolean,
    ColumnType::Integer,
    ColumnType::Real,
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Timestamp,
    ColumnType::Uuid,
];

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(Vec<Value>, bool)>),
    /// As a flush that lays everything out anew, where the backend still does that; the flag: it may
    /// wait for the next one.
    Rewrite(Vec<(Vec<Value>, bool)>, bool),
    Commit,
    Rollback,
    /// The writer dies; its open transaction with it.
    Reopen,
    Ready,
    Get(Index),
    Scan {
        by: Index,
        row: Index,
        prefix: Index,
        after: Option<Vec<Value>>,
        limit: u32,
    },
}

type Rows = BTreeMap<Vec<u8>, Vec<Value>>;

pub(crate) fn equals_a_sorted_map(new_place: NewPlace<'_>) {
    let mut runner = TestRunner::new(Config::with_cases(60));
    runner
        .run(&case(), |(table, steps)| {
            let place = new_place();
            play(&*place, &manifest(vec![table]), &steps);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn play(place: &dyn Place, manifest: &Manifest, steps: &[Step]) {
    let table = &manifest.tables[0];
    let mut model = place.create(manifest, &provenance(), 1).expect("creates");
    let mut rows = Rows::new();
    let mut committed = (0, Rows::new());
    let mut beside = None;
    // What is flushed and not committed.
    let mut aside: Option<(u64, Rows)> = None;
    for step in steps {
        match step {
            Step::Rollback | Step::Reopen => aside = None,
            Step::Scan { .. } if aside.is_some() => {
                model.ensure_index(0, KEY_INDEX).expect("gets ready for it");
                committed = aside.take().expect("seen just above");
                assert_eq!(model.checkpoint().position, committed.0);
            }
            Step::Write(_) | Step::Commit | Step::Ready => {
                committed = aside.take().unwrap_or(committed);
            }
            Step::Rewrite(..) | Step::Get(_) | Step::Scan { .. } => {}
        }
        match step {
            Step::Write(changes) => write(&mut *model, table, &mut rows, changes),
            Step::Rewrite(changes, may_wait) => {
                if !model
                    .is_to_be_rewritten(1 << 20, *may_wait)
                    .expect("says so")
                {
                    continue;
                }
                let before = beside.get_or_insert_with(|| reader(&*model));
                let position = 1 + aside.as_ref().map_or(committed.0, |it| it.0);
                let old = rows.clone();
                rewrite(&mut *model, table, &mut rows, changes, position, *may_wait);
                // Whoever reads already sees it, too.
                same_rows(&mut **before, &old, &rows);
                if model.checkpoint() == at(position) {
                    (committed, aside) = ((position, rows.clone()), None);
                    assert_eq!(all_rows(&mut **before), encoded(&rows));
                } else {
                    assert!(may_wait, "it is committed");
                    assert_eq!(model.checkpoint(), at(committed.0));
                    aside = Some((position, rows.clone()));
                }
                let status = place.status().expect("says how it is");
                assert_eq!(status.checkpoint, at(committed.0));
                assert_eq!(status.flushed, position);
            }
            Step::Commit => {
                committed = (committed.0 + 1, rows.clone());
                model.commit(at(committed.0), 1.0).expect("commits");
                // One index after the other comes early.
                let index = u16::try_from(committed.0 - 1).expect("few steps");
                if usize::from(index) < table.indexes.len() {
                    model.ensure_index(0, index).expect("builds");
                }
            }
            Step::Rollback => {
                model.rollback();
                rows = committed.1.clone();
            }
            Step::Reopen => {
                drop(model);
                beside = None;
                model = place.open(manifest, &provenance(), 1).expect("opens");
                rows = committed.1.clone();
                assert_eq!(model.checkpoint().position, committed.0);
            }
            Step::Ready => {
                committed = (committed.0 + 1, rows.clone());
                model.commit(at(committed.0), 1.0).expect("commits");
                model.prepare_ready().expect("gets ready");
            }
            Step::Get(number) => {
                let rows = &aside.as_ref().unwrap_or(&committed).1;
                let key = number_of(*number, rows).map_or_else(Vec::new, |row| key(table, row));
                let expected = rows.get(&key).map(|row| encode_row(row));
                if expected.is_some() {
                    assert_eq!(
                        reader(&*model).get_many(0, &[&key, &key]).expect("reads"),
                        [expected.clone(), expected]
                    );
                }
            }
            Step::Scan { .. } => scan(&mut *reader(&*model), table, &committed.1, step),
        }
    }
    assert_eq!(all_rows(&mut *reader(&*model)), encoded(&committed.1));
}

/// A reader finds the rows of now, and none of those of before that are gone.
fn same_rows(reader: &mut dyn RowReader, before: &Rows, now: &Rows) {
    let keys: Vec<&[u8]> = before.keys().chain(now.keys()).map(Vec::as_slice).collect();
    let expected: Vec<_> = keys
        .iter()
        .map(|key| now.get(*key).map(|row| encode_row(row)))
        .collect();
    assert_eq!(reader.get_many(0, &keys).expect("reads"), expected);
}

fn all_rows(reader: &mut dyn RowReader) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = reader.scan(0, KEY_INDEX, &[], None, u32::MAX);
    let rows = all.expect("scans").into_iter();
    rows.map(|row| (row.key, row.row)).collect()
}

fn encoded(rows: &Rows) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = rows.iter();
    rows.map(|(key, row)| (key.clone(), encode_row(row)))
        .collect()
}

fn write(
    model: &mut dyn ReadModel,
    table: &Table,
    rows: &mut Rows,
    changes: &[(Vec<Value>, bool)],
) {
    with_changes(table, rows, changes, |changes| {
        model.write(changes).expect("writes");
    });
}

fn rewrite(
    model: &mut dyn ReadModel,
    table: &Table,
    rows: &mut Rows,
    changes: &[(Vec<Value>, bool)],
    position: u64,
    may_wait: bool,
) {
    with_changes(table, rows, changes, |changes| {
        let flush = Flush {
            tables: vec![(0, Box::new(changes.iter().copied()))],
            journal: &[],
            checkpoint: at(position),
            bytes: 1,
            is_last: false,
            may_wait,
            events_per_s: 1.0,
        };
        model.rewrite(flush).expect("rewrites");
    });
}

/// Hands the changes to `make` as a flush has them, and makes them in the map.
fn with_changes(
    table: &Table,
    rows: &mut Rows,
    changes: &[(Vec<Value>, bool)],
    make: impl FnOnce(&[RowChange<'_>]),
) {
    let sorted: BTreeMap<_, _> = changes
        .iter()
        .map(|(row, deletes)| (key(table, row), (encode_row(row), row, *deletes)))
        .collect();
    let packed: Vec<_> = sorted
        .iter()
        .map(|(key, (row, _, deletes))| RowChange {
            table: 0,
            key,
            row: (!deletes).then_some(row),
            // Every other row that is really new is said to be.
            fresh: !rows.contains_key(key) && key.len() % 2 == 0,
        })
        .collect();
    make(&packed);
    for (key, (_, row, deletes)) in sorted {
        if deletes {
            rows.remove(&key);
        } else {
            rows.insert(key, row.clone());
        }
    }
}

fn scan(reader: &mut dyn RowReader, table: &Table, rows: &Rows, step: &Step) {
    let Step::Scan {
        by,
        row,
        prefix,
        after,
        limit,
    } = step
    else {
        unreachable!("only called for scans");
    };
    let by = by.index(table.indexes.len() + 1);
    let (index, columns) = match table.indexes.get(by) {
        Some(index) => (
            u16::try_from(by).expect("few indexes"),
            index.columns.clone(),
        ),
        None => (KEY_INDEX, vec![]),
    };
    let order = [columns.as_slice(), &table.key].concat();
    let prefix_max = if index == KEY_INDEX {
        order.len()
    } else {
        columns.len()
    };
    let prefix = match number_of(*row, rows) {
        Some(row) => encode_key(&pick(row, &order[..prefix.index(prefix_max + 1)])),
        None => vec![],
    };
    let after = after.as_ref().map(|row| encode_key(&pick(row, &order)));
    let mut expected: Vec<_> = rows
        .iter()
        .map(|(key, row)| (encode_key(&pick(row, &order)), key.clone(), encode_row(row)))
        .filter(|(place, ..)| place.starts_with(&prefix))
        .filter(|(place, ..)| after.as_ref().is_none_or(|after| place > after))
        .collect();
    expected.sort();
    expected.truncate(*limit as usize);
    let found = reader
        .scan(0, index, &prefix, after.as_deref(), *limit)
        .expect("scans");
    let found: Vec<_> = found.into_iter().map(|row| (row.key, row.row)).collect();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(_, key, row)| (key, row))
        .collect();
    assert_eq!(found, expected);
}

fn number_of(number: Index, rows: &Rows) -> Option<&Vec<Value>> {
    (!rows.is_empty()).then(|| rows.values().nth(number.index(rows.len())))?
}

fn key(table: &Table, row: &[Value]) -> Vec<u8> {
    encode_key(&pick(row, &table.key))
}

fn pick(row: &[Value], columns: &[u16]) -> Vec<Value> {
    columns
        .iter()
        .map(|&c| row[usize::from(c)].clone())
        .collect()
}

fn case() -> impl Strategy<Value = (Table, Vec<Step>)> {
    table().prop_flat_map(|table| {
        // Writing in place is for good: what comes before it is given room.
        let first = prop::collection::vec(first_step(&table), 0..8);
        let steps = prop::collection::vec(step(&table), 1..25);
        let steps = (first, steps).prop_map(|(first, steps)| [first, steps].concat());
        (Just(table), steps)
    })
}

fn table() -> impl Strategy<Value = Table> {
    let key = prop::collection::vec(prop::sample::select(KEY_KINDS.to_vec()), 1..3);
    let others = prop::collection::vec(
        (
            prop_oneof![
                5 => prop::sample::select(KEY_KINDS.to_vec()),
                1 => Just(ColumnType::Json)
            ],
            any::<bool>(),
        ),
        0..4,
    );
    let shape = (key, others, any::<bool>());
    shape.prop_flat_map(|(key, others, key_last)| {
        let key_columns = key.into_iter().map(|kind| (kind, false, true));
        let mut columns: Vec<_> = key_columns
            .chain(others.into_iter().map(|(k, n)| (k, n, false)))
            .collect();
        if key_last {
            columns.reverse();
        }
        let numbers = 0..u16::try_from(columns.len()).expect("few columns");
        let key: Vec<u16> = numbers
            .clone()
            .filter(|&n| columns[usize::from(n)].2)
            .collect();
        let indexable: Vec<u16> = numbers
            .filter(|&n| columns[usize::from(n)].0 != ColumnType::Json)
            .collect();
        let count = 1..=indexable.len().min(3);
        let index = prop::sample::subsequence(indexable, count).prop_shuffle();
        prop::collection::vec(index, 0..3).prop_map(move |indexes| Table {
            name: "order".into(),
            columns: columns
                .iter()
                .enumerate()
                .map(|(number, &(kind, nullable, _))| TableColumn {
                    name: ["select", "b", "c", "d", "e", "f"][number].into(),
                    kind,
                    nullable,
                })
                .collect(),
            key: key.clone(),
            indexes: indexes
                .into_iter()
                .enumerate()
                .map(|(number, columns)| TableIndex {
                    name: format!("index{number}"),
                    columns,
                    unique: false,
                })
                .collect(),
        })
    })
}

fn first_step(table: &Table) -> impl Strategy<Value = Step> + use<> {
    let changes = prop::collection::vec((row(table), prop::bool::weighted(0.3)), 0..8);
    prop_oneof![
        6 => (changes, any::<bool>()).prop_map(|(it, may_wait)| Step::Rewrite(it, may_wait)),
        1 => Just(Step::Reopen),
        2 => any::<Index>().prop_map(Step::Get),
    ]
}

fn step(table: &Table) -> impl Strategy<Value = Step> + use<> {
    let row = row(table).boxed();
    let changes = prop::collection::vec((row.clone(), prop::bool::weighted(0.3)), 0..8);
    let scan = (
        any::<Index>(),
        any::<Index>(),
        any::<Index>(),
        prop::option::of(row),
        0..6u32,
    );
    prop_oneof![
        6 => changes.prop_map(Step::Write),
        2 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Reopen),
        1 => Just(Step::Ready),
        3 => any::<Index>().prop_map(Step::Get),
        8 => scan.prop_map(|(by, row, prefix, after, limit)| Step::Scan { by, row, prefix, after, limit }),
    ]
}

fn row(table: &Table) -> impl Strategy<Value = Vec<Value>> + use<> {
    let values: Vec<_> = table
        .columns
        .iter()
        .map(|c| value(c.kind, c.nullable))
        .collect();
    values
}

/// Few values of each type, so that rows meet, and those near the edges of the encodings.
fn value(kind: ColumnType, nullable: bool) -> BoxedStrategy<Value> {
    use prop::sample::select;
    let values: Vec<Value> = match kind {
        ColumnType::Boolean => vec![Value::Boolean(false), Value::Boolean(true)],
        ColumnType::Integer => [i64::MIN, -256, -255, -1, 0, 1, 255, 256, i64::MAX]
            .map(Value::Integer)
            .to_vec(),
        ColumnType::Timestamp => [-62_135_596_800_000_000, -1, 0, 1, 253_402_300_799_999_999]
            .map(Value::Timestamp)
            .to_vec(),
        ColumnType::Real => [
            f64::MIN,
            -1.5,
            -1.0,
            -f64::MIN_POSITIVE,
            0.0,
            5e-324,
            1.0,
            1e300,
        ]
        .map(Value::Real)
        .to_vec(),
        ColumnType::Text => [
            "",
            "\u{1}",
            "a",
            "a\u{1}",
            "ab",
            "B",
            "é",
            "\u{10ffff}",
            "\u{fffd}",
        ]
        .map(|text| Value::Text(text.into()))
        .to_vec(),
        ColumnType::Bytes => [&b""[..], b"\0", b"\0\0", b"\x01", b"a", b"\xff"]
            .map(|bytes| Value::Bytes(bytes.into()))
            .to_vec(),
        ColumnType::Uuid => [0, 1, 0x9f, 0xa0, 0xff]
            .map(|b| Value::Uuid([b; 16]))
            .to_vec(),
        ColumnType::Json => ["null", "{\"a\":1,\"b\":[]}", "1.5", "\"x\""]
            .map(|text| Value::Json(text.into()))
            .to_vec(),
    };
    if nullable {
        prop_oneof![1 => Just(Value::Null), 3 => select(values)].boxed()
    } else {
        select(values).boxed()
    }
}

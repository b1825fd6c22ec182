//! The tables against a plain map: whatever the cache's budget, the order of puts, deletes, stages,
//! scans, failures, freezes and flushes, the module sees the rows it made.

use std::collections::BTreeMap;

use proptest::prelude::*;
use retell_contract::manifest::{
    Envelope, Field, Manifest, Shape, Table, TableColumn, TableIndex, Wanted,
};
use retell_contract::{ColumnType, Value, encode_key, encode_row};

use super::*;
use crate::read_model::sqlite::SqliteReadModel;
use crate::read_model::{Checkpoint, KEY_INDEX, Provenance};
use crate::replay::writer::{Flush, Writer};

const PLAIN: u16 = 0;
const UNIQUE: u16 = 1;
const CALL_BYTES_MAX: usize = 1 << 20;

/// Two tables (id integer, tag text): one with an index on the tag, one with a unique index on it.
fn manifest() -> Manifest {
    let column = |name: &str, kind: ColumnType, nullable: bool| TableColumn {
        name: name.into(),
        kind,
        nullable,
    };
    let table = |name: &str, unique: bool| Table {
        name: name.into(),
        columns: vec![
            column("id", ColumnType::Integer, false),
            column("tag", ColumnType::Text, true),
        ],
        key: vec![0],
        indexes: vec![TableIndex {
            name: "by_tag".into(),
            columns: vec![1],
            unique,
        }],
    };
    let field = Field {
        paths: vec!["id".into()],
        wants: Wanted::Integer,
        optional: false,
        nullable: false,
    };
    Manifest {
        name: "tagged".into(),
        version: "1.0.0".into(),
        shapes: vec![Shape {
            event_type: "Tagged".into(),
            fields: vec![field],
        }],
        tables: vec![table("plain", false), table("unique", true)],
        envelope: Envelope::default(),
        hints: vec![],
        after_replay: vec![],
    }
}

/// Tables with their writer; what was frozen waits until it is told to write.
struct Bench {
    tables: Tables,
    writer: Writer,
    frozen: Option<Flush>,
    flushes: FlushNumber,
    folder: tempfile::TempDir,
}

fn provenance() -> Provenance {
    Provenance {
        projection: "tagged".into(),
        version: "1.0.0".into(),
        build: 1,
        module_digest: "d".into(),
        sdk: "0.1.0".into(),
        contract: "0.1.0".into(),
        log_id: "l".into(),
    }
}

impl Bench {
    fn new(cache_bytes_max: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.db");
        let model = SqliteReadModel::create(&path, &manifest(), &provenance(), 1);
        let model: Box<dyn ReadModel> = Box::new(model.expect("a fresh read model"));
        let model: SharedModel = Arc::new(Mutex::new(model));
        Self {
            tables: Tables::new(
                &manifest(),
                model.clone(),
                cache_bytes_max,
                CALL_BYTES_MAX,
                true,
            ),
            writer: Writer::new(model, Arc::default(), 0),
            frozen: None,
            flushes: 0,
            folder,
        }
    }

    fn freeze(&mut self) {
        self.write().expect("what was frozen before is sound");
        self.flushes += 1;
        self.frozen = Some(Flush {
            frozen: self.tables.freeze(self.flushes),
            journal: Vec::new(),
            checkpoint: Checkpoint {
                position: self.flushes.into(),
                log_hash: [0; 32],
            },
            is_last: false,
            events_per_s: 0.0,
        });
    }

    /// Writes what is frozen.
    fn write(&mut self) -> Result<(), ReadModelError> {
        if let Some(flush) = self.frozen.take() {
            let written = self.writer.write(flush)?;
            self.tables.committed(written.number);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ReadModelError> {
        self.freeze();
        self.write()
    }

    /// The process dies: what was not written is lost.
    fn reopen(&mut self, cache_bytes_max: usize) {
        self.frozen = None;
        let path = self.folder.path().join("m.db");
        let model = SqliteReadModel::open(&path, &manifest(), &provenance(), 1);
        let model: Box<dyn ReadModel> = Box::new(model.expect("it is there"));
        let model: SharedModel = Arc::new(Mutex::new(model));
        self.tables = Tables::new(
            &manifest(),
            model.clone(),
            cache_bytes_max,
            CALL_BYTES_MAX,
            false,
        );
        self.writer = Writer::new(model, Arc::default(), 0);
    }
}

fn key(id: i64) -> Vec<u8> {
    encode_key(&[Value::Integer(id)])
}

fn tag_value(tag: Option<u8>) -> Value {
    tag.map_or(Value::Null, |tag| Value::Text(format!("tag-{tag}")))
}

fn row(id: i64, tag: Option<u8>) -> Vec<u8> {
    encode_row(&[Value::Integer(id), tag_value(tag)])
}

/// A change-set; `None` deletes, `Some(tag)` puts.
fn change_set(table: u16, changes: &[(i64, Option<Option<u8>>)]) -> ChangeSet {
    let mut set = ChangeSet {
        events: vec![],
        tables: vec![],
        kinds: vec![],
        key_ends: vec![],
        keys: vec![],
        row_ends: vec![],
        rows: vec![],
    };
    for (number, (id, change)) in changes.iter().enumerate() {
        set.events.push(u32::try_from(number).expect("few"));
        set.tables.push(table);
        set.kinds.push(u8::from(change.is_none()));
        set.keys.extend(key(*id));
        set.key_ends
            .push(u32::try_from(set.keys.len()).expect("few"));
        set.rows
            .extend(change.map(|tag| row(*id, tag)).unwrap_or_default());
        set.row_ends
            .push(u32::try_from(set.rows.len()).expect("few"));
    }
    set
}

fn read(tables: &mut Tables, table: u16, id: i64) -> Vec<u8> {
    let key = key(id);
    let ends = [u32::try_from(key.len()).expect("short")];
    tables.get_many(table, &key, &ends).expect("readable").rows
}

/// All rows of an index prefix, page by page.
fn scan_all(tables: &mut Tables, index: u16, prefix: &[u8], page: u32) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let packed = tables
            .scan(PLAIN, index, prefix, after.as_deref(), page)
            .expect("scannable");
        let rows = Packed::check(&packed.rows, &packed.row_ends).expect("packed soundly");
        for row in (0..rows.len()).map(|number| rows.get(number)) {
            let columns = [(ColumnType::Integer, false), (ColumnType::Text, true)];
            let own = retell_contract::key_of_row(row, &columns, &[0]).expect("a row");
            let mut place = if index == KEY_INDEX {
                Vec::new()
            } else {
                retell_contract::key_of_row(row, &columns, &[1]).expect("a row")
            };
            place.extend(own);
            after = Some(place);
            all.push(row.to_vec());
        }
        if rows.len() < usize::try_from(page).expect("small") {
            return all;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Staged changes, returned changes, and whether the call succeeds.
    Call {
        staged: Vec<(i64, Option<Option<u8>>)>,
        returned: Vec<(i64, Option<Option<u8>>)>,
        ok: bool,
    },
    /// Changed rows go into the writer's hands …
    Freeze,
    /// … and into the read model.
    Write,
    Flush,
    /// All that was not written is lost.
    Die,
    Scan {
        tag: u8,
        page: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0_i64..20, prop::option::of(prop::option::of(0_u8..4)));
    let changes = prop::collection::vec(change, 0..6);
    prop_oneof![
        4 => (changes.clone(), changes, prop::bool::weighted(0.8))
            .prop_map(|(staged, returned, ok)| Step::Call { staged, returned, ok }),
        2 => Just(Step::Freeze),
        2 => Just(Step::Write),
        1 => Just(Step::Flush),
        1 => Just(Step::Die),
        2 => (0_u8..4, 1_u32..5).prop_map(|(tag, page)| Step::Scan { tag, page }),
    ]
}

type Plain = BTreeMap<i64, Option<u8>>;

fn fold(map: &mut Plain, changes: &[(i64, Option<Option<u8>>)]) {
    for (id, change) in changes {
        match change {
            Some(tag) => map.insert(*id, *tag),
            None => map.remove(id),
        };
    }
}

fn expected_scan(map: &Plain, tag: u8) -> Vec<Vec<u8>> {
    map.iter()
        .filter(|it| *it.1 == Some(tag))
        .map(|(id, tag)| row(*id, *tag))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_module_sees_what_it_wrote(
        steps in prop::collection::vec(step(), 1..40),
        budget in prop_oneof![Just(0_usize), Just(2_000), Just(1 << 20)],
    ) {
        let mut bench = Bench::new(budget);
        let (mut map, mut frozen, mut written) = (Plain::new(), Plain::new(), Plain::new());
        for step in steps {
            let tables = &mut bench.tables;
            match step {
                Step::Call { staged, returned, ok } => {
                    tables.begin_call(10);
                    let mut seen = map.clone();
                    if !staged.is_empty() {
                        tables.stage(change_set(PLAIN, &staged)).expect("sound");
                        fold(&mut seen, &staged);
                        let prefix = encode_key(&[tag_value(Some(1))]);
                        prop_assert_eq!(scan_all(tables, 0, &prefix, 2), expected_scan(&seen, 1));
                    }
                    if ok {
                        tables.merge(&change_set(PLAIN, &returned), 10).expect("sound");
                        fold(&mut seen, &returned);
                        map = seen;
                    } else {
                        tables.take_back();
                    }
                }
                Step::Freeze => {
                    if bench.frozen.is_some() {
                        written = frozen;
                    }
                    bench.freeze();
                    frozen = map.clone();
                }
                Step::Write => {
                    if bench.frozen.is_some() {
                        written = frozen.clone();
                    }
                    bench.write().expect("written");
                }
                Step::Flush => {
                    bench.flush().expect("flushed");
                    (frozen, written) = (map.clone(), map.clone());
                }
                Step::Die => {
                    bench.reopen(budget);
                    map = written.clone();
                }
                Step::Scan { tag, page } => {
                    tables.begin_call(10);
                    let prefix = encode_key(&[tag_value(Some(tag))]);
                    prop_assert_eq!(scan_all(tables, 0, &prefix, page), expected_scan(&map, tag));
                    let all: Vec<_> = map.iter().map(|(id, tag)| row(*id, *tag)).collect();
                    prop_assert_eq!(scan_all(tables, KEY_INDEX, &[], page), all);
                }
            }
            for id in 0..20 {
                let expected = map.get(&id).map(|tag| row(id, *tag)).unwrap_or_default();
                prop_assert_eq!(read(&mut bench.tables, PLAIN, id), expected);
            }
        }
    }

    /// Uniqueness is checked change by change, so the cut into calls and flushes can't matter.
    #[test]
    fn a_duplicate_is_the_doing_of_one_event_however_batches_are_cut(
        changes in prop::collection::vec((0_i64..8, prop::option::of(prop::option::of(0_u8..5))), 1..30),
        cuts in prop::collection::vec(1_usize..6, 30),
        budget in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let mut bench = Bench::new(budget);
        let mut map = Plain::new();
        let mut rest = &changes[..];
        for cut in cuts {
            let tables = &mut bench.tables;
            let (batch, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            let mut folded = map.clone();
            let mut duplicate = None;
            for (event, (id, change)) in batch.iter().enumerate() {
                let taken = change.flatten().is_some_and(|tag| {
                    folded.iter().any(|(other, held)| other != id && *held == Some(tag))
                });
                if taken {
                    duplicate = Some(event);
                    break;
                }
                fold(&mut folded, &[(*id, *change)]);
            }
            tables.begin_call(10);
            match (tables.merge(&change_set(UNIQUE, batch), 10), duplicate) {
                (Ok(()), None) => map = folded,
                (Err(MergeError::Duplicate { event, .. }), Some(expected)) => {
                    prop_assert_eq!(usize::try_from(event).expect("small"), expected);
                    tables.take_back();
                }
                (merged, expected) => prop_assert!(false, "{merged:?}, expected {expected:?}"),
            }
            match cut {
                1 | 2 => bench.freeze(),
                3 => bench.write().expect("written"),
                4 => bench.flush().expect("flushed"),
                _ => {}
            }
            for id in 0..8 {
                let expected = map.get(&id).map(|tag| row(id, *tag)).unwrap_or_default();
                prop_assert_eq!(read(&mut bench.tables, UNIQUE, id), expected);
            }
        }
    }
}

#[test]
fn senseless_change_sets_break_the_contract() {
    let mut bench = Bench::new(1 << 20);
    let tables = &mut bench.tables;
    let sound = || change_set(PLAIN, &[(1, Some(Some(1))), (2, None)]);
    let spoilt: [fn(&mut ChangeSet); 8] = [
        |set| set.events[1] = 10,
        |set| set.tables[0] = 2,
        |set| set.kinds[0] = 2,
        |set| set.kinds[1] = 0,
        |set| set.key_ends.truncate(1),
        |set| set.key_ends[0] = u32::MAX,
        |set| set.row_ends.swap(0, 1),
        |set| set.rows.push(0),
    ];
    for (number, spoil) in spoilt.iter().enumerate() {
        let mut set = sound();
        spoil(&mut set);
        let merged = tables.merge(&set, 10);
        // Swapping equal ends changes nothing, which is no lie either.
        let harmless = number == 6;
        assert_eq!(
            matches!(merged, Err(MergeError::Contract { .. })),
            !harmless,
            "case {number}"
        );
    }
    tables.merge(&sound(), 10).expect("sound");
    assert!(tables.get_many(2, &[], &[]).is_err(), "an unknown table");
    assert!(
        tables.get_many(PLAIN, &[1, 2], &[9]).is_err(),
        "an end out of range"
    );
}

#[test]
fn a_row_under_a_foreign_key_is_the_modules_fault() {
    let mut bench = Bench::new(1 << 20);
    let mut set = change_set(PLAIN, &[(1, Some(None))]);
    set.rows = row(2, None);
    bench.tables.merge(&set, 10).expect("its packing is sound");
    assert!(bench.flush().expect_err("refused").is_the_modules_fault());
}

#[test]
fn a_key_that_is_too_long_is_the_modules_fault() {
    let mut tables = Bench::new(1 << 20).tables;
    let key = vec![0; 70_000];
    let asked = tables.get_many(PLAIN, &key, &[70_000]);
    let Err(RowSourceError::Contract { message }) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(
        message,
        "a key takes 70000 bytes, and at most 1024 are allowed"
    );
    let changes = ChangeSet {
        events: vec![0],
        tables: vec![PLAIN],
        kinds: vec![0],
        key_ends: vec![70_000],
        keys: key,
        row_ends: vec![1],
        rows: vec![0],
    };
    tables.begin_call(1);
    let merged = tables.merge(&changes, 1);
    assert!(
        matches!(merged, Err(MergeError::Contract { .. })),
        "{merged:?}"
    );
    assert!(matches!(
        tables.stage(changes),
        Err(RowSourceError::Contract { .. })
    ));
}

/// A smaller batch asks for less, so it is no breach of the contract.
#[test]
fn more_rows_than_a_call_may_carry_are_a_limit() {
    let mut bench = Bench::new(1 << 20);
    let set = change_set(PLAIN, &[(1, Some(None)), (2, Some(None))]);
    bench.tables.merge(&set, 10).expect("sound");
    let keys = [&set.keys[..], &set.keys].concat();
    let width = u32::try_from(set.keys.len() / 2).expect("short");
    let ends = [width, 2 * width, 3 * width, 4 * width];
    let bytes = |ends: &[u32]| ends.last().map_or(0, |end| *end as usize);
    let both = bench
        .tables
        .get_many(PLAIN, &keys[..bytes(&ends[..2])], &ends[..2]);
    bench.tables.call_bytes_max = both.expect("there is room").rows.len();
    for (asked, fits) in [(2, true), (3, false), (4, false)] {
        let ends = &ends[..asked];
        let got = bench.tables.get_many(PLAIN, &keys[..bytes(ends)], ends);
        match got {
            Ok(_) => assert!(fits, "{asked}"),
            Err(RowSourceError::TooMuch) => assert!(!fits, "{asked}"),
            Err(error) => panic!("{error}"),
        }
    }
    bench.tables.call_bytes_max -= 1;
    let scanned = bench.tables.scan(PLAIN, KEY_INDEX, &[], None, 10);
    assert!(
        matches!(scanned, Err(RowSourceError::TooMuch)),
        "{scanned:?}"
    );
}

/// Keys that nothing is under take room, too, until the call is over.
#[test]
fn what_a_call_reads_is_bounded_and_what_calls_before_it_read_is_forgotten() {
    let mut bench = Bench::new(1 << 14);
    bench.reopen(1 << 14);
    bench.tables.call_bytes_max = 1 << 16;
    let mut first = 0;
    let mut ask = |tables: &mut Tables| {
        let keys: Vec<Vec<u8>> = (first..first + 100).map(key).collect();
        first += 100;
        let ends = keys.iter().scan(0, |end, key| {
            *end += u32::try_from(key.len()).expect("short");
            Some(*end)
        });
        let ends: Vec<u32> = ends.collect();
        tables.get_many(PLAIN, &keys.concat(), &ends).map(drop)
    };
    let mut asked = 0;
    let refused = loop {
        match ask(&mut bench.tables) {
            Ok(()) => asked += 1,
            Err(error) => break error,
        }
        assert!(asked < 100, "it goes on for ever");
    };
    assert!(matches!(refused, RowSourceError::TooMuch), "{refused}");
    assert!(asked > 2);
    // A hundred calls more, without a flush: none of them is told what the others have read.
    for _ in 0..100 {
        bench.tables.make_room();
        bench.tables.begin_call(1);
        ask(&mut bench.tables).expect("it is little");
        assert!(bench.tables.bytes() < 1 << 16);
    }
}

/// A value that is given up is nobody's, and need not be noted as long as all rows are known.
#[test]
fn values_that_are_given_up_take_no_memory() {
    let mut bench = Bench::new(1 << 20);
    for turn in 0..200 {
        let set = change_set(UNIQUE, &[(1, Some(Some(turn)))]);
        bench.tables.merge(&set, 10).expect("nobody has it");
        bench.flush().expect("flushes");
    }
    assert!(bench.tables.all[usize::from(UNIQUE)].owners_noted() < 10);
}

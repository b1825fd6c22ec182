use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn cache() -> TableCache {
    TableCache::new(Absence::new(true))
}

/// Key, row, and whether it is new.
type Row<'a> = (&'a [u8], Option<&'a [u8]>, bool);

fn rows(frozen: &mut FrozenRows) -> Vec<Row<'_>> {
    frozen.sort();
    let rows = frozen.iter().map(|it| (it.key, it.row, it.fresh));
    rows.collect()
}

type OwnedRow = (Vec<u8>, Option<Vec<u8>>, bool);

fn owned((key, row, is_new): Row<'_>) -> OwnedRow {
    (key.to_vec(), row.map(<[u8]>::to_vec), is_new)
}

#[test]
fn a_flush_gets_each_change_once_and_knows_what_is_new() {
    let mut cache = TableCache::new(Absence::new(false));
    assert_eq!(cache.get(b"a"), None);
    cache.remember(b"a", Some(b"old"));
    cache.change(b"a", Some(b"new"));
    cache.remember(b"b", None);
    cache.change(b"b", Some(b"fresh"));
    cache.change(b"c", Some(b"perhaps there"));
    cache.remember(b"d", None);
    cache.change(b"d", Some(b"gone soon"));
    cache.change(b"d", None);
    cache.remember(b"a", Some(b"stale"));
    assert_eq!(cache.get(b"a"), Some(Some(&b"new"[..])));
    assert_eq!(cache.get(b"d"), Some(None));
    let mut frozen = cache.freeze(1);
    let expected: [Row<'_>; 3] = [
        (b"a", Some(b"new"), false),
        (b"b", Some(b"fresh"), true),
        (b"c", Some(b"perhaps there"), false),
    ];
    assert_eq!(rows(&mut frozen), expected);
    assert_eq!(cache.dirty_bytes(), 0);
    assert_eq!(cache.freeze(2).len(), 0);
    cache.change(b"b", None);
    let mut removed = cache.freeze(3);
    assert_eq!(rows(&mut removed), [(&b"b"[..], None, false)]);
}

#[test]
fn the_writer_keeps_the_row_it_was_given() {
    let mut cache = cache();
    cache.change(b"key", Some(b"first"));
    let mut frozen = cache.freeze(1);
    cache.change(b"key", Some(b"other"));
    assert_eq!(
        rows(&mut frozen),
        [(&b"key"[..], Some(&b"first"[..]), true)]
    );
    assert_eq!(cache.get(b"key"), Some(Some(&b"other"[..])));
}

#[test]
fn memory_is_counted_both_ways() {
    let mut cache = cache();
    cache.change(b"key", Some(&[0; 100]));
    let one = cache.bytes();
    cache.change(b"key", Some(&[0; 50]));
    assert_eq!(cache.bytes(), one - 50);
    assert_eq!(cache.dirty_bytes(), cache.bytes());
    drop(cache.freeze(1));
    cache.evict(0, |_, _, _| panic!("it is frozen, not clean"));
    cache.committed(1);
    cache.evict(0, |_, _, _| {});
    assert_eq!((cache.bytes(), cache.dirty_bytes()), (0, 0));
    assert_eq!(cache.get(b"key"), None, "it is in the table");
    assert_eq!(cache.get(b"other"), Some(None), "it never was");
}

#[test]
fn rows_that_are_used_again_outlive_the_others() {
    let mut cache = cache();
    let rows = 10 * KEYS_AHEAD as u64;
    let key = u64::to_be_bytes;
    let is_used = |row: u64| row.is_multiple_of(3);
    for row in 0..rows {
        cache.change(&key(row), Some(b"row"));
    }
    drop(cache.freeze(1));
    cache.committed(1);
    for row in (0..rows).filter(|&row| is_used(row)) {
        assert!(cache.get(&key(row)).is_some());
    }
    let bytes_max = cache.bytes() / 2;
    let mut forgotten = 0;
    cache.evict(bytes_max, |_, key, row| {
        let number = key.first_chunk().map(|key| u64::from_be_bytes(*key));
        assert!(number.is_some_and(|row| !is_used(row)) && row == b"row");
        forgotten += 1;
    });
    assert_eq!(forgotten, rows / 2);
    let known = (0..rows).filter(|&row| cache.knows(&key(row)));
    assert_eq!(known.count() as u64, rows - forgotten);
}

#[test]
fn rows_are_forgotten_though_flush_numbers_begin_anew() {
    let mut cache = TableCache::new(Absence::new(false));
    let mut flush = FlushNumber::MAX - 2;
    let mut before: Option<[u8; 1]> = None;
    for key in 0..6 {
        flush = flush.wrapping_add(1);
        cache.change(&[key], Some(b"row"));
        drop(cache.freeze(flush));
        cache.evict(0, |_, _, _| {});
        cache.evict(0, |_, _, _| {});
        assert!(cache.knows(&[key]), "it is not committed");
        assert!(before.is_none_or(|key| !cache.knows(&key)), "it is");
        cache.committed(flush);
        before = Some([key]);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Change(u8, Option<u8>),
    /// Changes that are taken back, last one first.
    Undone(Vec<(u8, Option<u8>)>),
    Freeze,
    Commit,
    Evict(usize),
    /// What the cache has forgotten comes back from the table.
    Fetch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let change = || (0_u8..24, prop::option::of(any::<u8>()));
    prop_oneof![
        8 => change().prop_map(|(key, row)| Step::Change(key, row)),
        2 => prop::collection::vec(change(), 1..5).prop_map(Step::Undone),
        2 => Just(Step::Freeze),
        2 => Just(Step::Commit),
        2 => (0_usize..2_000).prop_map(Step::Evict),
        2 => (0_u8..24).prop_map(Step::Fetch),
    ]
}

fn key(key: u8) -> Vec<u8> {
    vec![key; 1 + usize::from(key % 11)]
}

fn row(row: u8) -> Vec<u8> {
    vec![row; usize::from(row % 5)]
}

#[test]
fn rows_that_come_and_go_take_no_more_memory_each_time() {
    let mut cache = cache();
    let keys = || (0..100_u32).map(u32::to_be_bytes);
    for key in keys() {
        cache.change(&key, Some(b"row"));
    }
    drop(cache.freeze(1));
    cache.committed(1);
    for _ in 0..2_000 {
        cache.evict(0, |_, _, _| {});
        for key in keys() {
            assert_eq!(cache.get(&key), None, "it was forgotten");
            cache.remember(&key, Some(b"row"));
        }
    }
    assert_eq!(cache.absence.filters(), 1);
}

proptest! {
    /// Beside a table that gets what is frozen, when it is committed: what the cache knows is the
    /// truth, what it has forgotten the table has, and what it says of the table is so.
    #[test]
    fn what_is_not_known_here_is_in_the_table(steps in prop::collection::vec(step(), 1..120)) {
        let mut cache = cache();
        let mut truth: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut table = truth.clone();
        let mut writer: Option<(FrozenRows, Vec<OwnedRow>)> = None;
        let mut flushes = 0;
        for step in steps {
            match step {
                Step::Change(at, change) => {
                    let change = change.map(row);
                    cache.change(&key(at), change.as_deref());
                    match change {
                        Some(row) => truth.insert(key(at), row),
                        None => truth.remove(&key(at)),
                    };
                }
                Step::Undone(changes) => {
                    let mut journal = Vec::new();
                    for (at, change) in changes {
                        journal.push((key(at), cache.before(&key(at))));
                        cache.change(&key(at), change.map(row).as_deref());
                    }
                    while let Some((key, before)) = journal.pop() {
                        cache.restore(&key, before);
                    }
                }
                Step::Freeze if writer.is_none() => {
                    flushes += 1;
                    let mut frozen = cache.freeze(flushes);
                    let all = rows(&mut frozen).into_iter().map(owned).collect();
                    writer = Some((frozen, all));
                }
                Step::Commit => if let Some((mut frozen, all)) = writer.take() {
                    let still: Vec<_> = rows(&mut frozen).into_iter().map(owned).collect();
                    prop_assert_eq!(&still, &all, "the writer keeps what it was given");
                    for (key, row, is_new) in all {
                        let was_there = match row {
                            Some(row) => table.insert(key.clone(), row).is_some(),
                            None => table.remove(&key).is_some(),
                        };
                        prop_assert!(!(is_new && was_there), "{key:?} is not new");
                    }
                    cache.committed(flushes);
                },
                Step::Freeze => {}
                Step::Evict(bytes_max) => cache.evict(bytes_max, |_, _, _| {}),
                Step::Fetch(at) => if cache.get(&key(at)).is_none() {
                    cache.remember(&key(at), table.get(&key(at)).map(Vec::as_slice));
                },
            }
            for at in 0..24 {
                let expected = truth.get(&key(at)).map(Vec::as_slice);
                match cache.get(&key(at)) {
                    Some(known) => prop_assert_eq!(known, expected),
                    None => prop_assert_eq!(table.get(&key(at)).map(Vec::as_slice), expected),
                }
            }
            let slots = || cache.slots.iter().map(|(_, slot)| slot);
            let known: usize = slots().map(Slot::cost).sum();
            let dirty = slots().filter(|slot| slot.dirty);
            prop_assert_eq!(cache.bytes(), known);
            prop_assert_eq!(cache.dirty_bytes(), dirty.map(Slot::cost).sum::<usize>());
        }
    }
}

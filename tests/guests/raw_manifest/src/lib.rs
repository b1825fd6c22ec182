//! Written against the contract alone, without the SDK, whose macros would not compile a manifest
//! that makes no sense. What the module says and does is JSON in a marked place of its data, which
//! a test overwrites in the finished file: one compilation serves every case.

mod allocator;
mod manifest;

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher as _};

use retell_contract::{Manifest, Value};
use serde::Deserialize;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../guest-sdk/contract/wit",
        world: "projection",
        pub_export_macro: true,
    });
}

use bindings::retell::projection::{read_model, types as wit};

/// The mark, then room for the script, filled up with spaces.
const MARK: &[u8] = b"script of the test:";
const ROOM: usize = 16 << 10;
/// What stands there before a test writes: `retell build` asks a module what it is.
const UNWRITTEN: &[u8] = br#"{ "manifest": { "name": "unwritten", "version": "0.0.0",
    "shapes": [{ "event_type": "*", "fields": [] }],
    "tables": [{ "name": "seen", "key": [0], "indexes": [],
        "columns": [{ "name": "position", "kind": "integer", "nullable": false }] }],
    "envelope": { "revision": false, "time": false, "recorded_at": false, "occurred_at": false,
        "stream": false, "id": false, "metadata": false, "type_name": false },
    "hints": [], "after_replay": [] } }"#;

static SCRIPT: [u8; ROOM] = {
    let mut script = [b' '; ROOM];
    let mut at = 0;
    while at < MARK.len() + UNWRITTEN.len() {
        script[at] = if at < MARK.len() {
            MARK[at]
        } else {
            UNWRITTEN[at - MARK.len()]
        };
        at += 1;
    }
    script
};

#[used]
#[unsafe(link_section = "retell:contract")]
static STAMP: [u8; 33] = *br#"{"contract":"0.1.0","sdk":"none"}"#;

#[derive(Deserialize)]
struct Script {
    manifest: Manifest,
    #[serde(default)]
    conduct: Conduct,
}

/// How the module behaves.
#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Conduct {
    /// Puts the position of every event into its first table, which has one integer column.
    #[default]
    Positions,
    /// `describe` traps without a word.
    DescribeTraps,
    /// `describe` reads a table.
    DescribeReads,
    /// `apply` names a table that the manifest has not.
    UnknownTable,
    /// `apply` reads a table that the manifest has not.
    ReadsAnotherTable,
    /// `apply` puts a row that is no row.
    BrokenRow,
    /// `apply` says less of keys than of rows.
    UnevenLists,
    /// `apply` traps without a word.
    ApplyTraps,
    /// `apply` refuses an event that is not in the batch.
    RefusesAnother,
    /// Adds to every position how often it was called before, which nothing in the log says.
    Remembers,
    /// Traps where it gets fewer than 500 events at once.
    Shy,
    /// `apply` says that its keys end behind their end.
    EndsOutOfRange,
    /// `apply` says that its keys end in no order.
    UnsortedEnds,
    /// `apply` puts rows with a column too many.
    WrongColumns,
    /// `apply` puts rows with a text where an integer belongs.
    WrongTypes,
    /// `apply` refuses an event in words that are no UTF-8.
    NotUtf8,
    /// `apply` grows its memory as far as it goes, and copies all of it.
    GrowsAndCopies,
    /// `apply` puts a row of 64 MiB.
    HugeRow,
    /// `apply` logs a thousand lines.
    FloodsTheLog,
    /// `describe` names a million tables.
    MillionTables,
    /// Logs a line while the host gives back the memory of what `apply` returned.
    CallsWhileReturning,
    /// Changes rows in the order of a hash map whose seed is an address.
    EmitsInMapOrder,
    /// Keeps what comes first in such a map, and nothing of the rest.
    KeepsTheFirstOfAMap,
    /// Puts NaN into its second column, a real.
    Nan,
    /// Puts -0.0 into its second column, a real.
    NegativeZero,
}

/// How often this instance was called.
static CALLS: AtomicU64 = AtomicU64::new(0);

fn script() -> Script {
    // Hidden from the optimiser, which knows only the text that stands there now.
    let script = std::hint::black_box(&SCRIPT);
    serde_json::from_slice(&script[MARK.len()..]).expect("the test wrote a script")
}

struct Module;

impl bindings::Guest for Module {
    fn describe() -> wit::Manifest {
        let script = script();
        match script.conduct {
            Conduct::DescribeTraps => core::arch::wasm32::unreachable(),
            Conduct::DescribeReads => drop(read_model::get_many(0, &[], &[])),
            _ => {}
        }
        let mut manifest = wit::Manifest::from(script.manifest);
        if script.conduct == Conduct::MillionTables {
            manifest.tables.resize_with(1_000_000, || wit::Table {
                name: String::new(),
                columns: Vec::new(),
                key: Vec::new(),
                indexes: Vec::new(),
            });
        }
        manifest
    }

    fn apply(events: wit::EventBatch) -> Result<wit::ChangeSet, wit::Failure> {
        let conduct = script().conduct;
        match conduct {
            Conduct::ApplyTraps => core::arch::wasm32::unreachable(),
            Conduct::NotUtf8 => {
                return Err(wit::Failure {
                    event: 0,
                    // SAFETY: none; that is what this guest is for. Nothing here reads the text.
                    message: unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) },
                });
            }
            Conduct::GrowsAndCopies => grow_and_copy(),
            Conduct::ReadsAnotherTable => drop(read_model::get_many(7, &[1], &[0])),
            Conduct::FloodsTheLog => {
                for line in 0..1_000 {
                    read_model::log(3, &format!("line {line}"));
                }
            }
            Conduct::RefusesAnother => {
                return Err(wit::Failure {
                    event: 1_000_000,
                    message: "not this one".to_owned(),
                });
            }
            _ => {}
        }
        let mut changes = wit::ChangeSet {
            events: Vec::new(),
            tables: Vec::new(),
            kinds: Vec::new(),
            key_ends: Vec::new(),
            keys: Vec::new(),
            row_ends: Vec::new(),
            rows: Vec::new(),
        };
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        for (event, position) in in_order(&events.positions, conduct) {
            let mut position = position.cast_signed();
            match conduct {
                Conduct::Remembers => position += 1_000_000 * calls.cast_signed(),
                Conduct::Shy if events.positions.len() < 500 => core::arch::wasm32::unreachable(),
                _ => {}
            }
            let mut values = vec![Value::Integer(position)];
            changes.events.push(event);
            changes.tables.push(if conduct == Conduct::UnknownTable {
                7
            } else {
                0
            });
            changes.kinds.push(0);
            changes.keys.extend(retell_contract::encode_key(&values));
            match conduct {
                Conduct::UnevenLists => {}
                Conduct::EndsOutOfRange => changes.key_ends.push(u32::MAX),
                Conduct::UnsortedEnds => changes.key_ends.push(1_000 - event),
                _ => changes.key_ends.push(end_of(&changes.keys)),
            }
            match conduct {
                Conduct::WrongColumns => values.push(Value::Integer(1)),
                Conduct::WrongTypes => values = vec![Value::Text("one".to_owned())],
                Conduct::Nan | Conduct::NegativeZero => values.push(Value::Real(1.0)),
                _ => {}
            }
            match conduct {
                Conduct::BrokenRow => changes.rows.push(0xff),
                Conduct::HugeRow => changes.rows.resize(64 << 20, 0),
                _ => changes.rows.extend(retell_contract::encode_row(&values)),
            }
            let real = match conduct {
                Conduct::Nan => Some(f64::NAN),
                Conduct::NegativeZero => Some(-0.0),
                _ => None,
            };
            if let Some(real) = real {
                // Behind the back of the encoding, which makes them what they should be.
                changes.rows.truncate(changes.rows.len() - size_of::<f64>());
                changes.rows.extend(f64::to_be_bytes(real));
            }
            changes.row_ends.push(end_of(&changes.rows));
        }
        if conduct == Conduct::CallsWhileReturning {
            allocator::log_when_freeing();
        }
        Ok(changes)
    }
}

/// The events with their numbers, as the conduct goes through them.
fn in_order(positions: &[u64], conduct: Conduct) -> Vec<(u32, &u64)> {
    let mut numbered: Vec<_> = (0..).zip(positions).collect();
    match conduct {
        Conduct::EmitsInMapOrder | Conduct::KeepsTheFirstOfAMap => {
            let map: HashMap<_, _, Address> = numbered.iter().copied().collect();
            numbered = map.into_iter().collect();
        }
        _ => {}
    }
    if conduct == Conduct::KeepsTheFirstOfAMap {
        numbered.truncate(numbered.len().div_ceil(2));
        numbered.sort_unstable();
    }
    numbered
}

/// A seed that depends on what was allocated before.
struct Address(u64);

impl Default for Address {
    fn default() -> Self {
        let somewhere: &mut [u8; 64] = Box::leak(Box::new([0; 64]));
        Self(core::ptr::from_ref(somewhere).addr() as u64)
    }
}

impl BuildHasher for Address {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

fn grow_and_copy() {
    const PAGE_BYTES: usize = 64 << 10;
    while core::arch::wasm32::memory_grow::<0>(1_024) != usize::MAX {
        let all = core::arch::wasm32::memory_size::<0>() * PAGE_BYTES;
        let half = all / 2;
        // SAFETY: the upper half belongs to nobody yet.
        unsafe { core::ptr::copy(core::ptr::null::<u8>().add(1 << 20), half as *mut u8, half / 2) };
    }
}

fn end_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a batch is small")
}

bindings::export!(Module with_types_in bindings);

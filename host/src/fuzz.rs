//! What the fuzzers in `tests/fuzz` call: everything that reads bytes from outside, with the rules
//! that must hold whatever the bytes are. Not for applications, and nothing here is kept stable.

use std::fmt::Write as _;

use retell_contract::manifest::{self, Field, Manifest, Shape, Wanted};
use retell_contract::value::ColumnType;
use retell_contract::{
    Blocks, FitTo, Fitter, Located, Values, check_row, decode_key, decode_row, encode_key,
    encode_row, json, key_of_row,
};
use rusqlite::Connection;

use crate::log::ndjson::read_line;
use crate::read_model::sqlite::schema;
use crate::replay::changes::Changes;
use crate::sqlite_format;
use crate::wasm::{ChangeSet, Limits, read_stamp};

/// Type, and whether it may be null.
type Columns = Vec<(ColumnType, bool)>;

/// Takes any bytes. It panics where a rule is broken.
pub type Target = fn(&[u8]);

/// All of them, by the names of their seeds' folders.
pub const TARGETS: [(&str, Target); 9] = [
    ("change_set", change_set),
    ("cloud_event", cloud_event),
    ("fields", fields),
    ("key", key),
    ("line", line),
    ("manifest", manifest),
    ("row", row),
    ("sqlite_pages", sqlite_format::fuzz::pages),
    ("stamp", stamp),
];

/// Runs the target of a name.
///
/// # Panics
/// When there is none, or when it does.
pub fn run(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|target| target.0 == name);
    found.expect("a target of this name").1(bytes);
}

/// A manifest that passes the check makes tables that SQLite takes, whatever their names are.
fn manifest(bytes: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else {
        return;
    };
    if manifest::check(&manifest).is_err() {
        return;
    }
    let database = Connection::open_in_memory().expect("memory can be had");
    let made = schema::make_tables(&database, &manifest);
    made.expect("what the check lets through can be made");
}

/// A row is refused by all who read it, or by none; and there is one encoding of it.
fn row(bytes: &[u8]) {
    let Some((columns, row)) = columns_and_rest(bytes) else {
        return;
    };
    let decoded = decode_row(row, &columns);
    assert_eq!(decoded.is_ok(), check_row(row, &columns).is_ok());
    let picked: Vec<u16> = (0..)
        .zip(&columns)
        .filter(|(_, column)| column.0 != ColumnType::Json)
        .map(|(number, _)| number)
        .collect();
    let key = key_of_row(row, &columns, &picked);
    let Ok(values) = decoded else { return };
    assert_eq!(encode_row(&values), row);
    let picked: Vec<_> = picked
        .iter()
        .map(|it| values[usize::from(*it)].clone())
        .collect();
    assert_eq!(key.expect("the row is one"), encode_key(&picked));
}

/// A key that can be read is the only encoding of what it says.
fn key(bytes: &[u8]) {
    let Some((columns, key)) = columns_and_rest(bytes) else {
        return;
    };
    let types: Vec<ColumnType> = columns.iter().map(|column| column.0).collect();
    if types.contains(&ColumnType::Json) {
        return;
    }
    if let Ok(values) = decode_key(key, &types) {
        assert_eq!(encode_key(&values), key);
    }
}

/// A change-set is refused, or all of its bytes belong to one change each.
fn change_set(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut next = move || bytes.next().unwrap_or(0);
    let mut list = |length: u8| (0..length).map(|_| next()).collect::<Vec<u8>>();
    let lengths: [u8; 7] = list(7).try_into().expect("seven of them");
    // Mostly all alike, as they must be.
    let length = |at: usize| {
        if lengths[at] < 0xf0 {
            lengths[0]
        } else {
            lengths[at]
        }
    };
    let numbers = |bytes: Vec<u8>| bytes.into_iter().map(u32::from).collect::<Vec<u32>>();
    let set = ChangeSet {
        events: numbers(list(length(0))),
        tables: list(length(1)).into_iter().map(u16::from).collect(),
        kinds: list(length(2)),
        key_ends: numbers(list(length(3))),
        row_ends: numbers(list(length(4))),
        keys: list(lengths[5]),
        rows: list(lengths[6]),
    };
    let Ok(changes) = Changes::check(&set, 3, 200) else {
        return;
    };
    let (mut keys, mut rows, mut count) = (0, 0, 0);
    for change in changes.iter() {
        assert!(change.table < 3 && change.event < 200);
        keys += change.key.len();
        rows += change.row.map_or(0, <[u8]>::len);
        count += 1;
    }
    assert_eq!(
        (keys, rows, count),
        (set.keys.len(), set.rows.len(), set.events.len())
    );
}

/// A line that is an event stays the same event when it is written and read again.
fn line(bytes: &[u8]) {
    let Ok(event) = read_line(bytes) else { return };
    json::check(&event.data).expect("what was read is JSON");
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned());
    let written = serde_json::json!({
        "stream": event.stream,
        "type": event.event_type,
        "id": event.id,
        "occurred_at": event.occurred_at.map(retell_contract::time::format_rfc3339),
    });
    // Data and metadata as they are: their numbers are texts.
    let mut written = written.to_string();
    written.pop();
    for (name, text) in [
        ("data", Some(&event.data)),
        ("metadata", event.metadata.as_ref()),
    ] {
        if let Some(text) = text {
            let text = raw(text).expect("it is JSON");
            write!(written, ",\"{name}\":{text}").expect("a text takes everything");
        }
    }
    written.push('}');
    let again = read_line(written.as_bytes()).expect("what was written is an event");
    assert_eq!(again, event);
}

/// As [`line`], with the member by which a CloudEvent is known before everything else.
fn cloud_event(bytes: &[u8]) {
    line(&[br#"{"specversion":"1.0","#, bytes].concat());
}

/// Fields are found as `serde_json` finds them, in everything that it takes.
fn fields(bytes: &[u8]) {
    let field = |path: &str, wants| Field {
        paths: vec![path.to_owned()],
        wants,
        optional: true,
        nullable: true,
    };
    let shapes = [Shape {
        event_type: "*".to_owned(),
        fields: vec![
            field("a", Wanted::Text),
            field("b.c", Wanted::Boolean),
            field("d", Wanted::Json),
            field("e.1.f", Wanted::Json),
        ],
    }];
    let fitter = Fitter::new(&[&shapes]);
    let plan = fitter.plan("any").expect("`*` takes any type");
    let (mut located, mut blocks) = (Located::default(), Blocks::new(&shapes));
    fitter.locate(plan, bytes, &mut located);
    let fitted = fitter.fit(plan, 0, bytes, &located, &mut blocks, FitTo::AllColumns);
    let text = std::str::from_utf8(bytes).ok();
    let Some(text) = text.filter(|it| json::check(it).is_ok()) else {
        return;
    };
    let payload: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
    let found = [
        payload.pointer("/a"),
        payload.pointer("/b/c"),
        payload.pointer("/d"),
        payload.pointer("/e/1/f"),
    ];
    let fits = |value: Option<&serde_json::Value>, of: fn(&serde_json::Value) -> bool| {
        value.is_none_or(|it| it.is_null() || of(it))
    };
    let has_nul = found[0]
        .and_then(|it| it.as_str())
        .is_some_and(|it| it.contains('\0'));
    if !fits(found[0], serde_json::Value::is_string)
        || !fits(found[1], serde_json::Value::is_boolean)
        || has_nul
    {
        assert!(fitted.is_err(), "{payload}");
        return;
    }
    if fitted.is_err() {
        // JSON is stored in its canonical form, which has no U+0000 and no numbers beyond f64.
        assert!(
            [found[2], found[3]]
                .iter()
                .flatten()
                .any(|it| json::canonical_value(it).is_err())
        );
        return;
    }
    let mut columns = blocks.take();
    let columns = columns.pop().expect("one block");
    for (column, expected) in columns.iter().zip(found) {
        let bit = |bits: &Option<Vec<u8>>, default| {
            bits.as_ref()
                .map_or(default, |it| retell_contract::bit(it, 0))
        };
        assert_eq!(bit(&column.present, true), expected.is_some(), "{payload}");
        let Some(expected) = expected else { continue };
        assert_eq!(bit(&column.null, false), expected.is_null(), "{payload}");
        match &column.values {
            _ if expected.is_null() => {}
            Values::Texts(texts) => assert_eq!(texts.get(0), expected.as_str()),
            Values::Booleans(bools) => assert_eq!(Some(bools[0] != 0), expected.as_bool()),
            Values::Json(texts) => {
                let found = json::canonical(texts.get(0).expect("one row"));
                assert_eq!(found, json::canonical_value(expected), "{payload}");
            }
            other => panic!("nothing asked for {other:?}"),
        }
    }
}

/// What is no module is refused before anything is compiled.
fn stamp(bytes: &[u8]) {
    let _ = read_stamp(bytes, Limits::default());
}

/// Up to eight column types, a byte each behind their number, and the rest.
fn columns_and_rest(bytes: &[u8]) -> Option<(Columns, &[u8])> {
    use ColumnType::{Boolean, Bytes, Integer, Json, Real, Text, Timestamp, Uuid};
    const TYPES: [ColumnType; 8] = [Boolean, Integer, Real, Text, Bytes, Timestamp, Uuid, Json];
    let (count, rest) = bytes.split_first()?;
    let (types, rest) = rest.split_at_checked(usize::from(count % 8) + 1)?;
    let column = |byte: &u8| (TYPES[usize::from(byte % 8)], byte & 8 != 0);
    Some((types.iter().map(column).collect(), rest))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{TARGETS, run};

    /// Inputs that once were trouble, and those that fuzzing begins with.
    #[test]
    fn all_seeds_keep_the_rules() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        for (name, _) in TARGETS {
            let folder = std::fs::read_dir(seeds.join(name));
            let folder = folder.unwrap_or_else(|error| panic!("seeds of {name}: {error}"));
            let mut count = 0;
            for seed in folder {
                let seed = std::fs::read(seed.expect("an entry").path()).expect("a seed");
                run(name, &seed);
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
    }
}

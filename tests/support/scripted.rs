//! Modules that say and do what a test wants, without compiling a guest for each: the guest
//! `raw_manifest` reads its manifest and its conduct from a marked place in the finished file.

use serde_json::{Value, json};

use crate::support::guest;

const MARK: &[u8] = b"script of the test:";
const ROOM: usize = 16 << 10;

/// A sensible manifest: one table with the position of every event.
pub(crate) fn manifest(name: &str, version: &str) -> Value {
    json!({
        "name": name,
        "version": version,
        "shapes": [{ "event_type": "*", "fields": [] }],
        "tables": [{
            "name": "seen",
            "columns": [column("position", "integer")],
            "key": [0],
            "indexes": [],
        }],
        "envelope": {
            "revision": false, "time": false, "recorded_at": false, "occurred_at": false,
            "stream": false, "id": false, "metadata": false, "type_name": false,
        },
        "hints": [],
        "after_replay": [],
    })
}

pub(crate) fn column(name: &str, kind: &str) -> Value {
    json!({ "name": name, "kind": kind, "nullable": false })
}

/// A module with this manifest, which puts the position of every event into its table.
pub(crate) fn module(manifest: &Value) -> Vec<u8> {
    scripted(manifest, "positions")
}

/// A module with this manifest and conduct.
pub(crate) fn scripted(manifest: &Value, conduct: &str) -> Vec<u8> {
    let script = json!({ "manifest": manifest, "conduct": conduct }).to_string();
    let mut module = std::fs::read(guest("raw_manifest")).expect("the guest was built");
    let mut places = module
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == MARK)
        .map(|(at, _)| at + MARK.len());
    let at = places.next().expect("the mark is in the module");
    assert_eq!(places.next(), None, "the mark must be there once");
    assert!(script.len() <= ROOM - MARK.len(), "the script is too long");
    let room = &mut module[at..at + ROOM - MARK.len()];
    room.fill(b' ');
    room[..script.len()].copy_from_slice(script.as_bytes());
    module
}

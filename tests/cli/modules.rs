//! Files that are no modules, or that lie about themselves: what the user is told, and that nothing
//! else is harmed.

use std::fmt::Write as _;
use std::process::Output;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use wasm_encoder::{ComponentSection as _, CustomSection};

use crate::instance::{Instance, shown};
use crate::scripted::{column, manifest, module, scripted};
use crate::support::guest;

/// What `deploy` says of a file with this content. It must make nothing.
fn deployed(content: impl AsRef<[u8]>) -> String {
    let it = Instance::new();
    it.write("module.wasm", content);
    let said = it.shows(&["deploy", "module.wasm"]);
    assert!(
        !it.path("retell-data").exists(),
        "a folder was made: {said}"
    );
    assert_eq!(
        said,
        it.shows(&["inspect", "module.wasm"]),
        "inspect says the same"
    );
    said
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is a component")
}

/// The module with one more stamp, which is the one that counts.
fn stamped(mut module: Vec<u8>, stamp: &str) -> Vec<u8> {
    CustomSection {
        name: "retell:contract".into(),
        data: stamp.as_bytes().into(),
    }
    .append_to_component(&mut module);
    module
}

fn good() -> Vec<u8> {
    module(&manifest("ticks", "1.0.0"))
}

#[test]
fn files_that_are_no_webassembly() {
    insta::assert_snapshot!(deployed(""), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is not a WebAssembly file: it does not begin with `\0asm`
      hint: build the crate with `retell build PATH` and deploy the `.wasm` file it names
    "#);
    insta::assert_snapshot!(deployed("fn main() {}"), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is not a WebAssembly file: it does not begin with `\0asm`
      hint: build the crate with `retell build PATH` and deploy the `.wasm` file it names
    "#);
    // The text form, which other tools take.
    insta::assert_snapshot!(deployed("(component)"), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is not a WebAssembly file: it does not begin with `\0asm`
      hint: build the crate with `retell build PATH` and deploy the `.wasm` file it names
    "#);
}

#[test]
fn webassembly_that_is_no_projection() {
    let core = component(r#"(module (func (export "apply")))"#);
    insta::assert_snapshot!(deployed(core), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is a core WebAssembly module, not a component
      hint: `retell build PATH` makes the component out of a projection crate
    "#);
    let other = component(
        r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#,
    );
    insta::assert_snapshot!(deployed(other), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is a component of another world: it does not export describe and apply
      hint: write the projection against retell-sdk with `#[projection(...)]` and build it with `retell build PATH`
    "#);
    insta::assert_snapshot!(deployed(component("(component)")), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is a component of another world: it does not export describe and apply
      hint: write the projection against retell-sdk with `#[projection(...)]` and build it with `retell build PATH`
    "#);
    let wasi = component(
        r#"(component
            (import "wasi:cli/environment@0.2.0" (instance))
            (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#,
    );
    insta::assert_snapshot!(deployed(wasi), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it imports wasi:cli/environment@0.2.0, wasi:clocks/wall-clock@0.2.0, and a projection may import nothing but retell's read-model interface
      hint: build with `retell build PATH`, which targets wasm32-unknown-unknown and needs no WASI
    "#);
    let database = component(r#"(component (import "acme:database/rows@1.0.0" (instance)))"#);
    insta::assert_snapshot!(deployed(database), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it imports acme:database/rows@1.0.0, and a projection may import nothing but retell's read-model interface
      hint: write the projection against retell-sdk with `#[projection(...)]` and build it with `retell build PATH`
    "#);
}

#[test]
fn the_right_names_with_other_types() {
    let impostor = component(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (export "describe" (func $f))
            (export "apply" (func $f)))"#,
    );
    let it = Instance::new();
    it.write(
        "module.wasm",
        stamped(impostor, r#"{"contract":"0.1.0","sdk":"0.1.0"}"#),
    );
    insta::assert_snapshot!(it.shows(&["inspect", "module.wasm"]), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: its exports are not those of the contract: type-checking export func `apply`: expected 1-tuple, found 0-tuple
      hint: write the projection against retell-sdk with `#[projection(...)]` and build it with `retell build PATH`
    "#);
}

#[test]
fn stamps() {
    let unstamped = {
        let mut module = good();
        let name = b"retell:contract";
        for at in 0..module.len() - name.len() {
            if &module[at..at + name.len()] == name {
                module[at] = b'R';
            }
        }
        module
    };
    insta::assert_snapshot!(deployed(unstamped), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it has no contract stamp
      hint: build it with `retell build PATH`, which stamps the contract's version
    "#);
    let future = stamped(good(), r#"{"contract":"0.2.0","sdk":"0.2.0"}"#);
    insta::assert_snapshot!(deployed(future), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it was built for contract 0.2.0, and this host supports 0.1.0
      hint: use a retell that supports that contract, or rebuild the projection with this one's SDK
    "#);
    let far_future = stamped(good(), r#"{"contract":"1.0.0","sdk":"1.4.0","more":true}"#);
    insta::assert_snapshot!(deployed(far_future), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it was built for contract 1.0.0, and this host supports 0.1.0
      hint: use a retell that supports that contract, or rebuild the projection with this one's SDK
    "#);
    insta::assert_snapshot!(deployed(stamped(good(), r#"{"contract":"next","sdk":"x"}"#)), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it was built for contract next, and this host supports 0.1.0
      hint: use a retell that supports that contract, or rebuild the projection with this one's SDK
    "#);
    insta::assert_snapshot!(deployed(stamped(good(), "contract 0.1.0")), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: its contract stamp can't be read: expected value at line 1 column 1
      hint: build it with `retell build PATH`, which stamps the contract's version
    "#);
    // A patch of the same minor is the same contract.
    let it = Instance::new();
    it.write(
        "patch.wasm",
        stamped(good(), r#"{"contract":"0.1.7","sdk":"0.1.9"}"#),
    );
    assert_eq!(it.json(&["inspect", "patch.wasm"])["contract"], "0.1.7");
}

#[test]
fn larger_than_a_module_may_be() {
    let it = Instance::new();
    it.write("module.wasm", b"\0asm");
    let file = std::fs::File::options()
        .write(true)
        .open(it.path("module.wasm"));
    file.and_then(|file| file.set_len((32 << 20) + 1))
        .expect("a sparse file");
    insta::assert_snapshot!(it.shows(&["deploy", "module.wasm"]), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is 33554433 bytes long, and a module may have at most 33554432
      hint: build it in release mode: `retell build PATH`; `retell deploy FILE --limit module-size=VALUE` allows more
    "#);
    insta::assert_snapshot!(it.shows(&["inspect", "module.wasm"]), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is 33554433 bytes long, and a module may have at most 33554432
      hint: build it in release mode: `retell build PATH`; `retell deploy FILE --limit module-size=VALUE` allows more
    "#);
}

/// One clear error of the host's, and no panic of its own.
fn assert_clear(output: &Output, what: &str) {
    let said = shown(output);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {said}");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    assert_eq!(errors, 1, "{what}: {said}");
    assert!(said.starts_with("error: "), "{what}: {said}");
    assert!(said.contains("  hint: "), "{what}: {said}");
    assert!(!said.contains("thread '"), "{what}: {said}");
}

#[test]
fn cut_off_anywhere() {
    let it = Instance::new();
    let whole = std::fs::read(guest("brittle")).expect("the guest was built");
    let lengths = (0..40).chain((40..whole.len()).step_by(whole.len() / 60));
    for length in lengths.chain(whole.len() - 4..whole.len()) {
        it.write("module.wasm", &whole[..length]);
        assert_clear(
            &it.output(&["deploy", "module.wasm"]),
            &format!("{length} bytes"),
        );
    }
    assert!(!it.path("retell-data").exists());
    it.write("module.wasm", &whole[..whole.len() / 2]);
    // Where that is depends on the compiler.
    let shown = it.shows(&["deploy", "module.wasm"]);
    let (before, after) = shown.split_once("(at offset 0x").expect("it says where");
    let (_, after) = after.split_once(')').expect("a closed parenthesis");
    insta::assert_snapshot!(format!("{before}(at offset N){after}"), @r#"
    exit 1
    error: module.wasm is not a module that this host can run
      caused by: it is damaged or cut off: unexpected end-of-file (at offset N)
      hint: copy the file again, or build it again with `retell build PATH`
    "#);
}

#[test]
fn changed_anywhere() {
    const MUTATIONS: usize = 200;
    let it = Instance::new();
    let whole = std::fs::read(guest("brittle")).expect("the guest was built");
    let mut random = StdRng::seed_from_u64(17);
    let mut refused = 0;
    for number in 0..MUTATIONS {
        let mut module = whole.clone();
        let changes = random.random_range(1..=4);
        for _ in 0..changes {
            // Most of them where types, imports and exports stand, at the end; elsewhere is code,
            // and what is still a module after a change there must be compiled to be seen through.
            let from = if number % 8 == 0 {
                0
            } else {
                whole.len() - 3_000
            };
            let at = random.random_range(from..whole.len());
            module[at] = random.random();
        }
        it.write("module.wasm", &module);
        let output = it.output(&["inspect", "module.wasm"]);
        // Where a letter of a name or a number of the code changed, it may still be a module.
        if output.status.code() != Some(0) {
            assert_clear(&output, &format!("mutation {number}"));
            refused += 1;
        }
    }
    assert!(
        refused > MUTATIONS / 4,
        "only {refused} of {MUTATIONS} were refused"
    );
}

#[test]
fn manifests_that_make_no_sense() {
    let it = Instance::new();
    let mut said = String::new();
    for (what, change) in senseless() {
        let mut manifest = manifest("ticks", "1.0.0");
        change(&mut manifest);
        it.write("module.wasm", module(&manifest));
        let output = it.output(&["inspect", "module.wasm"]);
        assert_clear(&output, what);
        let text = String::from_utf8_lossy(&output.stderr);
        let cause = text
            .lines()
            .find_map(|line| line.strip_prefix("  caused by: "));
        writeln!(said, "{what}: {}", cause.unwrap_or(&text)).expect("a text");
    }
    insta::assert_snapshot!(said.replace("its manifest makes no sense: ", ""), @r#"
    no tables: the manifest has no tables: declare at least one
    no events: the manifest has no shapes: declare at least one
    65 tables: the manifest has 65 tables, and at most 64 are allowed
    duplicate tables: the manifest has two tables named `seen`: rename one
    no columns: table `seen` has no columns: declare at least one
    duplicate columns: table `seen` has two columns named `a`: rename one
    no key: the key of table `seen` has no columns: declare at least one
    an unknown column in the key: the key of table `seen` names column number 3, and there are only 1
    a column twice in the key: the key of table `seen` names the column `position` twice
    a key that may be null: the key of table `seen` names the column `position`, which may be null: a key needs a value
    a JSON key: the key of table `seen` names the column `position`, which is JSON and has no order
    an index on an unknown column: index `by_x` of table `seen` names column number 9, and there are only 1
    an index on nothing: index `by_x` of table `seen` has no columns: declare at least one
    duplicate indexes: table `seen` has two indexes named `by_x`: rename one
    no name: projection name `` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    a name with SQL in it: projection name `"; drop table` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    a name with a path in it: projection name `../../etc` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    a name like a major's: projection name `articles_v2` is not allowed: the ending `_v2` is reserved for the names of major versions; leave it off, the version says it
    a reserved name: projection name `retell_ticks` is not allowed: the prefix `retell_` is reserved
    a long name: projection name `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    a table name with SQL in it: table name `a"; drop table b` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    a reserved table name: table name `sqlite_ticks` is not allowed: the prefix `sqlite_` is reserved
    a column name with SQL in it: table `seen`: column name `a" text` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    an index name with SQL in it: table `seen`: index name `i"` is not allowed: use a lower-case letter, then at most 39 lower-case letters, digits and underscores
    version 1: version `1` is not a semantic version such as 1.0.0: unexpected end of input while parsing major version number
    version v1.0.0: version `v1.0.0` is not a semantic version such as 1.0.0: unexpected character 'v' while parsing major version number
    no version: version `` is not a semantic version such as 1.0.0: empty string, expected a semver version
    a version with a path in it: version `1.0.0-../../x` is not a semantic version such as 1.0.0: empty identifier segment in pre-release identifier
    an event without a type: a shape has the event type ``, which is empty, has a NUL, or is too long
    a field without a path: the shape for every other event type, field 0 has no paths: declare at least one
    a field with an empty path: event type `*`, field 0: the path `a..b` is not valid: a key is empty; write a JSON pointer such as `/a//b` if it is meant
    a hint at nothing: hint 0 names a field that does not exist
    "#);
}

type Change = fn(&mut Value);

fn senseless() -> Vec<(&'static str, Change)> {
    vec![
        ("no tables", |it| it["tables"] = json!([])),
        ("no events", |it| it["shapes"] = json!([])),
        ("65 tables", |it| {
            let table = it["tables"][0].clone();
            it["tables"] = (0..65)
                .map(|number| {
                    let mut table = table.clone();
                    table["name"] = format!("t{number}").into();
                    table
                })
                .collect();
        }),
        ("duplicate tables", |it| {
            let table = it["tables"][0].clone();
            it["tables"] = json!([table, table]);
        }),
        ("no columns", |it| it["tables"][0]["columns"] = json!([])),
        ("duplicate columns", |it| {
            it["tables"][0]["columns"] = json!([column("a", "text"), column("a", "integer")]);
        }),
        ("no key", |it| it["tables"][0]["key"] = json!([])),
        ("an unknown column in the key", |it| {
            it["tables"][0]["key"] = json!([0, 3]);
        }),
        ("a column twice in the key", |it| {
            it["tables"][0]["key"] = json!([0, 0]);
        }),
        ("a key that may be null", |it| {
            it["tables"][0]["columns"][0]["nullable"] = true.into();
        }),
        ("a JSON key", |it| {
            it["tables"][0]["columns"][0]["kind"] = "json".into();
        }),
        ("an index on an unknown column", |it| {
            it["tables"][0]["indexes"] =
                json!([{ "name": "by_x", "columns": [9], "unique": false }]);
        }),
        ("an index on nothing", |it| {
            it["tables"][0]["indexes"] =
                json!([{ "name": "by_x", "columns": [], "unique": false }]);
        }),
        ("duplicate indexes", |it| {
            let index = json!({ "name": "by_x", "columns": [0], "unique": false });
            it["tables"][0]["indexes"] = json!([index, index]);
        }),
        ("no name", |it| it["name"] = "".into()),
        ("a name with SQL in it", |it| {
            it["name"] = "\"; drop table".into();
        }),
        ("a name with a path in it", |it| {
            it["name"] = "../../etc".into();
        }),
        ("a name like a major's", |it| {
            it["name"] = "articles_v2".into();
        }),
        ("a reserved name", |it| it["name"] = "retell_ticks".into()),
        ("a long name", |it| it["name"] = "n".repeat(41).into()),
        ("a table name with SQL in it", |it| {
            it["tables"][0]["name"] = "a\"; drop table b".into();
        }),
        ("a reserved table name", |it| {
            it["tables"][0]["name"] = "sqlite_ticks".into();
        }),
        ("a column name with SQL in it", |it| {
            it["tables"][0]["columns"][0]["name"] = "a\" text".into();
        }),
        ("an index name with SQL in it", |it| {
            it["tables"][0]["indexes"] =
                json!([{ "name": "i\"", "columns": [0], "unique": false }]);
        }),
        ("version 1", |it| it["version"] = "1".into()),
        ("version v1.0.0", |it| it["version"] = "v1.0.0".into()),
        ("no version", |it| it["version"] = "".into()),
        ("a version with a path in it", |it| {
            it["version"] = "1.0.0-../../x".into();
        }),
        ("an event without a type", |it| {
            it["shapes"][0]["event_type"] = "".into();
        }),
        ("a field without a path", |it| {
            it["shapes"][0]["fields"] = json!([field(&[])]);
        }),
        ("a field with an empty path", |it| {
            it["shapes"][0]["fields"] = json!([field(&["a..b"])]);
        }),
        ("a hint at nothing", |it| {
            it["hints"] = json!([{ "shape": 0, "fields": [4], "table": 0 }]);
        }),
    ]
}

fn field(paths: &[&str]) -> Value {
    json!({ "paths": paths, "wants": "text", "optional": false, "nullable": false })
}

#[test]
fn a_senseless_module_harms_nothing() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    let before = it.json(&["status"]);
    let mut senseless = manifest("ticks", "1.1.0");
    senseless["tables"] = json!([]);
    it.write("senseless.wasm", module(&senseless));
    insta::assert_snapshot!(it.shows(&["deploy", "senseless.wasm", "--promote"]), @r#"
    exit 1
    error: senseless.wasm is not a module that this host can run
      caused by: its manifest makes no sense: the manifest has no tables: declare at least one
      hint: correct the projection's declaration and run `retell build PATH` again
    "#);
    assert_eq!(it.json(&["status"]), before);
}

#[test]
fn modules_that_can_not_say_what_they_are() {
    let it = Instance::new();
    let manifest = manifest("ticks", "1.0.0");
    it.write("traps.wasm", scripted(&manifest, "describe_traps"));
    insta::assert_snapshot!(it.shows(&["inspect", "traps.wasm"]), @r#"
    exit 1
    error: traps.wasm is not a module that this host can run
      caused by: it could not be asked what it is
      caused by: the module crashed: wasm trap: wasm `unreachable` instruction executed
      hint: run the projection's own tests: `cargo test`
    "#);
    it.write("million.wasm", scripted(&manifest, "million_tables"));
    insta::assert_snapshot!(it.shows(&["inspect", "million.wasm"]), @r#"
    exit 1
    error: million.wasm is not a module that this host can run
      caused by: its manifest makes no sense: the manifest has 1000000 tables, and at most 64 are allowed
      hint: correct the projection's declaration and run `retell build PATH` again
    "#);
    it.write("reads.wasm", scripted(&manifest, "describe_reads"));
    insta::assert_snapshot!(it.shows(&["inspect", "reads.wasm"]), @r#"
    exit 1
    error: reads.wasm is not a module that this host can run
      caused by: it could not be asked what it is
      caused by: the module broke the contract: `describe` reads or writes rows
      hint: run the projection's own tests: `cargo test`
    "#);
    // A script that is none makes it panic, and its own words say so.
    it.write("panics.wasm", scripted(&json!("no manifest"), "positions"));
    assert_clear(
        &it.output(&["inspect", "panics.wasm"]),
        "a panic in describe",
    );
}

use super::*;

fn column(name: &str, kind: ColumnType, nullable: bool) -> TableColumn {
    TableColumn {
        name: name.into(),
        kind,
        nullable,
    }
}

fn manifest() -> Manifest {
    let field = Field {
        paths: vec!["id".into()],
        wants: Wanted::Text,
        optional: false,
        nullable: false,
    };
    Manifest {
        name: "articles".into(),
        version: "1.0.0-rc.1".into(),
        shapes: vec![
            Shape {
                event_type: "ArticleCreated".into(),
                fields: vec![field],
            },
            Shape {
                event_type: "*".into(),
                fields: vec![],
            },
        ],
        tables: vec![Table {
            name: "article".into(),
            columns: vec![
                column("id", ColumnType::Text, false),
                column("author", ColumnType::Text, true),
                column("tags", ColumnType::Json, true),
            ],
            key: vec![0],
            indexes: vec![TableIndex {
                name: "author".into(),
                columns: vec![1],
                unique: false,
            }],
        }],
        envelope: Envelope::default(),
        hints: vec![Hint {
            shape: 0,
            fields: vec![0],
            table: 0,
        }],
        after_replay: vec![],
    }
}

#[test]
fn a_manifest_that_makes_sense() {
    check(&manifest()).expect("makes sense");
}

#[test]
fn it_survives_serialisation() {
    let text = serde_json::to_string(&manifest()).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Manifest>(&text).expect("a manifest"),
        manifest()
    );
}

#[test]
fn manifests_that_make_none() {
    let breaks: Vec<Break> = vec![
        (
            |m| m.name = "Articles".into(),
            "projection name `Articles` is not allowed",
        ),
        (
            |m| m.name = "articles_v2".into(),
            "the ending `_v2` is reserved",
        ),
        (
            |m| m.version = "1.0".into(),
            "version `1.0` is not a semantic version",
        ),
        (|m| m.tables.clear(), "the manifest has no tables"),
        (|m| m.shapes.clear(), "the manifest has no shapes"),
        (
            |m| m.tables.push(m.tables[0].clone()),
            "two tables named `article`",
        ),
        (
            |m| m.tables[0].name = "retell_x".into(),
            "the prefix `retell_` is reserved",
        ),
        (
            |m| m.tables[0].columns[1].name = "A".into(),
            "table `article`: column name `A`",
        ),
        (
            |m| m.tables[0].columns[1].name = "id".into(),
            "two columns named `id`",
        ),
        (
            |m| m.tables[0].key.clear(),
            "the key of table `article` has no columns",
        ),
        (
            |m| m.tables[0].key = vec![9],
            "names column number 9, and there are only 3",
        ),
        (
            |m| m.tables[0].key = vec![0, 0],
            "names the column `id` twice",
        ),
        (|m| m.tables[0].key = vec![1], "`author`, which may be null"),
        (|m| m.tables[0].key = vec![2], "`tags`, which is JSON"),
        (
            |m| m.tables[0].indexes[0].columns = vec![7],
            "index `author` of table `article` names",
        ),
        (
            |m| m.tables[0].indexes[0].columns = vec![2],
            "which is JSON",
        ),
        (|m| m.tables[0].indexes[0].columns.clear(), "has no columns"),
        (
            |m| m.tables[0].indexes = vec![m.tables[0].indexes[0].clone(); 17],
            "has 17 indexes, and at most 16",
        ),
        (
            |m| m.tables[0].indexes = vec![m.tables[0].indexes[0].clone(); 2],
            "two indexes named `author`",
        ),
        (
            |m| m.tables = vec![m.tables[0].clone(); 65],
            "65 tables, and at most 64",
        ),
        (
            |m| m.shapes[0].event_type = String::new(),
            "the event type ``, which is empty",
        ),
        (
            |m| m.shapes[0].fields[0].paths.clear(),
            "field 0 has no paths",
        ),
        (
            |m| m.shapes[0].fields[0].paths[0] = "a..b".into(),
            "the path `a..b` is not valid",
        ),
        (
            |m| m.shapes = vec![m.shapes[0].clone(); 1025],
            "1025 shapes",
        ),
        (|m| m.hints[0].shape = 2, "hint 0 names a shape"),
        (|m| m.hints[0].table = 1, "hint 0 names a table"),
        (|m| m.hints[0].fields = vec![1], "hint 0 names a field"),
        (|m| m.hints[0].fields = vec![0, 0], "hint 0 has 2 fields"),
    ];
    refuses(breaks);
}

/// What breaks a manifest, and part of what is said of it.
type Break = (fn(&mut Manifest), &'static str);

fn refuses(breaks: Vec<Break>) {
    for (break_it, message) in breaks {
        let mut manifest = manifest();
        break_it(&mut manifest);
        let error = check(&manifest).expect_err(message).to_string();
        assert!(error.contains(message), "`{error}` should say `{message}`");
    }
}

#[test]
fn what_is_too_long_or_too_wide() {
    refuses(vec![
        (
            |m| m.version = format!("1.0.0-{}", "x".repeat(59)),
            "the version has 65 bytes, and at most 64 are allowed",
        ),
        (
            |m| m.shapes[0].fields[0].paths[0] = "é".repeat(2049),
            "ééé…` has 4098 bytes, and at most 4096 are allowed",
        ),
        (
            |m| m.shapes[0].fields[0].paths[0] = "/a".repeat(128),
            "has 128 keys, and at most 127 are allowed",
        ),
        (
            |m| m.shapes[0].fields[0].paths[0] = ["a"; 128].join("."),
            "has 128 keys, and at most 127 are allowed",
        ),
        (
            |m| m.tables[0] = wide(33, vec![0]),
            "the key of table `wide` has 33 columns, and at most 32 are allowed",
        ),
        (
            |m| m.tables[0] = wide(1, (0..33).collect()),
            "index `wide` of table `wide` has 33 columns, and at most 32 are allowed",
        ),
        (
            |m| m.tables[0] = wide(31, vec![30, 31, 32]),
            "index `wide` of table `wide`, with the key behind it, has 33 columns, and at most \
             32 are allowed",
        ),
    ]);
}

/// A table of forty columns, of which the first are the key.
fn wide(key: u16, index: Vec<u16>) -> Table {
    let columns = (0..40).map(|n| column(&format!("c{n}"), ColumnType::Integer, false));
    Table {
        name: "wide".into(),
        columns: columns.collect(),
        key: (0..key).collect(),
        indexes: vec![TableIndex {
            name: "wide".into(),
            columns: index,
            unique: false,
        }],
    }
}

#[test]
fn an_index_has_room_for_the_key_behind_it() {
    let mut manifest = manifest();
    manifest.hints.clear();
    let mut checked = |table: Table| {
        manifest.tables[0] = table;
        check(&manifest)
    };
    checked(wide(32, (0..32).collect())).expect("the key has the same columns");
    checked(wide(31, vec![31])).expect("32 columns");
    let mut unique = wide(32, vec![31, 32, 33]);
    checked(unique.clone()).expect_err("34 columns");
    unique.indexes[0].unique = true;
    checked(unique).expect("a unique index has only its own columns");
}

#[test]
fn long_texts_are_cut_in_messages() {
    let long = "é".repeat(1_000_000);
    let places: [fn(&mut Manifest) -> &mut String; 7] = [
        |m| &mut m.name,
        |m| &mut m.version,
        |m| &mut m.tables[0].name,
        |m| &mut m.tables[0].columns[1].name,
        |m| &mut m.tables[0].indexes[0].name,
        |m| &mut m.shapes[0].event_type,
        |m| &mut m.shapes[0].fields[0].paths[0],
    ];
    for (number, place) in places.into_iter().enumerate() {
        let mut manifest = manifest();
        place(&mut manifest).clone_from(&long);
        let second = manifest.tables[0].clone();
        manifest.tables.push(second);
        let error = check(&manifest).expect_err("too long").to_string();
        assert!(error.len() < 300, "{number}: {} bytes", error.len());
    }
}

//! `retell inspect`: a module's own words, without a log.

use crate::instance::Instance;
use crate::scripted::{column, manifest, module};
use crate::shown::keys;

#[test]
fn what_a_module_says_of_itself() {
    let it = Instance::new();
    let mut said = manifest("shop", "2.1.0");
    said["shapes"] = serde_json::json!([
        { "event_type": "Sold", "fields": [
            { "paths": ["item.id", "item_id"], "wants": "uuid", "optional": false, "nullable": false },
            { "paths": ["price"], "wants": "real", "optional": true, "nullable": true },
            { "paths": ["$"], "wants": "json", "optional": false, "nullable": false },
        ] },
        { "event_type": "*", "fields": [] },
    ]);
    said["tables"] = serde_json::json!([{
        "name": "sale",
        "columns": [column("item", "uuid"), column("day", "timestamp"), column("price", "real")],
        "key": [0, 1],
        "indexes": [
            { "name": "by_day", "columns": [1], "unique": false },
            { "name": "once", "columns": [0, 2], "unique": true },
        ],
    }]);
    said["tables"][0]["columns"][2]["nullable"] = true.into();
    said["after_replay"] = serde_json::json!([
        { "dialect": "sqlite", "sql": "CREATE VIEW cheap AS\n  SELECT * FROM sale WHERE price < 1" },
    ]);
    it.write("shop.wasm", module(&said));
    insta::assert_snapshot!(it.shows(&["inspect", "shop.wasm"]), @r#"
    exit 0
    shop@2.1.0 (SIZE)
    digest    DIGEST
    contract  0.1.0 (built with retell-sdk none)
    events
      Sold { item.id|item_id: uuid, price?: real, $: json }
      * {  }
    table sale
      item                     uuid  key
      day                      timestamp  key
      price                    real or null
      index by_day (day)
      unique index once (item, price)
    after the replay (Sqlite)
      CREATE VIEW cheap AS
        SELECT * FROM sale WHERE price < 1
    "#);
    assert!(!it.path("retell-data").exists(), "looking makes no folder");

    let document = it.ok(&["--json", "inspect", "shop.wasm"]);
    assert_eq!(
        keys(&document),
        ["file", "digest", "bytes", "contract", "sdk", "manifest"]
    );
    let found = it.json(&["inspect", "shop.wasm"]);
    assert_eq!(found["manifest"], said);
    assert_eq!(found["contract"], "0.1.0");
    let bytes = std::fs::metadata(it.path("shop.wasm"))
        .expect("it is there")
        .len();
    assert_eq!(found["bytes"], bytes);
}

#[test]
fn a_module_of_the_sdk() {
    let it = Instance::new();
    let file = it.guest("articles_v1");
    let said = it.shows(&["inspect", &file]);
    for expected in [
        "articles@1.0.0",
        "ArticleCreated",
        "table article",
        "contract  0.1.0",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there() {
    let it = Instance::new();
    insta::assert_snapshot!(it.shows(&["inspect", "gone.wasm"]), @r#"
    exit 1
    error: the module gone.wasm can't be read
      caused by: No such file or directory (os error 2)
      hint: build one: `retell build PATH`
    "#);
}

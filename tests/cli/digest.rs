//! `retell digest`: equal for equal content, however it came about.

use crate::instance::Instance;
use crate::shown::keys;

#[test]
fn its_text_and_its_json() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0"]);
    insta::assert_snapshot!(it.shows(&["digest", "ticks"]), @r#"
    exit 0
    DIGEST  ticks@1.0.0 at 3
    "#);
    let document = it.ok(&["--json", "digest", "ticks@1.0.0"]);
    assert_eq!(
        keys(&document),
        ["projection", "version", "position", "digest"]
    );
    let said = it.json(&["digest", "ticks@1"]);
    assert_eq!(said["position"], 3);
    assert_eq!(said["digest"].as_str().map(str::len), Some(64));
}

#[test]
fn it_follows_the_content_and_nothing_else() {
    let it = Instance::new();
    it.append(3);
    it.promoted(&["1.0.0", "2.0.0"]);
    let digest = |name: &str| it.json(&["digest", name])["digest"].clone();
    let three = digest("ticks@1.0.0");
    assert_eq!(
        three,
        digest("ticks@2.0.0"),
        "the same rows by another version"
    );
    it.ok(&["replay", "-q", "ticks@1.0.0"]);
    assert_eq!(
        three,
        digest("ticks@1.0.0"),
        "the same rows by another build"
    );
    it.write("more.ndjson", crate::instance::line("more", 1));
    it.ok(&["append", "-q", "more.ndjson"]);
    it.ok(&["catch-up", "-q"]);
    assert_ne!(three, digest("ticks"), "another row");
    it.ok(&["replay", "-q", "ticks@1.0.0", "--until", "3"]);
    assert_eq!(three, digest("ticks@1.0.0"), "the same rows as of then");
}

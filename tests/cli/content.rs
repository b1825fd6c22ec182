//! The content projections that ship, through the host: what they retell of generated events is what
//! an independent fold makes of them, and the full-text index follows the tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::generated;
use crate::instance::Instance;
use crate::support::guest;

const EVENTS: u64 = 6000;
const SEED: u64 = 11;

/// What happened, folded the plainest way.
#[derive(Default)]
struct Site {
    names: BTreeMap<String, String>,
    registered: BTreeMap<String, bool>,
    articles: BTreeMap<String, Article>,
    comments: BTreeMap<String, (String, String)>,
}

#[derive(Default, Clone)]
struct Article {
    title: String,
    body: String,
    author: String,
    /// As it was when the article was created.
    author_name: String,
    likes: i64,
    deleted: bool,
}

impl Site {
    fn of(ndjson: &[u8]) -> Self {
        let mut site = Self::default();
        for event in serde_json::Deserializer::from_slice(ndjson).into_iter() {
            let event: Value = event.unwrap();
            site.apply(event["type"].as_str().unwrap(), &event["data"]);
        }
        site
    }

    fn apply(&mut self, kind: &str, data: &Value) {
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        match kind {
            "AuthorRegistered" => {
                self.names.insert(text("id"), text("name"));
                self.registered.insert(text("id"), true);
            }
            "AuthorRenamed" => {
                self.names.insert(text("id"), text("name"));
            }
            "ArticleCreated" => {
                let author = text("author");
                let article = Article {
                    title: text("title"),
                    body: text("body"),
                    author_name: self.name(&author),
                    author,
                    ..Article::default()
                };
                self.articles.insert(text("id"), article);
            }
            "ArticleTitleChanged" => self.living(&text("id"), |it| it.title = text("title")),
            "ArticleBodyChanged" => self.living(&text("id"), |it| it.body = text("body")),
            "ArticleDeleted" => self.living(&text("id"), |it| it.deleted = true),
            "ArticleLiked" => self.living(&text("article"), |it| it.likes += 1),
            "CommentPosted" => {
                self.comments
                    .insert(text("id"), (text("article"), text("author")));
            }
            "CommentRemoved" => {
                self.comments.remove(&text("id"));
            }
            other => panic!("what is {other}?"),
        }
    }

    fn living(&mut self, id: &str, change: impl FnOnce(&mut Article)) {
        if let Some(article) = self.articles.get_mut(id).filter(|it| !it.deleted) {
            change(article);
        }
    }

    fn name(&self, author: &str) -> String {
        self.names.get(author).map_or(author, |it| it).to_owned()
    }

    fn there(&self) -> impl Iterator<Item = (&String, &Article)> {
        self.articles.iter().filter(|(_, it)| !it.deleted)
    }

    /// Authors who registered or wrote, and what version 2 says of them.
    fn authors(&self) -> Value {
        let mut found: BTreeMap<&String, (i64, i64)> = BTreeMap::new();
        for id in self.names.keys() {
            found.entry(id).or_default();
        }
        for article in self.articles.values() {
            let counts = found.entry(&article.author).or_default();
            if !article.deleted {
                counts.0 += 1;
                counts.1 += article.likes;
            }
        }
        found
            .into_iter()
            .map(|(id, (articles, likes))| {
                let registered = self.registered.contains_key(id);
                json!([id, self.name(id), i64::from(registered), articles, likes])
            })
            .collect()
    }
}

/// The rows of a query, each a list of its values in order of the names.
fn rows(instance: &Instance, name: &str, columns: &str, from: &str) -> Value {
    let sql = format!("select json_array({columns}) as row from {from}");
    let answer = instance.ok(&["--json", "query", name, &sql]);
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(&answer).unwrap();
    rows.iter()
        .map(|row| serde_json::from_str::<Value>(&row["row"]).unwrap())
        .collect()
}

/// An instance whose versions replayed one half of the events and followed the other.
fn retold(modules: &[&str]) -> (Instance, Site) {
    let mut ndjson = Vec::new();
    generated::write_events(EVENTS, SEED, &mut ndjson).unwrap();
    let half = ndjson.iter().position(|byte| *byte == b'\n').unwrap() + ndjson.len() / 2;
    let half = half
        + ndjson[half..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap()
        + 1;
    let instance = Instance::new();
    instance.write("first.ndjson", &ndjson[..half]);
    instance.write("second.ndjson", &ndjson[half..]);
    instance.ok(&["append", "first.ndjson"]);
    for module in modules {
        instance.ok(&["deploy", guest(module).to_str().unwrap()]);
    }
    instance.ok(&["append", "second.ndjson"]);
    instance.ok(&["catch-up"]);
    (instance, Site::of(&ndjson))
}

#[test]
fn articles_in_three_versions() {
    let (instance, site) = retold(&["articles_v1", "articles_v2", "articles_v3"]);

    let expected: Value = site
        .there()
        .map(|(id, it)| json!([id, it.title, it.body, it.author_name, it.likes]))
        .collect();
    let columns = "id, title, body, author, likes";
    assert_eq!(
        rows(&instance, "articles@1", columns, "article order by id"),
        expected
    );

    let expected: Value = site
        .there()
        .map(|(id, it)| {
            json!([
                id,
                it.title,
                it.body,
                it.author,
                site.name(&it.author),
                it.likes
            ])
        })
        .collect();
    let columns = "id, title, body, author, author_name, likes";
    assert_eq!(
        rows(&instance, "articles@2", columns, "article order by id"),
        expected
    );
    let columns = "id, name, registered, articles, likes";
    for version in ["articles@2", "articles@3"] {
        assert_eq!(
            rows(&instance, version, columns, "author order by id"),
            site.authors(),
            "{version}"
        );
    }

    let expected: Value = site
        .articles
        .iter()
        .map(|(id, it)| {
            json!([
                id,
                it.title,
                it.body,
                site.name(&it.author),
                it.likes,
                i64::from(it.deleted)
            ])
        })
        .collect();
    let columns = "id, title, body, author_name, likes, deleted";
    assert_eq!(
        rows(&instance, "articles@3", columns, "article order by id"),
        expected
    );
    let unmarked = rows(
        &instance,
        "articles@3",
        "id",
        "article where deleted <> (deleted_at is not null)",
    );
    assert_eq!(unmarked, json!([]));
}

#[test]
fn the_full_text_index_follows_the_articles() {
    let (instance, site) = retold(&["articles_v2"]);
    let indexed = rows(
        &instance,
        "articles@2",
        "id, title, body",
        "article_search order by id",
    );
    let expected: Value = site
        .there()
        .map(|(id, it)| json!([id, it.title, it.body]))
        .collect();
    assert_eq!(indexed, expected);

    let has_word = |text: &str| text.split(' ').any(|word| word == "lantern");
    let expected: Value = site
        .there()
        .filter(|(_, it)| has_word(&it.title) || has_word(&it.body))
        .map(|(id, _)| json!([id]))
        .collect();
    assert!(expected.as_array().unwrap().len() > 10);
    let found = rows(
        &instance,
        "articles@2",
        "id",
        "article_search where article_search match 'lantern' order by id",
    );
    assert_eq!(found, expected);
}

#[test]
fn discussions_count_their_comments() {
    let (instance, site) = retold(&["discussions_v1"]);
    let expected: Value = site
        .comments
        .iter()
        .map(|(id, (article, author))| json!([id, article, author]))
        .collect();
    assert_eq!(
        rows(
            &instance,
            "discussions@1",
            "id, article, author",
            "comment order by id"
        ),
        expected
    );
    let expected: Value = site
        .articles
        .iter()
        .map(|(id, it)| {
            let comments = site.comments.values().filter(|(article, _)| article == id);
            json!([id, it.title, comments.count(), i64::from(it.deleted)])
        })
        .collect();
    assert_eq!(
        rows(
            &instance,
            "discussions@1",
            "article, title, comments, closed",
            "discussion order by article"
        ),
        expected
    );
    let wrong = rows(
        &instance,
        "discussions@1",
        "author",
        "participant p where comments <> (select count(*) from comment c where c.author = p.author)",
    );
    assert_eq!(wrong, json!([]));
}

//! Random content events, and what they add up to: a fold of `articles` 1 and 2 in plain maps, which
//! shares no code with the projections, the SDK or the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use retell::event::NewEvent;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

/// One row as texts, to compare and to print.
macro_rules! row {
    ($($value:expr),+) => { vec![$($value.to_string()),+] };
}

/// One fact of a social site. Ids may be anything, and nobody checked that they make sense.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    AuthorRegistered {
        id: String,
        name: String,
    },
    AuthorRenamed {
        id: String,
        name: String,
    },
    ArticleCreated {
        id: String,
        title: String,
        body: String,
        author: String,
    },
    ArticleTitleChanged {
        id: String,
        title: String,
    },
    ArticleBodyChanged {
        id: String,
        body: String,
    },
    ArticleDeleted {
        id: String,
    },
    ArticleLiked {
        article: String,
        author: String,
    },
    CommentPosted {
        id: String,
        article: String,
        author: String,
        text: String,
    },
    CommentRemoved {
        id: String,
    },
    /// A type that no projection knows.
    Noise {
        text: String,
    },
}

/// Words that searches look for; texts are made of them, and of odd things between.
const WORDS: [&str; 5] = ["engine", "notes", "loom", "number", "weaver"];

/// An instant for the first event, so that times are data and equal in every log they go to.
const EPOCH_US: i64 = 1_769_860_800_000_000;

impl Content {
    pub(crate) fn event(&self, number: usize) -> NewEvent {
        let (event_type, data) = self.type_and_data();
        NewEvent {
            stream: format!("content-{}", number % 7),
            event_type: event_type.to_owned(),
            data: data.to_string(),
            metadata: None,
            id: Some(format!("event-{number}")),
            occurred_at: Some(Self::occurred_at_us(number)),
        }
    }

    /// The event as a line for `retell append`.
    pub(crate) fn line(&self, number: usize) -> String {
        let (event_type, data) = self.type_and_data();
        let line = json!({
            "stream": format!("content-{}", number % 7),
            "type": event_type,
            "data": data,
            "id": format!("event-{number}"),
            "occurred_at": retell_contract::time::format_rfc3339(Self::occurred_at_us(number)),
        });
        format!("{line}\n")
    }

    /// Mostly one second after the other, but writers' clocks go wrong.
    fn occurred_at_us(number: usize) -> i64 {
        let seconds = if number % 11 == 3 { number / 2 } else { number };
        EPOCH_US + i64::try_from(seconds).expect("tests are short") * 1_000_000
    }

    fn type_and_data(&self) -> (&'static str, serde_json::Value) {
        match self {
            Self::AuthorRegistered { id, name } => {
                ("AuthorRegistered", json!({ "id": id, "name": name }))
            }
            Self::AuthorRenamed { id, name } => {
                ("AuthorRenamed", json!({ "id": id, "name": name }))
            }
            Self::ArticleCreated {
                id,
                title,
                body,
                author,
            } => (
                "ArticleCreated",
                json!({ "id": id, "title": title, "body": body, "author": author, "more": [{}] }),
            ),
            Self::ArticleTitleChanged { id, title } => {
                ("ArticleTitleChanged", json!({ "id": id, "title": title }))
            }
            Self::ArticleBodyChanged { id, body } => {
                ("ArticleBodyChanged", json!({ "id": id, "body": body }))
            }
            Self::ArticleDeleted { id } => ("ArticleDeleted", json!({ "id": id })),
            Self::ArticleLiked { article, author } => (
                "ArticleLiked",
                json!({ "article": article, "author": author }),
            ),
            Self::CommentPosted {
                id,
                article,
                author,
                text,
            } => (
                "CommentPosted",
                json!({ "id": id, "article": article, "author": author, "text": text }),
            ),
            Self::CommentRemoved { id } => ("CommentRemoved", json!({ "id": id })),
            Self::Noise { text } => ("SomethingElse", json!({ "text": text })),
        }
    }
}

/// Few ids, so that events meet: most plain, some odd.
fn id(kind: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..9_u8).prop_map(move |n| format!("{kind}{n}")),
        1 => prop::sample::select(vec!["", " ", "ä", "日本", "it's \"so\"", "a\nb", "🦀", "%_", "1"])
            .prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    prop_oneof![
        1 => Just(String::new()),
        8 => prop::collection::vec(part, 1..5).prop_map(|parts| parts.join(" ")),
        1 => (100..2_000_usize).prop_map(|bytes| "x".repeat(bytes)),
    ]
}

pub(crate) fn content() -> impl Strategy<Value = Content> {
    let article = || id("a");
    let author = || id("u");
    let comment = || id("c");
    prop_oneof![
        2 => (author(), text()).prop_map(|(id, name)| Content::AuthorRegistered { id, name }),
        2 => (author(), text()).prop_map(|(id, name)| Content::AuthorRenamed { id, name }),
        6 => (article(), text(), text(), author()).prop_map(|(id, title, body, author)| {
            Content::ArticleCreated { id, title, body, author }
        }),
        3 => (article(), text())
            .prop_map(|(id, title)| Content::ArticleTitleChanged { id, title }),
        3 => (article(), text()).prop_map(|(id, body)| Content::ArticleBodyChanged { id, body }),
        3 => article().prop_map(|id| Content::ArticleDeleted { id }),
        8 => (article(), author())
            .prop_map(|(article, author)| Content::ArticleLiked { article, author }),
        4 => (comment(), article(), author(), text()).prop_map(|(id, article, author, text)| {
            Content::CommentPosted { id, article, author, text }
        }),
        2 => comment().prop_map(|id| Content::CommentRemoved { id }),
        1 => text().prop_map(|text| Content::Noise { text }),
    ]
}

/// So many events, the same for the same seed.
pub(crate) fn seeded(seed: u64, count: usize) -> Vec<Content> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = content();
    (0..count)
        .map(|_| {
            let tree = strategy.new_tree(&mut runner);
            tree.expect("nothing is filtered out").current()
        })
        .collect()
}

/// An article as the log tells of it.
#[derive(Debug, Clone)]
struct Article {
    title: String,
    body: String,
    author: String,
    /// What the author was called when the article was created.
    name_then: String,
    likes: i64,
}

/// What the events say, whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    articles: BTreeMap<String, Article>,
    names: BTreeMap<String, String>,
    registered: BTreeSet<String>,
    /// Authors that an article named while it was not there yet.
    named_by_articles: BTreeSet<String>,
}

impl Fold {
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a Content>) -> Self {
        let mut fold = Self::default();
        for event in events {
            fold.add(event);
        }
        fold
    }

    fn add(&mut self, event: &Content) {
        match event {
            Content::AuthorRegistered { id, name } => {
                self.registered.insert(id.clone());
                self.names.insert(id.clone(), name.clone());
            }
            Content::AuthorRenamed { id, name } => {
                self.names.insert(id.clone(), name.clone());
            }
            Content::ArticleCreated {
                id,
                title,
                body,
                author,
            } => {
                if !self.articles.contains_key(id) {
                    self.named_by_articles.insert(author.clone());
                    let article = Article {
                        title: title.clone(),
                        body: body.clone(),
                        author: author.clone(),
                        name_then: self.name_of(author),
                        likes: 0,
                    };
                    self.articles.insert(id.clone(), article);
                }
            }
            Content::ArticleTitleChanged { id, title } => {
                if let Some(article) = self.articles.get_mut(id) {
                    article.title.clone_from(title);
                }
            }
            Content::ArticleBodyChanged { id, body } => {
                if let Some(article) = self.articles.get_mut(id) {
                    article.body.clone_from(body);
                }
            }
            Content::ArticleDeleted { id } => {
                self.articles.remove(id);
            }
            Content::ArticleLiked { article, .. } => {
                if let Some(article) = self.articles.get_mut(article) {
                    article.likes += 1;
                }
            }
            Content::CommentPosted { .. }
            | Content::CommentRemoved { .. }
            | Content::Noise { .. } => {}
        }
    }

    fn name_of(&self, author: &str) -> String {
        self.names
            .get(author)
            .map_or(author, String::as_str)
            .to_owned()
    }

    /// Panics unless the read model of `articles` 1 holds just this.
    pub(crate) fn assert_is_version_1(&self, read_model: &Path) {
        let articles: Vec<_> = (self.articles.iter())
            .map(|(id, it)| row![id, it.title, it.body, it.name_then, it.likes])
            .collect();
        let authors: Vec<_> = self.names.iter().map(|(id, name)| row![id, name]).collect();
        let connection = open(read_model);
        let sql = "SELECT id, title, body, author, likes FROM article ORDER BY id";
        assert_eq!(rows(&connection, sql), articles);
        let sql = "SELECT id, name FROM author ORDER BY id";
        assert_eq!(rows(&connection, sql), authors);
    }

    /// Panics unless the read model of `articles` 2 holds just this, its search included.
    pub(crate) fn assert_is_version_2(&self, read_model: &Path) {
        let articles: Vec<_> = (self.articles.iter())
            .map(|(id, it)| {
                let name = self.name_of(&it.author);
                row![id, it.title, it.body, it.author, name, it.likes]
            })
            .collect();
        let known: BTreeSet<&String> = self.names.keys().chain(&self.named_by_articles).collect();
        let authors: Vec<_> = (known.into_iter())
            .map(|id| {
                let theirs: Vec<_> = (self.articles.values())
                    .filter(|it| it.author == *id)
                    .collect();
                let likes: i64 = theirs.iter().map(|it| it.likes).sum();
                let registered = i64::from(self.registered.contains(id));
                row![id, self.name_of(id), registered, theirs.len(), likes]
            })
            .collect();
        let connection = open(read_model);
        let sql = "SELECT id, title, body, author, author_name, likes FROM article ORDER BY id";
        assert_eq!(rows(&connection, sql), articles);
        let sql = "SELECT id, name, registered, articles, likes FROM author ORDER BY id";
        assert_eq!(rows(&connection, sql), authors);
        assert_search_agrees(&connection);
    }
}

fn open(read_model: &Path) -> Connection {
    Connection::open_with_flags(read_model, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap_or_else(|error| panic!("{}: {error}", read_model.display()))
}

fn rows(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    use rusqlite::types::ValueRef;
    let mut statement = connection.prepare(sql).expect("the query is right");
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns)
            .map(|column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Integer(value) => value.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                })
            })
            .collect()
    });
    rows.and_then(Iterator::collect).expect("the query runs")
}

/// The full-text index of `articles` 2 and 3 has the texts of the articles, and finds their words.
pub(crate) fn assert_search(read_model: &Path) {
    assert_search_agrees(&open(read_model));
}

fn assert_search_agrees(connection: &Connection) {
    let articles = rows(
        connection,
        "SELECT id, title, body FROM article ORDER BY id",
    );
    let sql = "SELECT id, title, body FROM article_search ORDER BY id";
    assert_eq!(rows(connection, sql), articles, "the texts in the index");
    for word in WORDS {
        let has = |text: &String| text.split(' ').any(|part| part == word);
        let expected: Vec<_> = (articles.iter())
            .filter(|row| has(&row[1]) || has(&row[2]))
            .map(|row| vec![row[0].clone()])
            .collect();
        let sql = format!(
            "SELECT id FROM article_search WHERE article_search MATCH '{word}' ORDER BY id"
        );
        assert_eq!(rows(connection, &sql), expected, "articles with `{word}`");
    }
}

use retell_sdk::testing::{Event, event, given};
use serde_json::json;

use super::*;

fn registered(id: &str, name: &str) -> Event {
    event("AuthorRegistered", json!({ "id": id, "name": name }))
}

fn created(id: &str, author: &str) -> Event {
    event(
        "ArticleCreated",
        json!({ "id": id, "title": "Notes", "body": "On the engine", "author": author }),
    )
}

fn liked(article: &str) -> Event {
    event("ArticleLiked", json!({ "article": article, "author": "x" }))
}

fn author(id: &str, name: &str, registered: bool, articles: i64, likes: i64) -> Author {
    Author {
        id: id.to_owned(),
        name: name.to_owned(),
        registered,
        articles,
        likes,
    }
}

#[test]
fn a_rename_reaches_every_article_of_that_author() {
    let model = given::<Projection>([
        registered("1", "Ada"),
        registered("2", "Mary"),
        created("a", "1"),
        created("b", "1"),
        created("c", "2"),
        event("AuthorRenamed", json!({ "id": "1", "name": "Countess" })),
        created("d", "1"),
    ]);
    let names: Vec<_> = model
        .rows::<Article>()
        .into_iter()
        .map(|article| (article.id, article.author_name))
        .collect();
    let expected = [
        ("a", "Countess"),
        ("b", "Countess"),
        ("c", "Mary"),
        ("d", "Countess"),
    ];
    assert_eq!(
        names,
        expected.map(|(id, name)| (id.to_owned(), name.to_owned()))
    );
    assert_eq!(
        model.rows::<Author>(),
        [
            author("1", "Countess", true, 3, 0),
            author("2", "Mary", true, 1, 0),
        ]
    );
}

#[test]
fn an_author_may_register_after_writing() {
    let early = [created("a", "1"), liked("a")];
    let model = given::<Projection>(early.clone());
    assert_eq!(
        model.rows::<Author>(),
        [author("1", "1", false, 1, 1)],
        "the id stands in for the name"
    );
    assert_eq!(model.get::<Article>("a").unwrap().author_name, "1");

    let model = given::<Projection>(early.into_iter().chain([registered("1", "Ada")]));
    assert_eq!(model.rows::<Author>(), [author("1", "Ada", true, 1, 1)]);
    assert_eq!(model.get::<Article>("a").unwrap().author_name, "Ada");
}

#[test]
fn counts_are_of_articles_that_are_there() {
    let model = given::<Projection>([
        registered("1", "Ada"),
        created("a", "1"),
        created("b", "1"),
        liked("a"),
        liked("a"),
        liked("b"),
        event("ArticleDeleted", json!({ "id": "a" })),
        liked("a"),
        event("ArticleDeleted", json!({ "id": "a" })),
        created("b", "2"),
    ]);
    assert_eq!(model.rows::<Author>(), [author("1", "Ada", true, 1, 1)]);
    assert_eq!(model.get::<Article>("b").unwrap().likes, 1);
    assert!(model.get::<Article>("a").is_none());
}

#[test]
fn titles_and_bodies_change() {
    let model = given::<Projection>([
        created("a", "1"),
        event("ArticleTitleChanged", json!({ "id": "a", "title": "New" })),
        event("ArticleBodyChanged", json!({ "id": "a", "body": "Text" })),
        event("ArticleBodyChanged", json!({ "id": "b", "body": "Text" })),
    ]);
    let found = model.rows::<Article>();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].title.as_str(), found[0].body.as_str()),
        ("New", "Text")
    );
}

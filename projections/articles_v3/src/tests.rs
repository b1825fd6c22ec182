use retell_sdk::testing::{Event, event, given};
use serde_json::json;

use super::*;

const NOON: &str = "2026-01-31T12:00:00Z";

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

fn deleted(id: &str) -> Event {
    event("ArticleDeleted", json!({ "id": id })).at(NOON)
}

#[test]
fn a_deleted_article_is_back_as_it_was_and_marked() {
    let model = given::<Projection>([
        created("a", "1"),
        created("b", "1"),
        liked("a"),
        deleted("a"),
        liked("a"),
        event("ArticleTitleChanged", json!({ "id": "a", "title": "Late" })),
        deleted("a").at("2026-02-01T12:00:00Z"),
    ]);
    let noon = Timestamp::from_micros(1_769_860_800_000_000).unwrap();
    assert_eq!(
        model.get::<Article>("a").unwrap(),
        Article {
            id: "a".to_owned(),
            title: "Notes".to_owned(),
            body: "On the engine".to_owned(),
            author: "1".to_owned(),
            author_name: "1".to_owned(),
            likes: 1,
            deleted: true,
            deleted_at: Some(noon),
        }
    );
    let living = model.get::<Article>("b").unwrap();
    assert_eq!((living.deleted, living.deleted_at), (false, None));
}

#[test]
fn authors_count_both_kinds() {
    let events = [
        registered("1", "Ada"),
        created("a", "1"),
        created("b", "1"),
        liked("a"),
        liked("b"),
        deleted("a"),
    ];
    let counts = |model: &retell_sdk::testing::ReadModel, id: &str| {
        let author = model.get::<Author>(id).unwrap();
        (author.articles, author.likes, author.deleted_articles)
    };
    let model = given::<Projection>(events.clone());
    assert_eq!(counts(&model, "1"), (1, 1, 1));

    let again = events.into_iter().chain([created("a", "2")]);
    let model = given::<Projection>(again);
    assert_eq!(counts(&model, "1"), (1, 1, 0));
    assert_eq!(counts(&model, "2"), (1, 0, 0));
    let article = model.get::<Article>("a").unwrap();
    assert_eq!((article.deleted, article.likes), (false, 0));
}

#[test]
fn a_rename_reaches_deleted_articles_too() {
    let model = given::<Projection>([
        created("a", "1"),
        deleted("a"),
        registered("1", "Ada"),
        event("AuthorRenamed", json!({ "id": "1", "name": "Countess" })),
    ]);
    assert_eq!(model.get::<Article>("a").unwrap().author_name, "Countess");
}

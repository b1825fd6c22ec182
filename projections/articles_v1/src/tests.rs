use retell_sdk::testing::{Event, event, given};
use serde_json::json;

use super::*;

fn created(id: &str, author: &str) -> Event {
    event(
        "ArticleCreated",
        json!({ "id": id, "title": "Notes", "body": "On the engine", "author": author }),
    )
}

fn article(id: &str, author: &str, likes: i64) -> Article {
    Article {
        id: id.to_owned(),
        title: "Notes".to_owned(),
        body: "On the engine".to_owned(),
        author: author.to_owned(),
        likes,
    }
}

#[test]
fn an_article_shows_its_authors_name_as_it_was() {
    let model = given::<Projection>([
        event("AuthorRegistered", json!({ "id": "1", "name": "Ada" })),
        created("a", "1"),
        event("AuthorRenamed", json!({ "id": "1", "name": "Countess" })),
        created("b", "1"),
        created("c", "nobody"),
    ]);
    assert_eq!(
        model.rows::<Article>(),
        [
            article("a", "Ada", 0),
            article("b", "Countess", 0),
            article("c", "nobody", 0),
        ]
    );
}

#[test]
fn titles_bodies_and_likes_change() {
    let model = given::<Projection>([
        created("a", "1"),
        event("ArticleTitleChanged", json!({ "id": "a", "title": "New" })),
        event("ArticleBodyChanged", json!({ "id": "a", "body": "Text" })),
        event("ArticleLiked", json!({ "article": "a", "author": "2" })),
        event("ArticleLiked", json!({ "article": "a", "author": "2" })),
    ]);
    let found = model.get::<Article>("a").unwrap();
    assert_eq!(
        (found.title.as_str(), found.body.as_str(), found.likes),
        ("New", "Text", 2)
    );
}

#[test]
fn a_deleted_article_is_gone_and_stays_gone() {
    let model = given::<Projection>([
        created("a", "1"),
        event("ArticleDeleted", json!({ "id": "a" })),
        event("ArticleTitleChanged", json!({ "id": "a", "title": "New" })),
        event("ArticleLiked", json!({ "article": "a", "author": "2" })),
        event("ArticleDeleted", json!({ "id": "a" })),
    ]);
    assert_eq!(model.rows::<Article>(), []);
}

#[test]
fn what_makes_no_sense_is_ignored() {
    let model = given::<Projection>([
        event("ArticleLiked", json!({ "article": "a", "author": "2" })),
        created("a", "1"),
        event("ArticleLiked", json!({ "article": "a", "author": "2" })),
        created("a", "other"),
        event("CommentPosted", json!({ "id": "c", "article": "a" })),
    ]);
    assert_eq!(model.rows::<Article>(), [article("a", "1", 1)]);
}

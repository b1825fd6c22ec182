use retell_sdk::testing::{Event, event, given};
use serde_json::json;

use super::*;

fn created(id: &str, title: &str) -> Event {
    event("ArticleCreated", json!({ "id": id, "title": title }))
}

fn posted(id: &str, article: &str, author: &str, time: &str) -> Event {
    event(
        "CommentPosted",
        json!({ "id": id, "article": article, "author": author, "text": "Indeed" }),
    )
    .at(time)
}

const EARLY: &str = "2026-01-31T12:00:00Z";
const LATE: &str = "2026-01-31T13:00:00Z";

#[test]
fn comments_are_counted_by_article_and_author() {
    let model = given::<Projection>([
        created("a", "Notes"),
        event("AuthorRegistered", json!({ "id": "1", "name": "Ada" })),
        posted("c1", "a", "1", LATE),
        posted("c2", "a", "2", EARLY),
        posted("c2", "a", "2", LATE),
        event("CommentRemoved", json!({ "id": "c1" })),
        event("CommentRemoved", json!({ "id": "c1" })),
    ]);
    let comments = model.rows::<Comment>();
    assert_eq!(comments.len(), 1);
    assert_eq!(comments[0].id, "c2");
    let discussion = model.get::<Discussion>("a").unwrap();
    assert_eq!(discussion.comments, 1);
    let newest = discussion.last_comment_at.unwrap();
    assert!(newest > comments[0].posted_at, "the removed one was newer");
    let participants = model.rows::<Participant>();
    let participants: Vec<_> = participants
        .iter()
        .map(|participant| (participant.name.as_str(), participant.comments))
        .collect();
    assert_eq!(participants, [("Ada", 0), ("2", 1)]);
}

#[test]
fn a_deleted_article_closes_its_discussion_and_the_comments_stay() {
    let events = [
        created("a", "Notes"),
        posted("c1", "a", "1", EARLY),
        event("ArticleDeleted", json!({ "id": "a" })),
        event("ArticleTitleChanged", json!({ "id": "a", "title": "Late" })),
        posted("c2", "a", "1", LATE),
    ];
    let model = given::<Projection>(events.clone());
    let discussion = model.get::<Discussion>("a").unwrap();
    assert!(discussion.closed);
    assert_eq!(discussion.comments, 2);
    assert_eq!(discussion.title.as_deref(), Some("Notes"));

    let model = given::<Projection>(events.into_iter().chain([created("a", "Again")]));
    let discussion = model.get::<Discussion>("a").unwrap();
    assert!(!discussion.closed);
    assert_eq!(discussion.title.as_deref(), Some("Again"));
}

#[test]
fn a_comment_may_come_before_its_article() {
    let model = given::<Projection>([
        posted("c1", "a", "1", EARLY),
        event(
            "ArticleTitleChanged",
            json!({ "id": "a", "title": "Early" }),
        ),
        event("ArticleDeleted", json!({ "id": "b" })),
    ]);
    let discussions = model.rows::<Discussion>();
    assert_eq!(discussions.len(), 1);
    assert_eq!(
        (discussions[0].title.as_ref(), discussions[0].comments),
        (None, 1)
    );
}

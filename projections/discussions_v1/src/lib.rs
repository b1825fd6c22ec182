//! What is said under articles: comments, one row for each article's discussion, and who takes part.
//! It shares the log with `articles` and nothing else.
//!
//! A deleted article closes its discussion; what others said stays, and is marked by `closed`. An
//! article that is created again opens it again.
//!
//! Any log can be retold, also one whose writer checked nothing. A comment may come before its
//! article: the discussion has no title until then. A comment under a closed discussion is kept too,
//! as it was said. A second comment with the same id, and the removal of one that is not there, are
//! ignored.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Cms<'a> {
    AuthorRegistered {
        id: &'a str,
        name: &'a str,
    },
    AuthorRenamed {
        id: &'a str,
        name: &'a str,
    },
    ArticleCreated {
        id: &'a str,
        title: &'a str,
    },
    ArticleTitleChanged {
        id: &'a str,
        title: &'a str,
    },
    ArticleDeleted {
        id: &'a str,
    },
    CommentPosted {
        id: &'a str,
        article: &'a str,
        author: &'a str,
        text: &'a str,
    },
    CommentRemoved {
        id: &'a str,
    },
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Comment {
    #[key]
    pub id: String,
    #[index]
    pub article: String,
    /// The author's id; the name is in `participant`.
    #[index]
    pub author: String,
    pub text: String,
    pub posted_at: Timestamp,
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Discussion {
    #[key]
    pub article: String,
    /// The article's title, once there is an article.
    pub title: Option<String>,
    pub comments: i64,
    /// The newest comment's time, removed ones included.
    pub last_comment_at: Option<Timestamp>,
    pub closed: bool,
}

impl Discussion {
    fn about(article: &str) -> Self {
        Self {
            article: article.to_owned(),
            title: None,
            comments: 0,
            last_comment_at: None,
            closed: false,
        }
    }
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Participant {
    #[key]
    pub author: String,
    /// The id until a name is known.
    pub name: String,
    pub comments: i64,
}

impl Participant {
    fn unknown(author: &str) -> Self {
        Self {
            author: author.to_owned(),
            name: author.to_owned(),
            comments: 0,
        }
    }
}

#[projection(
    name = "discussions",
    version = "1.0.0",
    tables(Comment, Discussion, Participant),
    meta(time)
)]
fn project(event: Cms<'_>, meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Cms::AuthorRegistered { id, name } | Cms::AuthorRenamed { id, name } => {
            db.update_or_insert::<Participant>(
                id,
                || Participant::unknown(id),
                |participant| name.clone_into(&mut participant.name),
            )?;
        }
        Cms::ArticleCreated { id, title } => {
            db.update_or_insert::<Discussion>(
                id,
                || Discussion::about(id),
                |discussion| {
                    // A second creation of a living article says nothing new.
                    if discussion.title.is_none() || discussion.closed {
                        discussion.title = Some(title.to_owned());
                        discussion.closed = false;
                    }
                },
            )?;
        }
        Cms::ArticleTitleChanged { id, title } => {
            db.update::<Discussion>(id, |discussion| {
                if discussion.title.is_some() && !discussion.closed {
                    discussion.title = Some(title.to_owned());
                }
            })?;
        }
        Cms::ArticleDeleted { id } => {
            db.update::<Discussion>(id, |discussion| discussion.closed = true)?;
        }
        Cms::CommentPosted {
            id,
            article,
            author,
            text,
        } => {
            if db.exists::<Comment>(id)? {
                return Ok(());
            }
            let posted_at = meta.time();
            db.put(Comment {
                id: id.to_owned(),
                article: article.to_owned(),
                author: author.to_owned(),
                text: text.to_owned(),
                posted_at,
            })?;
            db.update_or_insert::<Discussion>(
                article,
                || Discussion::about(article),
                |discussion| {
                    discussion.comments += 1;
                    discussion.last_comment_at = discussion.last_comment_at.max(Some(posted_at));
                },
            )?;
            db.update_or_insert::<Participant>(
                author,
                || Participant::unknown(author),
                |participant| participant.comments += 1,
            )?;
        }
        Cms::CommentRemoved { id } => {
            let Some(comment) = db.get::<Comment>(id)? else {
                return Ok(());
            };
            let (article, author) = (comment.article.clone(), comment.author.clone());
            db.delete::<Comment>(id)?;
            db.update::<Discussion>(&article, |discussion| discussion.comments -= 1)?;
            db.update::<Participant>(&author, |participant| participant.comments -= 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Articles as in version 2, and the deleted ones are back: the log never forgot them. A deleted
//! article is as it was when it was deleted, and marked.
//!
//! ```sql
//! select * from article where deleted order by deleted_at desc
//! ```
//!
//! An author whom an article names before `AuthorRegistered` does is a row too, with the id for a
//! name and `registered` false, and gets the name on all articles once it is known.
//!
//! Any log can be retold, also one whose writer checked nothing: a second creation of an article
//! that exists, and whatever is said of an article that does not exist, or no longer, is ignored.
//! A new article with the id of a deleted one takes its place. Every `ArticleLiked` counts; who may
//! like how often is the writer's decision.

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
        body: &'a str,
        author: &'a str,
    },
    ArticleTitleChanged {
        id: &'a str,
        title: &'a str,
    },
    ArticleBodyChanged {
        id: &'a str,
        body: &'a str,
    },
    ArticleDeleted {
        id: &'a str,
    },
    ArticleLiked {
        article: &'a str,
    },
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Article {
    #[key]
    pub id: String,
    pub title: String,
    pub body: String,
    /// The author's id.
    #[index]
    pub author: String,
    /// The author's name as it is now.
    pub author_name: String,
    pub likes: i64,
    pub deleted: bool,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Author {
    #[key]
    pub id: String,
    pub name: String,
    pub registered: bool,
    /// Articles that are not deleted.
    pub articles: i64,
    /// Likes that those received.
    pub likes: i64,
    pub deleted_articles: i64,
}

impl Author {
    fn unknown(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            registered: false,
            articles: 0,
            likes: 0,
            deleted_articles: 0,
        }
    }
}

#[projection(
    name = "articles",
    version = "3.0.0",
    tables(Article, Author),
    meta(time),
    after_replay(sqlite = include_str!("search.sqlite.sql"), postgres = include_str!("search.postgres.sql"))
)]
fn project(event: Cms<'_>, meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Cms::AuthorRegistered { id, name } => name_author(db, id, name, true)?,
        Cms::AuthorRenamed { id, name } => name_author(db, id, name, false)?,
        Cms::ArticleCreated {
            id,
            title,
            body,
            author,
        } => create_article(db, id, title, body, author)?,
        Cms::ArticleTitleChanged { id, title } => {
            update_living(db, id, |article| title.clone_into(&mut article.title))?;
        }
        Cms::ArticleBodyChanged { id, body } => {
            update_living(db, id, |article| body.clone_into(&mut article.body))?;
        }
        Cms::ArticleDeleted { id } => {
            let mut gone = None;
            update_living(db, id, |article| {
                article.deleted = true;
                article.deleted_at = Some(meta.time());
                gone = Some((article.author.clone(), article.likes));
            })?;
            if let Some((author, likes)) = gone {
                db.update::<Author>(&author, |author| {
                    author.articles -= 1;
                    author.deleted_articles += 1;
                    author.likes -= likes;
                })?;
            }
        }
        Cms::ArticleLiked { article } => {
            let mut author = None;
            update_living(db, article, |article| {
                article.likes += 1;
                author = Some(article.author.clone());
            })?;
            if let Some(author) = author {
                db.update::<Author>(&author, |author| author.likes += 1)?;
            }
        }
    }
    Ok(())
}

fn create_article(db: &mut Db, id: &str, title: &str, body: &str, author: &str) -> Result<()> {
    if let Some(there) = db.get::<Article>(id)? {
        if !there.deleted {
            return Ok(());
        }
        let author = there.author.clone();
        db.update::<Author>(&author, |author| author.deleted_articles -= 1)?;
    }
    let mut author_name = String::new();
    db.update_or_insert::<Author>(
        author,
        || Author::unknown(author),
        |author| {
            author.articles += 1;
            author_name.clone_from(&author.name);
        },
    )?;
    db.put(Article {
        id: id.to_owned(),
        title: title.to_owned(),
        body: body.to_owned(),
        author: author.to_owned(),
        author_name,
        likes: 0,
        deleted: false,
        deleted_at: None,
    })
}

/// Changes an article unless it is deleted or was never there.
fn update_living(db: &mut Db, id: &str, change: impl FnOnce(&mut Article)) -> Result<()> {
    db.update::<Article>(id, |article| {
        if !article.deleted {
            change(article);
        }
    })?;
    Ok(())
}

/// Gives the author a name, here and on every article.
fn name_author(db: &mut Db, id: &str, name: &str, registers: bool) -> Result<()> {
    db.update_or_insert::<Author>(
        id,
        || Author::unknown(id),
        |author| {
            name.clone_into(&mut author.name);
            author.registered |= registers;
        },
    )?;
    db.update_all(Article::BY_AUTHOR, id, |article| {
        name.clone_into(&mut article.author_name);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;

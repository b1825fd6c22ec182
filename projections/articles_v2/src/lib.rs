//! Articles and their authors, who have a table of their own with counts. A rename reaches every
//! article, and titles and bodies are in a full-text index:
//!
//! ```sql
//! select a.* from article_search s join article a on a.id = s.id
//! where article_search match 'engine' order by rank
//! ```
//!
//! An author whom an article names before `AuthorRegistered` does is a row too, with the id for a
//! name and `registered` false, and gets the name on all articles once it is known.
//!
//! Any log can be retold, also one whose writer checked nothing: a second creation of an article
//! that exists, and whatever is said of an article that does not exist, or no longer, is ignored.
//! Every `ArticleLiked` counts; who may like how often is the writer's decision.

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
}

impl Author {
    fn unknown(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            registered: false,
            articles: 0,
            likes: 0,
        }
    }
}

#[projection(
    name = "articles",
    version = "2.0.0",
    tables(Article, Author),
    after_replay(sqlite = include_str!("search.sqlite.sql"), postgres = include_str!("search.postgres.sql"))
)]
fn project(event: Cms<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Cms::AuthorRegistered { id, name } => name_author(db, id, name, true)?,
        Cms::AuthorRenamed { id, name } => name_author(db, id, name, false)?,
        Cms::ArticleCreated {
            id,
            title,
            body,
            author,
        } => {
            if db.exists::<Article>(id)? {
                return Ok(());
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
            })?;
        }
        Cms::ArticleTitleChanged { id, title } => {
            db.update::<Article>(id, |article| title.clone_into(&mut article.title))?;
        }
        Cms::ArticleBodyChanged { id, body } => {
            db.update::<Article>(id, |article| body.clone_into(&mut article.body))?;
        }
        Cms::ArticleDeleted { id } => {
            let Some(article) = db.get::<Article>(id)? else {
                return Ok(());
            };
            let (author, likes) = (article.author.clone(), article.likes);
            db.delete::<Article>(id)?;
            db.update::<Author>(&author, |author| {
                author.articles -= 1;
                author.likes -= likes;
            })?;
        }
        Cms::ArticleLiked { article } => {
            let mut author = None;
            db.update::<Article>(article, |article| {
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

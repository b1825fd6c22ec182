//! Articles of a social site, as a page shows them: title, body, author's name, likes.
//!
//! An article shows the name that its author had when it was created, or the author's id if there
//! was none by then. Version 2 does better.
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
    /// The author's name when the article was created.
    pub author: String,
    pub likes: i64,
}

/// Names, to be looked up when an article is created.
#[derive(Table, Debug, Clone, PartialEq)]
pub struct Author {
    #[key]
    pub id: String,
    pub name: String,
}

#[projection(name = "articles", version = "1.0.0", tables(Article, Author))]
fn project(event: Cms<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Cms::AuthorRegistered { id, name } | Cms::AuthorRenamed { id, name } => {
            db.put(Author {
                id: id.to_owned(),
                name: name.to_owned(),
            })?;
        }
        Cms::ArticleCreated {
            id,
            title,
            body,
            author,
        } => {
            if db.exists::<Article>(id)? {
                return Ok(());
            }
            let author = match db.get::<Author>(author)? {
                Some(known) => known.name.clone(),
                None => author.to_owned(),
            };
            db.put(Article {
                id: id.to_owned(),
                title: title.to_owned(),
                body: body.to_owned(),
                author,
                likes: 0,
            })?;
        }
        Cms::ArticleTitleChanged { id, title } => {
            db.update::<Article>(id, |article| title.clone_into(&mut article.title))?;
        }
        Cms::ArticleBodyChanged { id, body } => {
            db.update::<Article>(id, |article| body.clone_into(&mut article.body))?;
        }
        Cms::ArticleDeleted { id } => db.delete::<Article>(id)?,
        Cms::ArticleLiked { article } => {
            db.update::<Article>(article, |article| article.likes += 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

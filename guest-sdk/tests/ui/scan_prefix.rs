use retell_sdk::prelude::*;

#[derive(Table)]
struct Article {
    #[key]
    id: String,
    #[index]
    author: String,
}

fn wrong_type(db: &mut Db) -> Result<Vec<Article>> {
    db.scan(Article::BY_AUTHOR, 5)
}

fn too_many(db: &mut Db) -> Result<Vec<Article>> {
    db.scan(Article::BY_AUTHOR, ("a", "b"))
}

fn main() {}

use retell_sdk::prelude::*;

#[derive(Table)]
#[table(name = "retell_articles")]
struct Reserved {
    #[key]
    id: String,
}

#[derive(Table)]
struct Columns {
    #[key]
    id: String,
    #[column(name = "Title")]
    title: String,
}

#[derive(Table)]
struct Twice {
    #[key]
    id: String,
    #[column(name = "id")]
    other: String,
}

#[derive(Table)]
struct Box {
    #[key]
    id: String,
    xmin: f64,
}

#[derive(Table)]
#[table(index(author, name = "by-author"))]
struct Index {
    #[key]
    id: String,
    author: String,
}

#[derive(Table)]
struct ColumnOfIndex {
    #[key]
    id: String,
    #[index]
    #[column(name = "the-author")]
    author: String,
}

fn main() {}

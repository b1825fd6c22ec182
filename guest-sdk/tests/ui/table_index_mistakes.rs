use retell_sdk::prelude::*;

#[derive(Table)]
#[table(index(id, author))]
struct UnknownColumn {
    #[key]
    id: String,
}

#[derive(Table)]
struct JsonIndex {
    #[key]
    id: String,
    #[index]
    tags: Json,
}

#[derive(Table)]
#[table(unique(author))]
struct TwoIndexes {
    #[key]
    id: String,
    #[index]
    author: String,
}

fn main() {}

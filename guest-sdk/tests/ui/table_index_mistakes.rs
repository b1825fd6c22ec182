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

#[derive(Table)]
#[table(index(a, b))]
struct Alike {
    #[key]
    id: String,
    a: String,
    b: String,
    #[index]
    a_and_b: String,
}

#[derive(Table)]
struct Setting {
    #[key]
    id: String,
    #[index]
    key: String,
}

fn main() {}

use retell_sdk::prelude::*;

#[derive(Table)]
struct Article {
    #[key]
    id: String,
    tags: Vec<String>,
    views: u64,
}

fn main() {}

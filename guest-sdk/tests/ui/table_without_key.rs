use retell_sdk::prelude::*;

#[derive(Table)]
struct Article {
    id: String,
}

fn main() {}

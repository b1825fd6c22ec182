use retell_sdk::prelude::*;

#[derive(Table)]
struct Tagged {
    #[key]
    tags: Json,
}

#[derive(Table)]
struct Optional {
    #[key]
    id: Option<String>,
}

fn main() {}

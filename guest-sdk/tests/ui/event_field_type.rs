use retell_sdk::prelude::*;

struct Author {
    name: String,
}

#[derive(Event)]
enum Cms {
    Created { id: String, author: Author },
    Deleted(Author),
}

fn main() {}

use retell_sdk::prelude::*;

#[derive(Event)]
enum Cms {
    ArticleCreated { id: String },
    #[event(name = "ArticleCreated")]
    Created { id: String },
}

#[derive(Event)]
enum Renamed {
    Created,
    #[event(was("Created"))]
    ArticleCreated,
}

#[derive(Event)]
enum Any {
    #[event(any)]
    One,
    #[event(any)]
    Two,
}

fn main() {}

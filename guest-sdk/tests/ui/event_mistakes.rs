use std::collections::BTreeMap;

use retell_sdk::prelude::*;

#[derive(Event)]
enum Unknown {
    #[event(nam = "ArticleCreated")]
    Created { id: String },
}

#[derive(Event)]
enum Fields {
    Created {
        #[field(defualt)]
        id: String,
    },
}

#[derive(Event)]
enum Paths {
    Created {
        #[field(path = "author..name")]
        author: String,
    },
}

#[derive(Event)]
enum JsonPaths {
    Created {
        #[field(path = "$.author")]
        author: String,
    },
}

#[derive(Event)]
enum JsonPathsOfLists {
    Created {
        #[field(was("author", "$['author']"))]
        author: String,
    },
}

#[derive(Event)]
enum DeepPaths {
    Created {
        #[field(path = "////////////////////////////////////////////////////////////////\
                        ////////////////////////////////////////////////////////////////")]
        author: String,
    },
}

#[derive(Event)]
enum Borrowed<'a> {
    Created { tags: Vec<&'a str> },
}

#[derive(Event)]
enum BorrowedDeeper<'a> {
    Created { tags: Option<BTreeMap<String, (i64, [&'a str; 2])>> },
}

#[derive(Event)]
enum Tuples {
    Created(String, String),
}

#[derive(Event)]
enum Options {
    Created {
        #[field(default = 1)]
        count: Option<i64>,
    },
}

#[derive(Event)]
enum Empty {}

fn main() {}

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

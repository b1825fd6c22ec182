use retell_sdk::prelude::*;

#[derive(Table)]
#[table(nam = "articles")]
struct Unknown {
    #[key]
    id: String,
}

#[derive(Table)]
struct Arguments {
    #[key(order = 1)]
    id: String,
}

#[derive(Table)]
#[table(key())]
struct EmptyKey {
    #[key]
    id: String,
}

#[derive(Table)]
struct Borrowed<'a> {
    #[key]
    id: &'a str,
}

#[derive(Table)]
enum NoStruct {
    A,
}

fn main() {}

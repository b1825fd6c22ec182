use retell_sdk::prelude::*;

#[derive(Event)]
struct Created {
    id: String,
}

#[derive(Table)]
struct Article {
    #[key]
    id: String,
}

#[derive(Table)]
#[table(name = "article")]
struct Other {
    #[key]
    id: String,
}

#[projection(name = "articles", version = "1.0.0", tables(Article, Other))]
fn project(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

fn main() {}

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

#[projection(name = "articles", version = "1.0.0", tables(Article))]
fn too_few(event: Created, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

#[projection(name = "articles", version = "1.0.0", tables(Article))]
fn by_value(event: Created, _: &Meta, db: Db) -> Result<()> {
    db.put(Article { id: event.id })
}

#[projection(name = "articles", version = "1.0.0", tables(Article))]
fn no_result(event: Created, _: &Meta, db: &mut Db) {}

fn main() {}

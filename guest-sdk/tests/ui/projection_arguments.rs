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

#[projection(name = "articles", version = "1.0.0", tables(Article), meta(streem))]
fn unknown_part(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

#[projection(name = "articles", version = "1.0", tables(Article))]
fn version(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

#[projection(name = "articles", version = "1.0.0")]
fn no_tables(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

#[projection(
    name = "articles",
    version = "1.0.0-a.version.that.goes.on.for.longer.than.any.version.should.go.on",
    tables(Article)
)]
fn long_version(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
    db.put(Article { id: event.id })
}

mod name {
    use super::*;

    #[projection(name = "articles_v2", version = "1.0.0", tables(Article))]
    fn name(event: Created, _: &Meta, db: &mut Db) -> Result<()> {
        db.put(Article { id: event.id })
    }
}

fn main() {}

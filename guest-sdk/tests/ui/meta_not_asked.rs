use retell_sdk::prelude::*;

#[derive(Event)]
struct Created {
    id: String,
}

#[derive(Table)]
struct Article {
    #[key]
    id: String,
    stream: String,
}

#[projection(name = "articles", version = "1.0.0", tables(Article), meta(time))]
fn project(event: Created, meta: &Meta, db: &mut Db) -> Result<()> {
    let stream = meta.stream().to_owned();
    db.put(Article { id: event.id, stream })
}

fn main() {}

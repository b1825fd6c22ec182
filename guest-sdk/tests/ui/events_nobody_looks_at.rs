use retell_sdk::prelude::*;

#[derive(Event)]
struct CreatedV1 {
    id: String,
}

#[derive(Event)]
#[event(name = "Created", from = CreatedV1)]
struct Created {
    id: String,
    title: String,
}

impl From<CreatedV1> for Created {
    fn from(old: CreatedV1) -> Self {
        Self { id: old.id, title: String::new() }
    }
}

#[derive(Event)]
enum Blog {
    Created(Created),
    Deleted { id: String },
}

#[derive(Event)]
enum Twice {
    One(CreatedV1),
    #[event(name = "One")]
    Other { id: String },
}

#[derive(Event)]
enum Older {
    #[event(from = Renamed)]
    Made { id: String },
    Deleted { id: String },
}

#[derive(Event)]
#[event(name = "Deleted")]
struct Renamed {
    id: String,
}

impl From<Renamed> for Older {
    fn from(old: Renamed) -> Self {
        Self::Made { id: old.id }
    }
}

#[derive(Event)]
enum Was {
    One(Renamed),
    Other(DeletedOnce),
}

#[derive(Event)]
#[event(was("Deleted"))]
struct DeletedOnce {
    id: String,
}

#[derive(Table)]
struct Post {
    #[key]
    id: String,
}

#[projection(name = "blog", version = "1.0.0", tables(Post))]
fn blog(_event: Blog, _meta: &Meta, _db: &mut Db) -> Result<()> {
    Ok(())
}

fn main() {}

//! Persons and nothing else: one event in fifty of the log.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market<'a> {
    Person {
        id: i64,
        name: &'a str,
        city: &'a str,
    },
}

#[derive(Table)]
pub struct Person {
    #[key]
    pub id: i64,
    pub name: String,
    pub city: String,
}

#[projection(name = "bench_sparse", version = "1.0.0", tables(Person))]
fn project(event: Market<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    let Market::Person { id, name, city } = event;
    db.put(Person {
        id,
        name: name.to_owned(),
        city: city.to_owned(),
    })
}

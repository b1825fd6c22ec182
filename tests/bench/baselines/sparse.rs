//! Persons and nothing else.

use std::borrow::Cow;

use serde::Deserialize;

use super::Ends;

pub(crate) const TABLES: &str = r#"CREATE TABLE "person" ("id" INTEGER PRIMARY KEY, "name" TEXT NOT NULL, "city" TEXT NOT NULL) STRICT"#;

#[derive(Deserialize)]
struct Person<'a> {
    id: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    city: Cow<'a, str>,
}

pub(crate) fn naive(ends: &Ends) -> anyhow::Result<()> {
    let mut upsert = ends.model.prepare(
        "INSERT INTO person VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, city = excluded.city",
    )?;
    ends.in_steps(|step| {
        ends.each("Person", |payload| {
            let person: Person<'_> = serde_json::from_slice(payload)?;
            upsert.execute((person.id, &*person.name, &*person.city))?;
            Ok(step()?)
        })
    })
}

//! Fields that are declared to be keys: their rows come all at once, and nothing else changes.

use retell_contract::{Column, TextColumn, Values};
use retell_sdk::__private::{Batch, ChangeSet, Host, PackedRows};
use retell_sdk::Projection as _;
use retell_sdk::prelude::*;
use retell_sdk::testing::{event, given};
use serde_json::json;

/// The same projection twice: with the keys declared, and without.
macro_rules! likes {
    ($module:ident $(, $keys:tt)?) => {
        mod $module {
            use super::*;

            #[derive(Event)]
            enum Social {
                Liked { article: i64, by: Option<String> },
                Renamed { article: i64, title: String },
            }

            #[derive(Table)]
            pub(super) struct Article {
                #[key]
                pub id: i64,
                pub title: String,
                pub likes: i64,
            }

            #[derive(Table)]
            pub(super) struct Person {
                #[key]
                pub name: String,
                pub likes: i64,
            }

            #[projection(
                name = "likes",
                version = "1.0.0",
                tables(Article, Person),
                $(keys $keys)?
            )]
            fn project(event: Social, _: &Meta, db: &mut Db) -> Result<()> {
                let article = |id| Article { id, title: String::new(), likes: 0 };
                match event {
                    Social::Renamed { article: id, title } => {
                        db.update_or_insert::<Article>(id, || article(id), |it| it.title = title)
                    }
                    Social::Liked { article: id, by } => {
                        db.update_or_insert::<Article>(id, || article(id), |it| it.likes += 1)?;
                        let Some(name) = by else { return Ok(()) };
                        let person = || Person { name: name.clone(), likes: 0 };
                        db.update_or_insert::<Person>(&name, person, |it| it.likes += 1)
                    }
                }
            }
        }
    };
}

likes!(declared, (article = Article, by = Person));
likes!(plain);

/// Answers with rows of its own, and notes what it is asked for.
#[derive(Default)]
struct Asked(Vec<(u16, usize)>);

impl Host for Asked {
    fn get_many(&mut self, table: u16, _: &[u8], key_ends: &[u32]) -> PackedRows {
        self.0.push((table, key_ends.len()));
        PackedRows {
            row_ends: vec![0; key_ends.len()],
            rows: Vec::new(),
        }
    }

    fn scan(&mut self, _: u16, _: u16, _: &[u8], _: Option<&[u8]>, _: u32) -> PackedRows {
        panic!("nothing is scanned")
    }

    fn stage(&mut self, _: ChangeSet) {
        panic!("nothing is staged")
    }

    fn log(&mut self, _: u8, message: &str) {
        panic!("{message}")
    }
}

fn column(values: Values, present: Option<Vec<u8>>) -> retell_sdk::__private::Cells {
    let null = None;
    Column {
        values,
        present,
        null,
    }
    .into()
}

/// Likes of 1, 2, 1 and 3 by a, nobody, b and a, then a new title for 2.
fn batch() -> Batch {
    let mut by = TextColumn::default();
    for name in ["a", "", "b", "a"] {
        by.push(name);
    }
    let mut title = TextColumn::default();
    title.push("New");
    Batch {
        positions: vec![1, 2, 3, 4, 5],
        shapes: vec![0, 0, 0, 0, 1],
        blocks: vec![
            vec![
                column(Values::Integers(vec![1, 2, 1, 3]), None),
                column(Values::Texts(by), Some(vec![0b1101])),
            ],
            vec![
                column(Values::Integers(vec![2]), None),
                column(Values::Texts(title), None),
            ],
        ],
        ..Batch::default()
    }
}

#[test]
fn rows_of_declared_keys_are_asked_for_once_a_batch() {
    let mut asked = Asked::default();
    let changes = declared::Projection::apply(&batch(), &mut asked).expect("applies");
    assert_eq!(asked.0, [(0, 3), (1, 2)]);
    let mut one_by_one = Asked::default();
    let same = plain::Projection::apply(&batch(), &mut one_by_one).expect("applies");
    assert_eq!(one_by_one.0.len(), 5);
    let rows = |changes: ChangeSet| {
        let mut rows: Vec<_> = (0..changes.events.len())
            .map(|at| {
                let part = |ends: &[u32], bytes: &[u8]| {
                    let start = if at == 0 { 0 } else { ends[at - 1] };
                    bytes[start as usize..ends[at] as usize].to_vec()
                };
                (
                    changes.tables[at],
                    part(&changes.key_ends, &changes.keys),
                    part(&changes.row_ends, &changes.rows),
                )
            })
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(changes), rows(same));
}

#[test]
fn declared_keys_change_no_result() {
    let events = || {
        (0..60_i64).map(|n| match n % 5 {
            0 => event("Renamed", json!({"article": n % 7, "title": n.to_string()})),
            1 => event("Liked", json!({"article": n % 4, "by": null})),
            _ => event(
                "Liked",
                json!({"article": n % 9, "by": format!("p{}", n % 3)}),
            ),
        })
    };
    let with = given::<declared::Projection>(events());
    let without = given::<plain::Projection>(events());
    let articles = with.rows::<declared::Article>().into_iter();
    let articles: Vec<_> = articles.map(|it| (it.id, it.title, it.likes)).collect();
    let same = without.rows::<plain::Article>().into_iter();
    assert!(same.map(|it| (it.id, it.title, it.likes)).eq(articles));
    let people = with.rows::<declared::Person>().into_iter();
    let people: Vec<_> = people.map(|it| (it.name, it.likes)).collect();
    let same = without.rows::<plain::Person>().into_iter();
    assert!(same.map(|it| (it.name, it.likes)).eq(people));
}

mod elsewhere {
    use super::*;

    #[derive(Event)]
    struct Moved {
        from: i64,
        to: i64,
    }

    #[derive(Table)]
    pub(super) struct Shelf {
        #[key]
        pub id: i64,
        pub left: i64,
        pub came: i64,
    }

    #[projection(name = "shelves", version = "1.0.0", tables(Shelf), keys(from = Shelf))]
    fn project(moved: Moved, _: &Meta, db: &mut Db) -> Result<()> {
        let shelf = |id| {
            move || Shelf {
                id,
                left: 0,
                came: 0,
            }
        };
        let (from, to) = (moved.from, moved.to);
        db.update_or_insert::<Shelf>(to, shelf(to), |it| it.came += 1)?;
        db.update_or_insert::<Shelf>(from, shelf(from), |it| it.left += 1)
    }
}

#[test]
fn an_event_may_ask_for_other_keys_than_it_declares() {
    let moves: Vec<(i64, i64)> = (0..60).map(|n| (n % 7, n % 5 + 4)).collect();
    let events = moves.iter();
    let events = events.map(|(from, to)| event("Moved", json!({"from": from, "to": to})));
    let model = given::<elsewhere::Projection>(events);
    for shelf in model.rows::<elsewhere::Shelf>() {
        let left = moves.iter().map(|it| i64::from(it.0 == shelf.id)).sum();
        let came = moves.iter().map(|it| i64::from(it.1 == shelf.id)).sum();
        assert_eq!((shelf.left, shelf.came), (left, came), "shelf {}", shelf.id);
    }
    assert_eq!(model.rows::<elsewhere::Shelf>().len(), 9);
}

#[test]
fn hints_are_in_the_manifest() {
    let hints = declared::Projection::manifest().hints;
    let hints: Vec<_> = hints
        .iter()
        .map(|hint| (hint.shape, hint.fields.as_slice(), hint.table))
        .collect();
    let (first, second): (&[u16], &[u16]) = (&[0], &[1]);
    assert_eq!(hints, [(0, first, 0), (1, first, 0), (0, second, 1)]);
    assert!(plain::Projection::manifest().hints.is_empty());
}

mod mistaken {
    use super::*;

    #[derive(Event)]
    struct Liked {
        #[allow(dead_code, reason = "it is of the wrong type")]
        article: String,
    }

    #[derive(Table)]
    struct Article {
        #[key]
        id: i64,
    }

    #[projection(name = "likes", version = "1.0.0", tables(Article), keys(article = Article))]
    fn project(_: Liked, _: &Meta, db: &mut Db) -> Result<()> {
        db.put(Article { id: 1 })
    }
}

#[test]
#[should_panic(
    expected = "no event has a field `article` of the type of the key of table `article`"
)]
fn a_field_of_another_type_than_the_key_is_refused() {
    mistaken::Projection::manifest();
}

mod elsewhere_in_the_payload {
    use super::*;

    #[derive(Event)]
    enum Written {
        Article {
            #[field(path = "author.id")]
            author: i64,
            #[field(path = "author")]
            whole: Json,
        },
        Comment {
            #[field(was("writer"))]
            author: i64,
        },
    }

    #[derive(Table)]
    struct Author {
        #[key]
        id: i64,
    }

    #[projection(name = "authors", version = "1.0.0", tables(Author), keys(author = Author))]
    fn project(event: Written, _: &Meta, db: &mut Db) -> Result<()> {
        let id = match event {
            Written::Article { author, whole } => {
                ensure!(whole != Json::default(), "no author");
                author
            }
            Written::Comment { author } => author,
        };
        db.put(Author { id })
    }
}

#[test]
fn a_key_is_known_by_the_name_of_its_field_wherever_it_is_in_the_payload() {
    let manifest = elsewhere_in_the_payload::Projection::manifest();
    let hints = manifest.hints.iter();
    let hints: Vec<_> = hints.map(|hint| (hint.shape, hint.fields[0])).collect();
    assert_eq!(hints, [(0, 0), (1, 0)]);
    assert_eq!(manifest.shapes[0].fields[0].paths, ["author.id"]);
}

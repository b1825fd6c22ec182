//! A projection that works until an event tells it to misbehave.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Notes<'a> {
    NoteAdded {
        id: &'a str,
        title: &'a str,
        stars: i64,
    },
    /// `panic`, `refuse`, `loop`, `recurse`, `hoard`, `needs ID`: refuse while that note is missing, or
    /// `outgrows ID`: refuse while it is missing, and then never end.
    Misbehaved { how: &'a str },
}

#[derive(Table, Clone)]
struct Note {
    #[key]
    id: String,
    title: String,
    stars: i64,
}

#[projection(name = "notes", version = "1.0.0", tables(Note))]
fn project(event: Notes<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Notes::NoteAdded { id, title, stars } => db.put(Note {
            id: id.to_owned(),
            title: title.to_owned(),
            stars,
        }),
        Notes::Misbehaved { how } => match how.split_once(' ') {
            Some(("needs", id)) => need(id, db),
            Some(("outgrows", id)) => need(id, db).and_then(|()| misbehave("loop")),
            _ => misbehave(how),
        },
    }
}

/// Gives the note one star more.
fn need(id: &str, db: &mut Db) -> Result<()> {
    let Some(mut note) = db.get::<Note>(id)?.cloned() else {
        bail!("there is no note {id}");
    };
    note.stars += 1;
    db.put(note)
}

fn misbehave(how: &str) -> Result<()> {
    match how {
        "panic" => panic!("this note is torn"),
        "loop" => loop {
            std::hint::black_box(how);
        },
        "recurse" => {
            std::hint::black_box(dig(1));
            Ok(())
        }
        "hoard" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        _ => bail!("a note can't {how}"),
    }
}

fn dig(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if frame[0] == 0 {
        return 0;
    }
    std::hint::black_box(dig(depth + 1)) + frame[1]
}

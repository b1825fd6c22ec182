//! Generates the events of a social site: authors, articles, comments and likes. The same seed gives
//! the same bytes. Now and then an event refers to an article that was deleted since, or to an author
//! who registers later, as in real logs.

use std::io::{Result, Write};

use retell_contract::time::format_rfc3339;
use serde::Serialize;
use serde_json::{Value, json};

/// The first event's time: 2024-01-01T00:00:00Z, in microseconds.
const EPOCH: i64 = 1_704_067_200_000_000;

const WORDS: [&str; 40] = [
    "analytical",
    "bridge",
    "cloud",
    "delta",
    "engine",
    "forest",
    "garden",
    "harbour",
    "island",
    "journey",
    "kettle",
    "lantern",
    "meadow",
    "notes",
    "ocean",
    "paper",
    "quiet",
    "river",
    "stone",
    "tide",
    "under",
    "valley",
    "winter",
    "year",
    "zenith",
    "amber",
    "border",
    "candle",
    "distant",
    "early",
    "field",
    "glass",
    "hidden",
    "iron",
    "jade",
    "kind",
    "light",
    "morning",
    "north",
    "open",
];

const NAMES: [&str; 16] = [
    "Ada", "Björn", "Chloé", "Dmitri", "Esra", "Farah", "Grace", "Hedy", "Ines", "Jürgen", "Kenji",
    "Linus", "Mary", "Niklaus", "Olga", "Radia",
];

#[derive(Debug, Serialize)]
struct Line {
    stream: String,
    r#type: &'static str,
    id: String,
    occurred_at: String,
    data: Value,
}

/// A site in the making.
#[derive(Debug)]
struct Site {
    random: Random,
    authors: u64,
    articles: u64,
    comments: u64,
}

/// Writes `events` events as NDJSON.
pub(crate) fn write_events(events: u64, seed: u64, out: &mut impl Write) -> Result<()> {
    let mut site = Site {
        random: Random(seed),
        authors: 0,
        articles: 0,
        comments: 0,
    };
    let mut now = EPOCH;
    for number in 1..=events {
        now += site.random.below(120_000_000).cast_signed();
        let (stream, kind, data) = site.next_event();
        let line = Line {
            stream,
            r#type: kind,
            id: format!("content-{seed}-{number}"),
            occurred_at: format_rfc3339(now),
            data,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl Site {
    fn next_event(&mut self) -> (String, &'static str, Value) {
        if self.authors < 3 {
            return self.author_registered();
        }
        if self.articles < 3 {
            return self.article_created();
        }
        match self.random.below(1000) {
            0..20 => self.author_registered(),
            20..30 => self.author_renamed(),
            30..180 => self.article_created(),
            180..230 => {
                let (id, title) = (self.article(), self.title());
                let data = json!({ "id": id, "title": title });
                (id, "ArticleTitleChanged", data)
            }
            230..310 => {
                let (id, body) = (self.article(), self.text(30));
                let data = json!({ "id": id, "body": body });
                (id, "ArticleBodyChanged", data)
            }
            310..330 => {
                let id = self.article();
                let data = json!({ "id": id });
                (id, "ArticleDeleted", data)
            }
            330..580 => self.comment_posted(),
            580..600 => self.comment_removed(),
            _ => {
                let (article, author) = (self.article(), self.author());
                let data = json!({ "article": article, "author": author });
                (article, "ArticleLiked", data)
            }
        }
    }

    fn author_registered(&mut self) -> (String, &'static str, Value) {
        self.authors += 1;
        let id = format!("author-{}", self.authors);
        let data = json!({ "id": id, "name": self.name() });
        (id, "AuthorRegistered", data)
    }

    fn author_renamed(&mut self) -> (String, &'static str, Value) {
        let id = self.author();
        let data = json!({ "id": id, "name": self.name() });
        (id, "AuthorRenamed", data)
    }

    fn article_created(&mut self) -> (String, &'static str, Value) {
        self.articles += 1;
        let id = format!("article-{}", self.articles);
        let data = json!({
            "id": id,
            "title": self.title(),
            "body": self.text(40),
            "author": self.author(),
        });
        (id, "ArticleCreated", data)
    }

    fn comment_posted(&mut self) -> (String, &'static str, Value) {
        self.comments += 1;
        let id = format!("comment-{}", self.comments);
        let article = self.article();
        let data = json!({
            "id": id,
            "article": article,
            "author": self.author(),
            "text": self.text(12),
        });
        (article, "CommentPosted", data)
    }

    fn comment_removed(&mut self) -> (String, &'static str, Value) {
        let number = 1 + self.random.below(self.comments.max(1));
        let id = format!("comment-{number}");
        let data = json!({ "id": id });
        (id, "CommentRemoved", data)
    }

    /// Some write and are liked much more than others: the smaller of two picks.
    fn article(&mut self) -> String {
        let pick = self.random.below(self.articles);
        format!("article-{}", 1 + pick.min(self.random.below(self.articles)))
    }

    /// A few write before they register.
    fn author(&mut self) -> String {
        let limit = self.authors + 5;
        let pick = self.random.below(limit);
        format!("author-{}", 1 + pick.min(self.random.below(limit)))
    }

    fn name(&mut self) -> String {
        let first = self.random.pick(&NAMES);
        let last = self.random.pick(&WORDS);
        let (initial, rest) = last.split_at(1);
        format!("{first} {}{rest}", initial.to_uppercase())
    }

    fn title(&mut self) -> String {
        let count = 2 + self.random.below(4);
        self.text(count)
    }

    fn text(&mut self, words: u64) -> String {
        let words: Vec<&str> = (0..words).map(|_| self.random.pick(&WORDS)).collect();
        words.join(" ")
    }
}

/// SplitMix64: small, and the same on every machine and for ever, which a crate's generator need not be.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform enough for made-up content.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.next() % from.len() as u64;
        from[usize::try_from(index).unwrap_or(0)]
    }
}

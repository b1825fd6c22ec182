//! Prints generated events of a social site as NDJSON, for `retell append -`.
//!
//! ```text
//! cargo run --example generate_content -- 100000 > events.ndjson
//! cargo run --example generate_content -- 100000 7      # another seed, another site
//! ```

#[path = "demo/content.rs"]
mod content;

use std::io::BufWriter;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| -> Result<u64> {
        arguments.next().map_or(Ok(default), |text| {
            text.parse()
                .with_context(|| format!("usage: generate_content [EVENTS [SEED]]; got {text:?}"))
        })
    };
    let (events, seed) = (number(100_000)?, number(1)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    content::write_events(events, seed, &mut out)?;
    Ok(())
}

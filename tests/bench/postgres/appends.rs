//! Appends from many callers at once, beside what the same server does without a host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use retell::event::NewEvent;
use retell::log::{AppendRequest, EventLog as _};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::Server;
use crate::appending::APPENDERS;
use crate::events;
use crate::run::{Bench, Times};

/// One event from each caller, who waits for it before the next: through a host, with `retell.append`
/// in a transaction each, and as plain inserts that take their numbers from a sequence. Times for one
/// event.
pub(crate) fn appends(server: &Server, bench: &Bench, each: usize) -> anyhow::Result<[Times; 3]> {
    let mut times = [
        Times::new("64 callers of a host"),
        Times::new("one transaction each, same lock"),
        Times::new("plain inserts, a sequence"),
    ];
    server.psql(
        "CREATE TABLE IF NOT EXISTS public.plain_events (position bigserial PRIMARY KEY,
             stream text NOT NULL, type text NOT NULL, occurred_at timestamptz,
             recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), payload json);
         CREATE INDEX IF NOT EXISTS plain_type ON public.plain_events (type, position);
         CREATE INDEX IF NOT EXISTS plain_stream ON public.plain_events (stream)",
    );
    let total = APPENDERS * each;
    let events: Vec<NewEvent> = events::events(total as u64).take(total).collect();
    for _ in 0..bench.repetitions {
        let head = || bench.runtime.block_on(server.log.head());
        let before = head()?.position;
        times[0].add_share(
            bench.runtime.block_on(through_a_host(server, &events))?,
            total as u64,
        );
        ensure!(
            head()?.position == before + total as u64,
            "events are missing"
        );
        for (times, sql) in times[1..].iter_mut().zip([
            "SELECT retell.append($1, $2, $3::json)",
            "INSERT INTO public.plain_events (stream, type, payload) VALUES ($1, $2, $3::json)",
        ]) {
            let took = bench.runtime.block_on(one_each(server, &events, sql))?;
            times.add_share(took, total as u64);
        }
        ensure!(
            head()?.position == before + 2 * total as u64,
            "events are missing"
        );
    }
    Ok(times)
}

async fn through_a_host(server: &Server, events: &[NewEvent]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for share in events.chunks(events.len() / APPENDERS) {
        let (log, share) = (server.log.clone(), share.to_vec());
        callers.spawn(async move {
            for event in share {
                let request = AppendRequest {
                    events: vec![event],
                    expected: Vec::new(),
                };
                log.append(request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

/// Each caller has a connection, and each event a transaction.
async fn one_each(
    server: &Server,
    events: &[NewEvent],
    sql: &'static str,
) -> anyhow::Result<Duration> {
    let mut connections = Vec::with_capacity(APPENDERS);
    for _ in 0..APPENDERS {
        connections.push(server.connect().await?);
    }
    let events = Arc::new(events.to_vec());
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let events = events.clone();
        callers.spawn(async move {
            let mut connection: PgConnection = connection;
            let each = events.len() / APPENDERS;
            for event in &events[number * each..(number + 1) * each] {
                sqlx::query(sql)
                    .bind(&event.stream)
                    .bind(&event.event_type)
                    .bind(&event.data)
                    .execute(&mut connection)
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

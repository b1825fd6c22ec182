//! The one way into the tables: a session that appends, transaction by transaction.

use std::thread;

use sqlx::{Executor as _, PgConnection, Row};

use super::Place;
use super::adding::{Adding, Request, Revisions};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::event::{Hash, Position};
use crate::limits::{LOG_BUSY_TIMEOUT, POSTGRES_RETRY_PAUSE};
use crate::log::group_commit::Answer;
use crate::log::ids::EventIds;
use crate::log::{Head, LogError};
use crate::postgres::{Failure, ServerError, Session, Timestamp, failure};

/// Appends; between [`begin`](Self::begin) and [`commit`](Self::commit) nobody else can.
pub(super) struct Writer {
    place: Place,
    session: Option<Session>,
    ids: EventIds,
    revisions: Revisions,
    open: Option<Tail>,
    /// How the last transaction left the log: a guess at how it is.
    last: Option<Tail>,
}

/// The end of the log as the transaction sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    /// Where the head was when the transaction began.
    pub(super) began: Position,
    pub(super) head: Head,
    /// Of every event of this transaction: the clock, but never less than the last event's.
    pub(super) recorded_at: i64,
    /// More than events is written.
    pub(super) has_more: bool,
}

impl Writer {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            session: None,
            ids: EventIds::default(),
            revisions: Revisions::default(),
            open: None,
            last: None,
        }
    }

    /// Takes the log for itself, waiting for others, and looks where it ends.
    pub(super) fn begin(&mut self, now_us: i64) -> Result<(), LogError> {
        let had_session = self.session.is_some();
        let begun = match self.try_begin() {
            // The server was restarted, or the connection was idle for too long. Nothing of this
            // transaction has happened yet.
            Err(error) if had_session && failure(&error) == Failure::Connection => {
                self.session = None;
                self.try_begin()
            }
            begun => begun,
        };
        let (head, recorded_at) = begun.map_err(|error| {
            self.rollback();
            self.place.explain("waiting for the log", error)
        })?;
        self.revisions.begin(head.hash);
        self.open = Some(Tail {
            began: head.position,
            head,
            recorded_at: recorded_at.max(now_us),
            has_more: false,
        });
        Ok(())
    }

    fn try_begin(&mut self) -> Result<(Head, i64), sqlx::Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(&self.place.url)?),
        };
        session.run(async |connection| {
            connection.execute("BEGIN").await?;
            lock_head(connection).await
        })
    }

    /// Writes something else in the open transaction.
    pub(super) fn step<T>(
        &mut self,
        doing: &'static str,
        run: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LogError> {
        self.open
            .as_mut()
            .expect("a transaction was begun")
            .has_more = true;
        let session = self.session.as_mut().expect("a transaction was begun");
        let place = &self.place;
        session
            .run(run)
            .map_err(|error| place.explain(doing, error))
    }

    /// What adds events to the transaction.
    pub(super) fn adding(&mut self) -> Adding<'_> {
        Adding {
            session: self.session.as_mut().expect("a transaction was begun"),
            place: &self.place,
            tail: self.open.as_mut().expect("a transaction was begun"),
            revisions: &mut self.revisions,
            ids: &mut self.ids,
        }
    }

    /// Durable when it returns. Gives the head's position.
    pub(super) fn commit(&mut self) -> Result<Position, LogError> {
        let tail = self.open.take().expect("a transaction was begun");
        let session = self.session.as_mut().expect("a transaction was begun");
        crash_point::reach(CrashPoint::LogWritten);
        let committed = session.run(async |connection| connection.execute("COMMIT").await);
        if let Err(error) = committed {
            self.session = None;
            self.revisions.forget();
            if failure(&error) != Failure::Connection {
                return Err(self.place.explain("committing", error));
            }
            self.find_out(&tail, error)?;
        }
        Ok(self.committed(tail))
    }

    fn committed(&mut self, tail: Tail) -> Position {
        crash_point::reach(CrashPoint::LogCommitted);
        self.revisions.committed(tail.head.hash);
        self.last = Some(tail);
        tail.head.position
    }

    /// Answers requests with one statement in place of a transaction, where nobody else appended since
    /// the last one: it saves most of the round trips. None: it has to be a transaction. With the
    /// answers comes the head's position.
    pub(super) fn append_at_once(
        &mut self,
        now_us: i64,
        requests: &[Request<'_>],
    ) -> Result<Option<(Vec<Answer>, Position)>, LogError> {
        let Some(last) = self.last.take().filter(|_| self.session.is_some()) else {
            return Ok(None);
        };
        self.revisions.begin(last.head.hash);
        self.open = Some(Tail {
            began: last.head.position,
            head: last.head,
            recorded_at: last.recorded_at.max(now_us),
            has_more: false,
        });
        let answered = self.adding().answer_at_once(requests);
        let tail = self.open.take().expect("it was set above");
        match answered {
            Ok((answers, Ok(true))) => return Ok(Some((answers, self.committed(tail)))),
            Ok((answers, Err(error))) if failure(&error) == Failure::Connection => {
                self.session = None;
                match self.find_out(&tail, error) {
                    Ok(()) => return Ok(Some((answers, self.committed(tail)))),
                    Err(error @ LogError::CommitUnknown { .. }) => return Err(error),
                    Err(_) => {}
                }
            }
            Err(error) if failure(&error) == Failure::Connection => self.session = None,
            // Somebody else appended, or took an id; or all was there already, which must be looked
            // at once more while nobody can append.
            Ok((_, Ok(false) | Err(_))) | Err(_) => {}
        }
        self.revisions.forget();
        Ok(None)
    }

    /// The connection broke while a commit was on its way. Whoever gets the head's lock sees how it
    /// ended: the hash at the position is this transaction's, or is not. Without an event there is no
    /// telling.
    fn find_out(&mut self, tail: &Tail, broken: sqlx::Error) -> Result<(), LogError> {
        let began = Stopwatch::start();
        let found = loop {
            match self.hash_under_lock(tail.head.position) {
                Ok(found) => break found,
                Err(_) if began.elapsed() >= LOG_BUSY_TIMEOUT => {
                    return Err(self.unknown(broken));
                }
                Err(_) => thread::sleep(POSTGRES_RETRY_PAUSE),
            }
        };
        if tail.head.position == tail.began {
            return if tail.has_more {
                Err(self.unknown(broken))
            } else {
                Ok(())
            };
        }
        if found == Some(tail.head.hash) {
            return Ok(());
        }
        Err(self.place.explain("committing", broken))
    }

    fn unknown(&self, broken: sqlx::Error) -> LogError {
        LogError::CommitUnknown {
            log: self.place.name.clone(),
            source: ServerError::from(broken).into(),
        }
    }

    fn hash_under_lock(&mut self, position: Position) -> Result<Option<Hash>, sqlx::Error> {
        let mut session = Session::open(&self.place.url)?;
        let found = session.run(async |connection| {
            connection.execute("BEGIN").await?;
            lock_head(connection).await?;
            let found = sqlx::query_scalar("SELECT hash FROM retell.events WHERE position = $1")
                .bind(position.cast_signed())
                .fetch_optional(&mut *connection)
                .await?;
            connection.execute("ROLLBACK").await?;
            Ok(found)
        })?;
        self.session = Some(session);
        Ok(found)
    }

    /// Forgets the transaction; harmless without one.
    pub(super) fn rollback(&mut self) {
        self.open = None;
        self.revisions.forget();
        if let Some(session) = &mut self.session
            && session
                .run(async |connection| connection.execute("ROLLBACK").await)
                .is_err()
        {
            self.session = None;
        }
    }
}

/// Locks the head for this transaction.
async fn lock_head(connection: &mut PgConnection) -> Result<(Head, i64), sqlx::Error> {
    let row = sqlx::query("SELECT position, hash, recorded_at FROM retell.lock_head()")
        .fetch_one(connection)
        .await?;
    let head = Head {
        position: row.try_get::<i64, _>(0)?.cast_unsigned(),
        hash: row.try_get(1)?,
    };
    Ok((head, row.try_get::<Timestamp, _>(2)?.0))
}

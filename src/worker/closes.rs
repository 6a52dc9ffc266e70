//! The record of a close: made once for each connection that was open, when the application is told
//! of its end.
//!
//! What is asked of the kernel for it (address, round trip) is asked only if somebody will see it.

use crate::close_record::{CloseRecord, CloseRing};
use crate::conn::Close;
use crate::conn_info::ConnId;
use crate::io::{Driver, Token};
use crate::legible::legible;
use crate::policy::{LogRate, Tick};
use crate::pubsub::ClosesListing;

use super::{Application, Worker};

/// What a worker keeps of connections that have ended, and how it logs them.
#[derive(Debug)]
pub(super) struct Closes {
    ring: CloseRing,
    rate: LogRate,
    /// Not logged since the last line, because there were too many.
    unlogged_count: u64,
}

impl Closes {
    pub(super) fn new(records_max: usize) -> Self {
        Self { ring: CloseRing::new(records_max), rate: LogRate::new(Tick(0)), unlogged_count: 0 }
    }

    /// The newest records, newest first.
    pub(super) fn newest(&self, records_max: usize) -> Vec<CloseRecord> {
        self.ring.newest(records_max)
    }
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// Counts, keeps and logs the end of a connection that was open. Call it exactly once for each,
    /// while its socket is still there.
    pub(super) fn record_close(&mut self, token: Token, close: &Close) {
        let metrics = &self.core.metrics;
        metrics.closed.add(1);
        metrics.count_close(close.by().name(), close.code().as_u16(), close.cause().name());
        if self.core.taps.is_some() {
            self.tap_ended(token, close);
        }
        let is_logged = self.admit_close_line();
        if !self.closes.ring.keeps() && !is_logged {
            return;
        }
        let Some(record) = self.close_record(token, close) else { return };
        if is_logged {
            log(&record, std::mem::take(&mut self.closes.unlogged_count));
        }
        self.closes.ring.push(record);
    }

    /// Tells of the newest closes.
    pub(super) fn list_closes(&self, listing: &ClosesListing) {
        // Whoever has asked may have stopped waiting.
        let _ = listing.answer.send(self.closes.newest(listing.records_max));
    }

    /// Whether there is to be a line for this close; peers choose how many there are (row R8).
    fn admit_close_line(&mut self) -> bool {
        if !tracing::enabled!(target: "closes", tracing::Level::DEBUG) {
            return false;
        }
        let has_room = self.closes.rate.take(self.core.now);
        self.closes.unlogged_count += u64::from(!has_room);
        has_room
    }

    fn close_record(&self, token: Token, close: &Close) -> Option<CloseRecord> {
        let entry = self.table.get(token.index as usize)?;
        let connection = &entry.connection;
        let core = self.topics.core();
        Some(CloseRecord {
            id: ConnId::new(core, token),
            core,
            client_addr: self.client_addr(token),
            at: self.clock.now(),
            age: self.core.now.elapsed().saturating_sub(connection.since().elapsed()),
            by: close.by(),
            code: close.code(),
            cause: close.cause(),
            os_error: close.os_error(),
            queued_bytes: connection.queued_bytes(),
            round_trip: self.driver.round_trip(token),
            reason: legible(close.reason()),
        })
    }
}

/// A line for those who have asked for it by the target `closes`.
fn log(record: &CloseRecord, unlogged_count: u64) {
    tracing::debug!(
        target: "closes",
        conn = %record.id,
        core = record.core,
        address = record.client_addr.map(tracing::field::display),
        by = record.by.name(),
        code = record.code.as_u16(),
        cause = record.cause.name(),
        detail = %record.cause,
        errno = record.os_error,
        queued_bytes = record.queued_bytes,
        round_trip_seconds = record.round_trip.map(|span| span.as_secs_f64()),
        age_seconds = record.age.as_secs_f64(),
        reason = record.reason,
        unlogged_count,
        "closed"
    );
}

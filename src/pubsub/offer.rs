//! Where a topic and a connection meet: what a subscriber is offered, and what it takes.
//!
//! Nearly all take the frames that all others are sent. A connection that needs frames of its own,
//! because it masks them or compresses with what it has sent before, is given message by message.

use crate::conn::{Connection, Core, Phase, SharedForm};
use crate::tap::Shown;

use super::log::Share;

/// What is asked of a connection.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) share: Share<'a>,
    /// Only if everything before it has left already.
    pub(crate) only_if_idle: bool,
}

/// What has become of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is queued.
    Queued,
    /// There was room for so many of its first messages, and no more; the others are lost.
    Refused { taken: usize },
    /// The connection is to be asked again when what is before it has left.
    Later,
    /// The connection is not open any more.
    Gone,
}

impl Offer<'_> {
    /// Queues the messages for a connection, if it takes them.
    pub(crate) fn make(self, connection: &mut Connection, core: &mut Core) -> Taken {
        let Self { mut share, only_if_idle } = self;
        if connection.phase() != Phase::Open {
            return Taken::Gone;
        }
        if only_if_idle && connection.queued_bytes() > 0 {
            return Taken::Later;
        }
        if connection.check_room(share.len(), core).is_err() {
            return Taken::Refused { taken: 0 };
        }
        let Some(form) = connection.shared_form() else {
            return make_one_by_one(share, connection, core);
        };
        if form == SharedForm::Deflated {
            share.deflate(|payload, out| {
                let compressed = connection.compress_shared(payload, core);
                out.extend_from_slice(compressed.unwrap_or_default());
                compressed.is_some()
            });
        }
        core.metrics.count_sent(share.len(), share.payload_bytes());
        if core.taps.is_some() {
            share.each_message(|publication| {
                let shown = Shown::sent(publication.kind.opcode(), &publication.payload);
                connection.show(&shown, core);
            });
        }
        share.each_run(form, |memory, range| connection.push_shared(memory, range, core));
        Taken::Queued
    }
}

fn make_one_by_one(mut share: Share<'_>, connection: &mut Connection, core: &mut Core) -> Taken {
    let (len, mut taken, mut is_full) = (share.len(), 0, false);
    share.each_message(|publication| {
        is_full = is_full || connection.check_room(len - taken, core).is_err();
        if !is_full {
            connection.push_message(publication.kind, &publication.payload, core);
            taken += 1;
        }
    });
    if is_full { Taken::Refused { taken } } else { Taken::Queued }
}

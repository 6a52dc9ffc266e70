//! A connection over TLS: what it does more than one over plain TCP.
//!
//! Received bytes are records here. They are opened, mostly where they were received, and the
//! plaintext goes the way of all that is received; what is queued is sealed on its way out. All else
//! is as without TLS.

use crate::buf::{Block, Segment};
use crate::policy::Ticks;
use crate::proto::Role;

use super::tls::{Opened, Plaintext, Tls};
use super::{Close, CloseCause, ConnectError, Connection, Core, Input, Phase, Side};

impl Connection {
    /// Speaks TLS from the first byte on. Call it before anything is received.
    pub(crate) fn secure(&mut self, tls: Tls, core: &mut Core) {
        let timeouts = &core.limits.timeouts;
        core.attached_bytes += tls.own_bytes();
        self.extras_mut().tls = Some(tls);
        self.deadline = core.now.after(timeouts.tls_handshake.min(timeouts.handshake));
    }

    /// Whether received bytes are TLS records.
    pub(crate) fn is_secure(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.tls.is_some())
    }

    /// Whether the TLS handshake is still under way.
    pub(crate) fn is_tls_handshaking(&self) -> bool {
        self.tls().is_some_and(|tls| tls.is_handshaking())
    }

    /// The next plaintext in the received records. Call it until there is none; then all of the
    /// input is dealt with. Plaintext that lies in `records` is the last that does: deal with it
    /// there, and go on with no input.
    pub(crate) fn poll_plaintext(
        &mut self,
        records: &mut Block,
        input: &mut Input,
        core: &mut Core,
    ) -> Option<Plaintext> {
        let tls = self.extras.as_mut()?.tls.as_mut()?;
        match self.phase {
            Phase::Handshake | Phase::Open | Phase::Closing => {}
            Phase::Draining | Phase::Lingering | Phase::Ended => {
                self.skip_rest(input);
                return None;
            }
        }
        if input.is_empty() && !tls.has_more() {
            return None;
        }
        let handshaking = tls.is_handshaking();
        let mut output = Vec::new();
        let start = input.start();
        let rest = input.rest_mut(records.bytes_mut());
        core.attached_bytes -= tls.own_bytes();
        let (taken, plaintext, opened) = tls.open(rest, &mut core.pool, &mut output);
        core.attached_bytes += tls.own_bytes();
        let handshaken = handshaking && !tls.is_handshaking();
        input.advance(taken);
        if !output.is_empty() {
            self.outbox_mut(&mut core.outboxes).push_sealed(&output, &mut core.pool);
        }
        if handshaken {
            self.extend_handshake(core);
        }
        if let Some(plaintext) = plaintext {
            // What else there was is told again by the next call.
            return Some(plaintext.behind(start));
        }
        match opened {
            Opened::All | Opened::Full => {}
            Opened::PeerClosed => self.handle_peer_closed(core),
            Opened::Failed => self.fail_tls(core),
        }
        None
    }

    /// Seals what is next to be sent. `None` if nothing can be sent at present.
    pub(super) fn seal_next(&mut self, core: &mut Core) -> Option<()> {
        let tls = self.extras.as_mut()?.tls.as_mut()?;
        let outbox = self.outbox.as_mut()?;
        let mut output = Vec::new();
        outbox.seal_next(tls, &mut output, &mut core.pool);
        if !output.is_empty() {
            outbox.push_sealed_first(&output, &mut core.pool);
        }
        outbox.is_sealed().then_some(())
    }

    /// Our side has nothing more to say: TLS ends before TCP does (row TL09).
    pub(super) fn take_close_notify(&mut self, core: &mut Core) -> Option<(Segment, bool)> {
        let mut output = Vec::new();
        self.extras.as_mut()?.tls.as_mut()?.close(&mut output);
        if output.is_empty() {
            return None;
        }
        let outbox = self.outbox_mut(&mut core.outboxes);
        outbox.push_sealed(&output, &mut core.pool);
        outbox.take_segment(core.now)
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.extras.as_ref()?.tls.as_ref()
    }

    /// From here on the rest of the whole handshake's time counts.
    fn extend_handshake(&mut self, core: &Core) {
        let timeouts = &core.limits.timeouts;
        let rest = timeouts.handshake.0.saturating_sub(timeouts.tls_handshake.0);
        self.deadline = self.deadline.after(Ticks(rest));
    }

    /// TLS has failed; its alert is the last thing that is said.
    fn fail_tls(&mut self, core: &mut Core) {
        if self.phase == Phase::Handshake {
            if self.role == Role::Server {
                core.metrics.count_refusal("tls");
            }
            let error = self.tls().and_then(|tls| tls.error());
            let error = error.map_or_else(String::new, ToString::to_string);
            self.never_open(ConnectError::Tls(error));
        }
        self.end(Close::abnormal(Side::Peer, CloseCause::Tls), core);
        if let Some(outbox) = &mut self.outbox {
            outbox.drop_plaintext(&mut core.pool);
            if outbox.is_empty() {
                outbox.forget_pongs();
                self.return_outbox(core);
            }
        }
        self.drain(core.limits.timeouts.linger, core);
    }
}

//! The bytes of the opening handshake that have come so far.
//!
//! Nearly every head arrives whole and is parsed where it lies. One that was cut is kept here, and
//! only here is a head ever copied; the scanner looks at each byte once, however it was cut.

use std::ops::Range;

use crate::proto::handshake::{HeadScanner, Refusal, Upgrade, UpgradeError};

use super::frames::Input;
use super::opening::Deferred;
use super::{Connection, Core, Phase};

/// The unfinished head of one connection.
#[derive(Debug, Default)]
pub(super) struct HeadInbox {
    bytes: Vec<u8>,
    scanner: HeadScanner,
    /// In the client role: what the answer has to match.
    upgrade: Option<Upgrade>,
    /// The head is dealt with, and the application is about to decide.
    deferred: Option<Deferred>,
}

/// Where a whole head is.
#[derive(Debug)]
pub(crate) enum HeadStatus {
    /// Here in the block: behind a PROXY header, if there was one.
    InBlock(Range<usize>),
    /// Here.
    Collected(Vec<u8>),
}

impl HeadInbox {
    /// Waits for the answer to our own request.
    pub(super) fn for_client(upgrade: Upgrade) -> Self {
        Self { upgrade: Some(upgrade), ..Self::default() }
    }

    /// Waits for the application.
    pub(super) fn deferred(deferred: Deferred) -> Self {
        Self { deferred: Some(deferred), ..Self::default() }
    }

    /// What the application is to decide about.
    pub(super) fn take_deferred(&mut self) -> Option<Deferred> {
        self.deferred.take()
    }

    /// Bytes of memory that the head takes so far.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}

impl Connection {
    /// Adds the input to the head, in the server role. Returns where it is once it is whole.
    pub(crate) fn poll_head(
        &mut self,
        block: &[u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Option<HeadStatus> {
        debug_assert!(self.phase == Phase::Handshake, "a head comes first");
        let received = input.take_rest(block);
        if received.is_empty() {
            // A PROXY header that came alone; the client has said nothing.
            return None;
        }
        let (scanned, total) = match &mut self.head {
            None => {
                let mut scanner = HeadScanner::default();
                let scanned = scanner.scan(received, &core.limits.head);
                if matches!(scanned, Ok(None)) {
                    let bytes = received.to_vec();
                    let head = HeadInbox { bytes, scanner, ..HeadInbox::default() };
                    self.head = Some(Box::new(head));
                }
                (scanned, received.len())
            }
            // The client must wait for the answer before it says more (row HS09).
            Some(head) if head.deferred.is_some() => (Err(Refusal::EarlyBytes), 0),
            Some(head) => {
                head.bytes.extend_from_slice(received);
                (head.scanner.scan(&head.bytes, &core.limits.head), head.bytes.len())
            }
        };
        let refusal = match scanned {
            Ok(None) => return None,
            Ok(Some(head_bytes)) if head_bytes < total => Refusal::EarlyBytes,
            Ok(Some(head_bytes)) => {
                let collected = self.head.take();
                return Some(match collected {
                    None => {
                        let start = input.end() - received.len();
                        HeadStatus::InBlock(start..start + head_bytes)
                    }
                    Some(head) => HeadStatus::Collected(head.bytes),
                });
            }
            Err(refusal) => refusal,
        };
        self.refuse(refusal, core);
        None
    }

    /// Adds the input to the answer, in the client role, and opens the connection once it is
    /// there. Bytes behind it are frames and stay in the input.
    pub(crate) fn poll_answer(&mut self, block: &[u8], input: &mut Input, core: &mut Core) -> bool {
        let Some(head) = &mut self.head else { return false };
        let Some(upgrade) = &mut head.upgrade else { return false };
        let before = head.bytes.len();
        head.bytes.extend_from_slice(input.rest(block));
        match upgrade.parse_response(&head.bytes) {
            Ok(Some(head_bytes)) => {
                input.advance(head_bytes - before);
                let deflate = upgrade.deflate();
                self.head = None;
                self.agree(deflate);
                self.open(core);
                true
            }
            Ok(None) if head.bytes.len() <= core.limits.head.bytes_max() => {
                input.take_rest(block);
                false
            }
            Ok(None) => {
                input.take_rest(block);
                self.never_open(UpgradeError::ResponseTooLong.into());
                false
            }
            Err(error) => {
                input.take_rest(block);
                self.never_open(error.into());
                false
            }
        }
    }
}

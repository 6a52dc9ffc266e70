//! Which frame may follow which: fragmentation (RFC 6455 §5.4) and the size of a message.
//!
//! Knows headers only. The payload, and where it is kept, is `conn::inbox`'s.

use super::{Header, LimitExceeded, Opcode, Violation};

/// What made a connection fail: the peer broke the RFC, or a limit of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer broke the RFC.
    Violation(Violation),
    /// The peer went past a limit.
    Limit(LimitExceeded),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<LimitExceeded> for Failure {
    fn from(limit: LimitExceeded) -> Self {
        Self::Limit(limit)
    }
}

/// Bounds that a header is checked against, before anything is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimits {
    /// Payload bytes of one frame.
    pub(crate) frame_bytes_max: usize,
    /// Payload bytes of a message.
    pub(crate) message_bytes_max: usize,
    /// Fragments without payload in a row.
    pub(crate) empty_fragments_max: u16,
}

/// A message of which the last fragment is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenMessage {
    /// Payload bytes announced so far.
    pub(crate) announced_bytes: usize,
    /// Fragments without payload since the last one with some.
    pub(crate) empty_fragments: u16,
}

/// Checks the header of a data frame against the message that is open, and returns the message
/// with this frame added.
///
/// RFC 6455 §5.4: a continuation needs an open message, anything else must not find one.
pub(crate) fn admit(
    header: &Header,
    open: Option<OpenMessage>,
    limits: SizeLimits,
) -> Result<OpenMessage, Failure> {
    debug_assert!(!header.opcode.is_control(), "control frames stand outside the sequence");
    let before = match (open, header.opcode == Opcode::Continuation) {
        (Some(open), true) => open,
        (None, false) => OpenMessage { announced_bytes: 0, empty_fragments: 0 },
        (None, true) => return Err(Violation::UnexpectedContinuation.into()),
        (Some(_), false) => return Err(Violation::InterruptedMessage.into()),
    };
    // A frame that is too big for the frame limit fails even if the message would fit.
    let payload_bytes = usize::try_from(header.payload_len)
        .ok()
        .filter(|bytes| *bytes <= limits.frame_bytes_max)
        .ok_or(LimitExceeded::FrameTooBig)?;
    let announced_bytes = before
        .announced_bytes
        .checked_add(payload_bytes)
        .filter(|bytes| *bytes <= limits.message_bytes_max)
        .ok_or(LimitExceeded::MessageTooBig)?;
    let empty_fragments = if payload_bytes > 0 || header.fin {
        0
    } else {
        let count = before.empty_fragments.checked_add(1);
        let count = count.filter(|count| *count <= limits.empty_fragments_max);
        count.ok_or(LimitExceeded::TooManyEmptyFragments)?
    };
    Ok(OpenMessage { announced_bytes, empty_fragments })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SizeLimits =
        SizeLimits { frame_bytes_max: 1000, message_bytes_max: 1500, empty_fragments_max: 3 };

    fn header(opcode: Opcode, fin: bool, payload_len: u64) -> Header {
        Header { fin, rsv1: false, opcode, mask: None, payload_len }
    }

    #[test]
    fn fg01_continuation_needs_an_open_message() {
        let orphan = header(Opcode::Continuation, true, 1);
        assert_eq!(admit(&orphan, None, LIMITS), Err(Violation::UnexpectedContinuation.into()));
    }

    #[test]
    fn fg01_new_message_must_not_interrupt_one() {
        let open = admit(&header(Opcode::Text, false, 1), None, LIMITS).ok();
        let second = header(Opcode::Binary, true, 1);
        assert_eq!(admit(&second, open, LIMITS), Err(Violation::InterruptedMessage.into()));
    }

    #[test]
    fn fg02_total_of_fragments_is_bounded() {
        let open = admit(&header(Opcode::Binary, false, 1000), None, LIMITS).ok();
        assert!(admit(&header(Opcode::Continuation, true, 500), open, LIMITS).is_ok());
        assert_eq!(
            admit(&header(Opcode::Continuation, true, 501), open, LIMITS),
            Err(LimitExceeded::MessageTooBig.into())
        );
    }

    #[test]
    fn fr03_length_over_the_limit_fails_at_the_header() {
        for bytes in [1001, 1 << 16, 1 << 31, 1 << 32, (1 << 63) - 1] {
            assert_eq!(
                admit(&header(Opcode::Binary, true, bytes), None, LIMITS),
                Err(LimitExceeded::FrameTooBig.into())
            );
        }
    }

    #[test]
    fn fg04_empty_fragments_in_a_row_are_bounded() {
        let mut open = admit(&header(Opcode::Text, false, 0), None, LIMITS).ok();
        for _ in 0..2 {
            open = admit(&header(Opcode::Continuation, false, 0), open, LIMITS).ok();
        }
        assert!(open.is_some());
        assert_eq!(
            admit(&header(Opcode::Continuation, false, 0), open, LIMITS),
            Err(LimitExceeded::TooManyEmptyFragments.into())
        );
        let most = SizeLimits { empty_fragments_max: u16::MAX, ..LIMITS };
        let full = OpenMessage { announced_bytes: 0, empty_fragments: u16::MAX };
        let fault = admit(&header(Opcode::Continuation, false, 0), Some(full), most);
        assert_eq!(fault, Err(LimitExceeded::TooManyEmptyFragments.into()), "the largest limit");
        let refilled = admit(&header(Opcode::Continuation, false, 1), open, LIMITS).ok();
        assert_eq!(refilled.map(|m| m.empty_fragments), Some(0));
    }
}

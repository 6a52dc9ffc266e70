//! What a peer can do wrong once a connection is open, and the close code each fault earns.
//!
//! Two types, by fault: [`Violation`] when the peer broke the standard, [`LimitExceeded`] when it
//! kept to the standard but not to our limits. Both map to a close code here and nowhere else.
//! Faults of the handshake are not here: they are answered in HTTP, before there is a frame.

use std::error::Error;
use std::fmt;

use super::close::CloseCode;

/// The peer broke RFC 6455. The connection fails with [`close_code`](Self::close_code).
///
/// Nothing can be repaired on this side: after a violation the rest of the stream has no known
/// meaning, so it is discarded. Each is found on the earliest byte that proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// RSV2 or RSV3 was set, or RSV1 where no extension gives it a meaning (RFC 6455 §5.2).
    ReservedBit,
    /// The opcode is one of 0x3-0x7 or 0xB-0xF (RFC 6455 §5.2).
    ReservedOpcode,
    /// A control frame without FIN (RFC 6455 §5.5).
    FragmentedControl,
    /// A control frame with more than 125 payload bytes (RFC 6455 §5.5).
    OversizedControl,
    /// A client sent a frame without a masking key (RFC 6455 §5.1).
    UnmaskedFrame,
    /// A server sent a frame with a masking key (RFC 6455 §5.1).
    MaskedFrame,
    /// The payload length would have fitted a shorter form (RFC 6455 §5.2).
    NonMinimalLength,
    /// The top bit of a 64-bit payload length was set (RFC 6455 §5.2).
    LengthOverflow,
    /// A continuation frame while no message was open (RFC 6455 §5.4).
    UnexpectedContinuation,
    /// A new message began while another was still open (RFC 6455 §5.4).
    InterruptedMessage,
    /// A text message or a close reason is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// A compressed message is not valid DEFLATE data (RFC 7692 §7.2.2).
    MalformedDeflate,
    /// A Close frame with a payload of one byte, half a close code (RFC 6455 §5.5.1).
    TruncatedClose,
    /// A Close frame with a code that must not be sent (RFC 6455 §7.4).
    InvalidCloseCode,
}

impl Violation {
    /// The code of the Close frame that answers this violation: 1007 for text that is not UTF-8
    /// and for compressed data that is no such data, 1002 for all else (RFC 6455 §7.4.1).
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::MalformedDeflate => CloseCode::INVALID_PAYLOAD,
            Self::ReservedBit
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::TruncatedClose
            | Self::InvalidCloseCode => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::OversizedControl => "control frame longer than 125 bytes",
            Self::UnmaskedFrame => "frame of a client without masking key",
            Self::MaskedFrame => "frame of a server with masking key",
            Self::NonMinimalLength => "payload length not in its shortest form",
            Self::LengthOverflow => "payload length above 2^63 - 1",
            Self::UnexpectedContinuation => "continuation without an open message",
            Self::InterruptedMessage => "new message inside an open one",
            Self::InvalidUtf8 => "text that is not UTF-8",
            Self::MalformedDeflate => "compressed data that is not DEFLATE",
            Self::TruncatedClose => "close payload of one byte",
            Self::InvalidCloseCode => "close code that must not be sent",
        })
    }
}

impl Error for Violation {}

/// The peer kept to RFC 6455 but went over a limit of this server.
///
/// The connection is closed with [`close_code`](Self::close_code). Raise the limit named by the
/// variant if such peers are legitimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// The message, all its fragments together, is longer than allowed.
    MessageTooBig,
    /// A single frame is longer than allowed.
    FrameTooBig,
    /// Too many empty fragments of one message in a row.
    TooManyEmptyFragments,
    /// A message was begun and not finished in time.
    MessageTimeout,
    /// More pings and pongs in a time than allowed.
    TooManyControlFrames,
    /// More messages or bytes in a second than allowed.
    RateExceeded,
    /// The peer reads too slowly: more is queued for it than allowed.
    SendQueueFull,
    /// The memory of the server is nearly used up, and this connection holds much of it.
    MemoryScarce,
}

impl LimitExceeded {
    /// The code of the Close frame that tells the peer: 1009 for sizes, 1013 for a full send
    /// queue and for scarce memory, 1008 for all else (RFC 6455 §7.4.1 and the IANA registry of close codes).
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::MessageTooBig | Self::FrameTooBig => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyEmptyFragments
            | Self::MessageTimeout
            | Self::TooManyControlFrames
            | Self::RateExceeded => CloseCode::POLICY_VIOLATION,
            Self::SendQueueFull | Self::MemoryScarce => CloseCode::TRY_AGAIN_LATER,
        }
    }
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageTooBig => "message too big",
            Self::FrameTooBig => "frame too big",
            Self::TooManyEmptyFragments => "too many empty fragments in a row",
            Self::MessageTimeout => "message not finished in time",
            Self::TooManyControlFrames => "too many control frames",
            Self::RateExceeded => "too many messages or bytes in a second",
            Self::SendQueueFull => "send queue full",
            Self::MemoryScarce => "memory is scarce",
        })
    }
}

impl Error for LimitExceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_of_the_data_closes_with_1007_and_of_the_frame_with_1002() {
        assert_eq!(Violation::MalformedDeflate.close_code().as_u16(), 1007);
        assert_eq!(Violation::InvalidUtf8.close_code().as_u16(), 1007);
        for violation in [
            Violation::ReservedBit,
            Violation::ReservedOpcode,
            Violation::FragmentedControl,
            Violation::OversizedControl,
            Violation::UnmaskedFrame,
            Violation::MaskedFrame,
            Violation::NonMinimalLength,
            Violation::LengthOverflow,
            Violation::UnexpectedContinuation,
            Violation::InterruptedMessage,
            Violation::TruncatedClose,
            Violation::InvalidCloseCode,
        ] {
            assert_eq!(violation.close_code().as_u16(), 1002, "{violation}");
        }
    }

    #[test]
    fn limit_closes_with_the_code_of_its_kind() {
        for (limit, code) in [
            (LimitExceeded::MessageTooBig, 1009),
            (LimitExceeded::FrameTooBig, 1009),
            (LimitExceeded::TooManyEmptyFragments, 1008),
            (LimitExceeded::MessageTimeout, 1008),
            (LimitExceeded::TooManyControlFrames, 1008),
            (LimitExceeded::SendQueueFull, 1013),
        ] {
            assert_eq!(limit.close_code().as_u16(), code, "{limit}");
        }
    }
}

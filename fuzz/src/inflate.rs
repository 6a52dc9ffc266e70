//! Compressed messages read by another implementation, `miniz_oxide`.

use miniz_oxide::MZFlush;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZStatus};

/// What a sender takes off the end of each message (RFC 7692 §7.2.1).
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Inflates messages, one after the other, at most so much of each.
#[derive(Default)]
pub struct Other {
    /// Made for the first message: most connections have none.
    state: Option<Box<InflateState>>,
}

/// What the other implementation makes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Whole(Vec<u8>),
    /// More than the bound.
    TooMuch,
    /// No such data; what came before is not lost.
    Malformed(Vec<u8>),
}

impl Other {
    /// Forgets all before.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Reads a message, which lacks its tail. A block with BFINAL ends a stream, and what follows
    /// it begins another (RFC 7692 §7.2.3.4).
    pub fn message(&mut self, payload: &[u8], bytes_max: usize) -> Read {
        let input = [payload, &TAIL].concat();
        let mut rest = &input[..];
        let mut out = Vec::new();
        // With less room, what came before a fault would be lost.
        let mut room = vec![0; bytes_max.saturating_add(1).min(1 << 20)];
        loop {
            let new = || InflateState::new_boxed(DataFormat::Raw);
            let state = self.state.get_or_insert_with(new);
            let result = inflate(state, rest, &mut room, MZFlush::None);
            out.extend_from_slice(&room[..result.bytes_written]);
            rest = &rest[result.bytes_consumed..];
            if out.len() > bytes_max {
                return Read::TooMuch;
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.reset();
                    if rest.is_empty() {
                        return Read::Whole(out);
                    }
                }
                Ok(_) if result.bytes_written == room.len() || !rest.is_empty() => {}
                Ok(_) | Err(MZError::Buf) => return Read::Whole(out),
                Err(_) => return Read::Malformed(out),
            }
        }
    }
}

//! What stands before each message at the broker: who has sent it, and which of theirs it is.
//!
//! ```text
//!  0        1     2        10       18       26             30
//!  version  kind  node     base     number   age in ms      payload
//!  1        1     8 bytes  8 bytes  8 bytes  4 bytes
//! ```
//!
//! Numbers are big-endian. Each node numbers its messages to each topic; `base` is the number of the
//! first one it has counted, `age` the time since then.

use longwire::MessageKind;

pub(super) const HEADER_BYTES: usize = 30;
const VERSION: u8 = 1;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saying {
    Message(MessageKind),
    /// The number that the next message will have: who has not heard the one before has missed it.
    Mark,
    /// A node was away: it asks for marks, and who is there.
    Ask,
    /// An answer to it.
    Here,
}

/// The position of a message among those of its node to its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: u64,
    pub(super) number: u64,
    pub(super) age_millis: u32,
}

/// INVARIANT: `place.base <= place.number`, which is far from overflowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) saying: Saying,
    pub(super) node: u64,
    pub(super) place: Place,
}

impl Envelope {
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = match self.saying {
            Saying::Message(MessageKind::Binary) => 0,
            Saying::Message(MessageKind::Text) => 1,
            Saying::Mark => 2,
            Saying::Ask => 3,
            Saying::Here => 4,
        };
        bytes[2..10].copy_from_slice(&self.node.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.place.base.to_be_bytes());
        bytes[18..26].copy_from_slice(&self.place.number.to_be_bytes());
        bytes[26..30].copy_from_slice(&self.place.age_millis.to_be_bytes());
        bytes
    }

    /// What has come, and its payload; `None` if no node of this version has sent it.
    pub(super) fn open(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        if header[0] != VERSION {
            return None;
        }
        let saying = match header[1] {
            0 => Saying::Message(MessageKind::Binary),
            1 => Saying::Message(MessageKind::Text),
            2 => Saying::Mark,
            3 => Saying::Ask,
            4 => Saying::Here,
            _ => return None,
        };
        let word = |at: usize| {
            u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes were cut out"))
        };
        let age = header[26..30].try_into().expect("four bytes were cut out");
        let place = Place { base: word(10), number: word(18), age_millis: u32::from_be_bytes(age) };
        let is_sound = place.base <= place.number && place.number <= u64::MAX / 2;
        is_sound.then_some((Self { saying, node: word(2), place }, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_is_read_as_it_was_written() {
        for saying in [
            Saying::Message(MessageKind::Text),
            Saying::Message(MessageKind::Binary),
            Saying::Mark,
            Saying::Ask,
            Saying::Here,
        ] {
            let place = Place { base: 7, number: u64::MAX / 2, age_millis: u32::MAX };
            let envelope = Envelope { saying, node: u64::MAX - 1, place };
            let mut bytes = envelope.header().to_vec();
            bytes.extend_from_slice(b"payload");
            assert_eq!(Envelope::open(&bytes), Some((envelope, &b"payload"[..])));
        }
    }

    #[test]
    fn what_no_node_has_sent_is_no_envelope() {
        let place = Place { base: 1, number: 2, age_millis: 3 };
        let good = Envelope { saying: Saying::Mark, node: 4, place }.header();
        for (at, byte) in [(0, 0), (0, 2), (1, 5), (10, 1), (18, 0x80)] {
            let mut bytes = good;
            bytes[at] = byte;
            assert_eq!(Envelope::open(&bytes), None, "{at}");
        }
        for cut in 0..HEADER_BYTES {
            assert_eq!(Envelope::open(&good[..cut]), None);
        }
    }
}

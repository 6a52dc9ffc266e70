//! What the messages of the tests carry: who sent them, as which, what the application shall do
//! with them, and a filling that no two messages have at the same place.
//!
//! ```text
//! 004 000017 e ......filling......      peer 4, its 17th message, to be echoed
//! ```

use std::sync::LazyLock;

use crate::conn::MessageKind;

/// Bytes in front of the filling. A payload may be shorter; then it is a run of one letter.
pub(super) const PREFIX_BYTES: usize = 10;

/// Bytes of the filling of the longest message, and of where it may begin.
const FILLING_BYTES: usize = 320 * 1024;
const OFFSETS: usize = 4096;

/// What the application does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send it back as it lies.
    Echo,
    /// Send a copy of it.
    Copy,
    /// Send a copy, then send it back as it lies.
    Twice,
    /// Send a note of its own, then send it back as it lies.
    Note,
    /// Nothing.
    Keep,
    /// Send it back, then close with the code `4000 + sequence % 100`.
    Close,
    /// Panic.
    Panic,
    /// Send copies until the queue is full.
    Burst,
}

impl Command {
    const ALL: [(u8, Self); 8] = [
        (b'e', Self::Echo),
        (b'c', Self::Copy),
        (b't', Self::Twice),
        (b'n', Self::Note),
        (b'k', Self::Keep),
        (b'x', Self::Close),
        (b'p', Self::Panic),
        (b'b', Self::Burst),
    ];

    fn letter(self) -> u8 {
        let found = Self::ALL.iter().find(|(_, command)| *command == self);
        found.expect("every command has a letter").0
    }
}

/// A message without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) kind: MessageKind,
    pub(super) peer: usize,
    pub(super) sequence: usize,
    pub(super) command: Command,
    pub(super) len: usize,
}

impl Spec {
    /// The payload.
    pub(super) fn bytes(&self) -> Vec<u8> {
        if self.len < PREFIX_BYTES {
            return vec![letter(self.peer); self.len];
        }
        let mut bytes = prefix(self.peer, self.sequence, self.command.letter()).to_vec();
        bytes.extend_from_slice(self.filling(self.len - PREFIX_BYTES));
        self.cut_characters(&mut bytes);
        bytes
    }

    /// Whether these are the bytes, without making them.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        if bytes.len() != self.len {
            return false;
        }
        if self.len < PREFIX_BYTES {
            return bytes.iter().all(|&byte| byte == letter(self.peer));
        }
        let (head, body) = bytes.split_at(PREFIX_BYTES);
        let whole = body.len().saturating_sub(self.tail_bytes());
        head == prefix(self.peer, self.sequence, self.command.letter())
            && body[..whole] == self.filling(body.len())[..whole]
            && body[whole..].iter().all(|&byte| byte == b'.')
    }

    fn filling(&self, len: usize) -> &'static [u8] {
        let offset = (self.peer % 1000 * 769 + self.sequence * 31) % OFFSETS;
        match self.kind {
            MessageKind::Binary => &BINARY[offset..offset + len],
            // Characters of the text begin at multiples of ten.
            MessageKind::Text => &TEXT[offset * 10..offset * 10 + len],
        }
    }

    /// Bytes at the end of a text that would be part of a character.
    fn tail_bytes(&self) -> usize {
        match self.kind {
            MessageKind::Binary => 0,
            MessageKind::Text => (self.len - PREFIX_BYTES) % 10,
        }
    }

    fn cut_characters(&self, bytes: &mut [u8]) {
        let whole = bytes.len() - self.tail_bytes();
        bytes[whole..].fill(b'.');
    }
}

/// What a payload says about itself; none if it is too short to say anything.
pub(super) fn read(bytes: &[u8]) -> Option<(usize, usize, Command)> {
    let prefix = bytes.get(..PREFIX_BYTES)?;
    let digits = |range: std::ops::Range<usize>| str::from_utf8(&prefix[range]).ok()?.parse().ok();
    let (_, command) = *Command::ALL.iter().find(|(letter, _)| *letter == prefix[9])?;
    Some((digits(0..3)?, digits(3..9)?, command))
}

/// The note the application sends of its own accord.
pub(super) fn note(peer: usize, sequence: usize) -> Vec<u8> {
    prefix(peer, sequence, b'!').to_vec()
}

/// The letter of a peer: what short payloads consist of.
pub(super) fn letter(peer: usize) -> u8 {
    b'A' + u8::try_from(peer % 26).unwrap_or(0)
}

fn prefix(peer: usize, sequence: usize, letter: u8) -> [u8; PREFIX_BYTES] {
    let mut prefix = [letter; PREFIX_BYTES];
    let mut number = peer % 1000 * 1_000_000 + sequence % 1_000_000;
    for place in prefix[..9].iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    prefix
}

static BINARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| rng.u8(..)).take(FILLING_BYTES + OFFSETS).collect()
});

/// Characters of one to four bytes, ten bytes a group, in an order of its own in every group.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut text = String::new();
    while text.len() < FILLING_BYTES + OFFSETS * 10 {
        let mut group = [
            char::from(rng.u8(b'a'..=b'z')),
            char::from_u32(rng.u32(0xE0..0xFF)).unwrap_or('x'),
            char::from_u32(rng.u32(0x3041..0x3090)).unwrap_or('x'),
            char::from_u32(rng.u32(0x1F300..0x1F500)).unwrap_or('x'),
        ];
        rng.shuffle(&mut group);
        text.extend(group);
    }
    text.into_bytes()
});

#[test]
fn payload_is_what_its_spec_says() {
    let mut rng = fastrand::Rng::with_seed(3);
    for sequence in 0..200 {
        let kind = if sequence % 2 == 0 { MessageKind::Text } else { MessageKind::Binary };
        let len = rng.usize(0..3000);
        let spec = Spec { kind, peer: sequence % 7, sequence, command: Command::Note, len };
        let mut bytes = spec.bytes();
        assert!(spec.matches(&bytes));
        assert!(kind == MessageKind::Binary || str::from_utf8(&bytes).is_ok());
        if len >= PREFIX_BYTES {
            assert_eq!(read(&bytes), Some((sequence % 7, sequence, Command::Note)));
        }
        if len > 0 {
            bytes[rng.usize(0..len)] ^= 1;
            assert!(!spec.matches(&bytes), "one wrong bit is seen");
        }
    }
}

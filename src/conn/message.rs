//! A received message as the application sees it, still lying where it was received.

use std::fmt;

use crate::proto::Opcode;

/// What the payload of a message is (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text. What was received has been checked.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The kind that the opcode of a first fragment announces.
    pub(crate) fn of(opcode: Opcode) -> Self {
        if opcode == Opcode::Text { Self::Text } else { Self::Binary }
    }

    /// The opcode of a message of this kind.
    pub(crate) fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// Whose memory a payload lies in, which decides how a reply can reuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The receive block that is being worked through.
    Received,
    /// The block in which a message was collected.
    Collected,
}

/// A received message. Valid for the call; copy what must outlive it, or
/// [`echo`](crate::Conn::echo) it without copying anything.
pub struct Message<'a> {
    kind: MessageKind,
    /// The block up to the end of the payload.
    memory: &'a mut [u8],
    payload_start: usize,
    source: Source,
}

impl<'a> Message<'a> {
    pub(crate) fn new(
        kind: MessageKind,
        memory: &'a mut [u8],
        payload_start: usize,
        source: Source,
    ) -> Self {
        Self { kind, memory, payload_start, source }
    }

    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload: whole, unmasked, and valid UTF-8 if the message is text.
    pub fn payload(&self) -> &[u8] {
        &self.memory[self.payload_start..]
    }

    /// The payload as text, or `None` if the message is binary.
    pub fn text(&self) -> Option<&str> {
        match self.kind {
            // The bytes were checked on their way in. Checking again costs little beside what an
            // application does with text, and keeps this free of `unsafe`.
            MessageKind::Text => simdutf8::basic::from_utf8(self.payload()).ok(),
            MessageKind::Binary => None,
        }
    }

    pub(crate) fn into_parts(self) -> (MessageKind, InPlace<'a>) {
        let Self { kind, memory, payload_start, source } = self;
        (kind, InPlace { memory, payload_start, source })
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("bytes", &self.payload().len())
            .finish()
    }
}

/// A payload that may be sent from where it lies.
#[derive(Debug)]
pub(crate) struct InPlace<'a> {
    /// The block up to the end of the payload.
    pub(crate) memory: &'a mut [u8],
    /// Where the payload begins.
    pub(crate) payload_start: usize,
    /// Whose memory this is.
    pub(crate) source: Source,
}

impl InPlace<'_> {
    /// The payload.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.memory[self.payload_start..]
    }
}

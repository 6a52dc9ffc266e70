//! What an application sends.

use crate::conn::{Message, MessageKind};

/// A message to send: text is made of strings, binary of bytes, and a received [`Message`] stays what
/// it is.
///
/// ```
/// # use longwire::Payload;
/// let text: Payload<'_> = "hello".into();
/// let binary: Payload<'_> = (&[0u8, 1, 2]).into();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    pub(crate) kind: MessageKind,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn binary(bytes: &'a [u8]) -> Self {
        Self { kind: MessageKind::Binary, bytes }
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self { kind: MessageKind::Text, bytes: text.as_bytes() }
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl<'a> From<&'a Message<'_>> for Payload<'a> {
    fn from(message: &'a Message<'_>) -> Self {
        Self { kind: message.kind(), bytes: message.payload() }
    }
}

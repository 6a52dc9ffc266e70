//! What a peer can do wrong once TLS 1.3 is established, and how it is told so.

use rustls::{AlertDescription, Error, InvalidMessage, PeerMisbehaved};

/// Why TLS has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A record that was not made with the key.
    BadRecordMac,
    /// A record larger than any may be.
    RecordOverflow,
    /// What must not come now, or not at all.
    UnexpectedMessage,
    /// So many records without data in a row that nothing but work can be meant.
    Flood,
    /// A message of another form than it must have.
    DecodeError,
    /// A value that a KeyUpdate must not have.
    IllegalParameter,
    /// The peer has failed, and said why.
    Alert(u8),
    /// What cannot be.
    Internal,
}

impl Fault {
    /// What the peer is told. Its own alert is not answered (RFC 8446 §6.2).
    pub(super) fn alert(self) -> Option<AlertDescription> {
        Some(match self {
            Self::BadRecordMac => AlertDescription::BadRecordMac,
            Self::RecordOverflow => AlertDescription::RecordOverflow,
            Self::UnexpectedMessage | Self::Flood => AlertDescription::UnexpectedMessage,
            Self::DecodeError => AlertDescription::DecodeError,
            Self::IllegalParameter => AlertDescription::IllegalParameter,
            Self::Internal => AlertDescription::InternalError,
            Self::Alert(_) => return None,
        })
    }

    /// The same in the words that are used for failures of the handshake.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::BadRecordMac => Error::DecryptError,
            Self::RecordOverflow => Error::PeerSentOversizedRecord,
            Self::UnexpectedMessage => {
                InvalidMessage::UnexpectedMessage("after the handshake").into()
            }
            Self::Flood => PeerMisbehaved::TooManyKeyUpdateRequests.into(),
            Self::DecodeError => InvalidMessage::MessageTooShort.into(),
            Self::IllegalParameter => InvalidMessage::InvalidKeyUpdate.into(),
            Self::Alert(description) => Error::AlertReceived(description.into()),
            Self::Internal => Error::General("the record layer cannot go on".to_owned()),
        }
    }
}

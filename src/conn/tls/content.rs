//! What records bring once TLS 1.3 is established: data, alerts, KeyUpdates, tickets; and all that
//! must not come.
//!
//! A peer can make us work without saying anything: by records without data, and by updates of its
//! key. Only so many of them are taken in a row.

use rustls::AlertDescription;

use super::fault::Fault;
use super::record::{ALERT, APPLICATION_DATA, HANDSHAKE, RecordKey};
use super::traffic::{Secrets, Traffic};

/// Types of handshake messages (RFC 8446 §4).
const NEW_SESSION_TICKET: u8 = 4;
pub(super) const KEY_UPDATE: u8 = 24;
/// Largest ticket that is taken; rustls takes no larger message either.
const TICKET_BYTES_MAX: usize = 0xffff;
/// Records in a row that may bring no data (row TL03).
const DATALESS_RECORDS_MAX: u8 = 32;

/// What a record has brought.
pub(super) enum Content {
    Data,
    Other,
    CloseNotify,
}

impl Traffic {
    /// A record was opened that has this content.
    pub(super) fn handle_content(
        &mut self,
        content_type: u8,
        content: &[u8],
    ) -> Result<Content, Fault> {
        // RFC 8446 §5.1: no other record stands between those of one message.
        if content_type != HANDSHAKE && !self.message.is_empty() {
            return Err(Fault::UnexpectedMessage);
        }
        if content_type == APPLICATION_DATA && !content.is_empty() {
            self.dataless_count = 0;
            return Ok(Content::Data);
        }
        self.dataless_count += 1;
        if self.dataless_count > DATALESS_RECORDS_MAX {
            return Err(Fault::Flood);
        }
        match (content_type, content) {
            (APPLICATION_DATA, _) => Ok(Content::Other),
            // RFC 8446 §5.4: only data may be empty.
            (ALERT | HANDSHAKE, []) => Err(Fault::UnexpectedMessage),
            (HANDSHAKE, _) => self.handle_handshake(content).map(|()| Content::Other),
            // RFC 8446 §6: the level tells nothing that the description does not.
            (ALERT, &[_, description]) => match description.into() {
                AlertDescription::CloseNotify => Ok(Content::CloseNotify),
                AlertDescription::UserCanceled => Ok(Content::Other),
                _ => Err(Fault::Alert(description)),
            },
            (ALERT, _) => Err(Fault::DecodeError),
            _ => Err(Fault::UnexpectedMessage),
        }
    }

    /// Messages may share a record or span several (RFC 8446 §5.1).
    fn handle_handshake(&mut self, content: &[u8]) -> Result<(), Fault> {
        let mut messages = std::mem::take(&mut self.message);
        messages.extend_from_slice(content);
        let mut rest = &messages[..];
        while let Some(&message_type) = rest.first() {
            let bytes_max = match (message_type, &self.secrets) {
                (KEY_UPDATE, _) => 1,
                (NEW_SESSION_TICKET, Secrets::Client(_)) => TICKET_BYTES_MAX,
                _ => return Err(Fault::UnexpectedMessage),
            };
            let Some((&[_, high, middle, low], body)) = rest.split_first_chunk() else { break };
            let body_bytes = u32::from_be_bytes([0, high, middle, low]) as usize;
            if body_bytes > bytes_max {
                return Err(Fault::DecodeError);
            }
            let Some((body, behind)) = body.split_at_checked(body_bytes) else { break };
            rest = behind;
            match &mut self.secrets {
                Secrets::Client(kernel) if message_type == NEW_SESSION_TICKET => {
                    kernel.handle_new_session_ticket(body).map_err(|_| Fault::DecodeError)?;
                }
                Secrets::Client(_) | Secrets::Server(_) => {
                    self.handle_key_update(body, rest.is_empty())?;
                }
            }
        }
        let used = messages.len() - rest.len();
        if used < messages.len() {
            messages.drain(..used);
            self.message = messages;
        }
        Ok(())
    }

    fn handle_key_update(&mut self, body: &[u8], ends_record: bool) -> Result<(), Fault> {
        let &[request] = body else { return Err(Fault::DecodeError) };
        // RFC 8446 §5.1: what follows is protected by another key, so nothing may follow here.
        if !ends_record {
            return Err(Fault::UnexpectedMessage);
        }
        match request {
            0 => {}
            1 => self.update_due = true,
            _ => return Err(Fault::IllegalParameter),
        }
        let next = match &mut self.secrets {
            Secrets::Server(kernel) => kernel.update_rx_secret(),
            Secrets::Client(kernel) => kernel.update_rx_secret(),
        };
        self.opener = next.ok().and_then(RecordKey::new).ok_or(Fault::Internal)?;
        Ok(())
    }
}
